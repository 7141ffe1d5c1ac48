"""A training, as a function of the transformation, run for every lane of a batch in one program."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from .._batch import batch_axes
from .._core.data import PyTreeNode
from .._types import PyTree
from .lanes import Grid, batch_of
from .plan import Plan, fetch

How: TypeAlias = Literal["vmap", "map"]
SEED, LANE = Plan.axes


class SweepResults(dict[str, np.ndarray]):
    """Arrays by name, each of which leads with the axes of the sweep.

    Attributes:
        coords: The values along these axes, in order: `seed` if there are seeds, then a grid's labels, else `lane`.
    """

    coords: dict[str, np.ndarray]

    def __init__(self, arrays: Mapping[str, np.ndarray], coords: Mapping[str, np.ndarray]) -> None:
        super().__init__(arrays)
        self.coords = dict(coords)

    def to_xarray(self, dims: Mapping[str, Sequence[str]] | None = None) -> Any:
        """The same as an `xarray.Dataset`, with the axes by name and their values as coordinates.

        Args:
            dims: Names for the further axes of a result, `{"losses": ["step"]}`; where there are none they are called
                `losses_0`, `losses_1`.

        Raises:
            ImportError: if xarray is not installed.
            ValueError: if a result has the name of an axis, or another number of axes than names.
        """
        try:
            import xarray
        except ImportError as error:
            raise ImportError("to_xarray needs xarray, which gradtx does not install: pip install xarray") from error
        found = {}
        for name, array in self.items():
            if name in self.coords:
                raise ValueError(f"to_xarray: `{name}` is a result and an axis of the sweep; call one by another name")
            own = array.ndim - len(self.coords)
            names = (dims or {}).get(name, [f"{name}_{i}" for i in range(own)])
            if len(names) != own:
                raise ValueError(f"to_xarray: `{name}` has {own} further axes, got the names {list(names)}")
            found[name] = ((*self.coords, *names), array)
        return xarray.Dataset(found, coords=self.coords)

    def __repr__(self) -> str:
        axes = ", ".join(f"{name} {len(values)}" for name, values in self.coords.items())
        return f"SweepResults({', '.join(f'{name} {array.shape}' for name, array in self.items())}; over {axes})"

    def __reduce__(self) -> tuple[Any, ...]:
        return SweepResults, (dict(self), self.coords)


def sweep(
    train: Callable[..., PyTree],
    txs: PyTreeNode | Grid,
    *args: PyTree,
    how: How = "vmap",
    seeds: int | Sequence[int] | None = None,
    devices: Sequence[Any] | None = None,
) -> SweepResults:
    """Train with every lane of a batch, in one program.

        def train(tx, images, labels): ...                    # a pure function; returns {"loss": ..., "accuracy": ...}

        lanes = gradtx.grid(gradtx.adam, learning_rate=[0.001, 0.01, 0.1], b1=[0.5, 0.9])
        results = gradtx.sweep(train, lanes, images, labels)
        results["loss"]                                       # (3, 2, ...)

    A lane that overflows fills its own results with inf and NaN, and leaves the others alone. The program is kept:
    another call with the same function, the same kind of batch and as many lanes compiles nothing.

    Args:
        train: A pure function of one transformation, and of what follows. It returns a tree of arrays, whose names in
            the results are their paths in it; a single array is called "value".
        txs: A batch: what `grid` or `stack` returned, or a transformation made with arrays.
        args: What all lanes share: trees of arrays, and numbers. What is no array is bound in the function:
            `functools.partial(train, model=model)`.
        how: "vmap" trains the lanes of a device side by side, "map" one after the other, in the memory of one. Small
            models and accelerators want "vmap"; on a CPU, "map" is quicker for all but small ones.
        seeds: Numbers, or how many (0, 1, ...). Then every lane is trained with every seed, and `train(tx, key, *args)`
            gets `jax.random.key(seed)`, the same one in every lane, so that lanes differ by their numbers alone.
        devices: Each takes a part of the lanes. All there are by default.

    Raises:
        ValueError: if nothing is a batch, two batches differ in length, `how` is another word, `seeds` are not whole
            numbers from 0 to 2**32 - 1, or a grid has an axis `seed` beside them.
        TypeError: if `txs` is not a transformation of gradtx, `train` has no hash or is not callable, or `args` or what
            `train` returns are not arrays.
    """
    labels = txs.labels if isinstance(txs, Grid) else None
    batch, count = batch_of("sweep", txs)
    numbers = None if seeds is None else _numbers(seeds)
    coords = {LANE: np.arange(count)} if labels is None else labels
    if numbers is not None:
        if SEED in coords:
            raise ValueError(
                f"sweep: the grid has an axis `{SEED}`, which is the name of that of `seeds`, too; give it another name"
            )
        coords = {SEED: numbers, **coords}
    found = run("sweep", train, batch, count, (), args, how, numbers, devices)
    for name, leaf in _named(found).items():
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            raise TypeError(f"sweep: `{name}` is a random key; return jax.random.key_data(key)")
    found = fetch(found)
    shape = tuple(map(len, coords.values()))
    lead = 1 if numbers is None else 2
    return SweepResults(
        {name: np.asarray(leaf).reshape(*shape, *leaf.shape[lead:]) for name, leaf in _named(found).items()}, coords
    )


def run(
    owner: str,
    train: object,
    txs: PyTreeNode,
    count: int,
    carry: tuple[PyTree, ...],
    args: tuple[PyTree, ...],
    how: str,
    seeds: np.ndarray | None,
    devices: Sequence[Any] | None,
) -> PyTree:
    """`train(tx, [key,] *carry, *args)` of all lanes; the results lead with the seeds, if there are any, and the lanes.

    Args:
        owner: Who speaks in messages.
        train: What to run.
        txs: A batch.
        count: Its lanes.
        carry: Trees of arrays that lead with the lanes.
        args: What all lanes share.
        how: As in `sweep`.
        seeds: For each, the number that its key is made of.
        devices: As in `sweep`.
    """
    if how not in ("vmap", "map"):
        raise ValueError(f"{owner}: `how` must be 'vmap' or 'map', got {how!r}")
    if not callable(train):
        raise TypeError(f"{owner} takes a function of one transformation first, got {train!r} ({type(train).__name__})")
    try:
        hash(train)
    except TypeError as error:
        raise TypeError(
            f"{owner}: {train!r} has no hash, by which its program is kept; give a function that calls it"
        ) from error
    for i, arg in enumerate(args):
        for path, leaf in jax.tree.leaves_with_path(arg):
            if not (hasattr(leaf, "dtype") or isinstance(leaf, (bool, int, float, complex))):
                raise TypeError(
                    f"{owner}: argument {i + 1}{jax.tree_util.keystr(path)} of `train` is no array but {leaf!r} "
                    f"({type(leaf).__name__}); bind it in the function: functools.partial(train, name=value)"
                )
    plan = Plan.of(how, 1 if seeds is None else len(seeds), count, devices=devices or ())
    numbers = np.pad(np.zeros(1, np.uint32) if seeds is None else seeds, (0, plan.height - plan.seeds), "edge")
    rows = np.minimum(np.arange(plan.width), count - 1)  # the last lane is repeated where devices have more room
    axes = batch_axes(txs)
    batched = jax.tree.map(lambda axis, leaf: None if axis is None else leaf, axes, txs, is_leaf=_is_none)
    shared = jax.tree.map(lambda axis, leaf: leaf if axis is None else None, axes, txs, is_leaf=_is_none)
    lanes = (batched, carry) if plan.width == count else jax.tree.map(lambda leaf: leaf[rows], (batched, carry))
    program = _program(owner, train, plan, seeds is not None)
    # Python floats stay such, so that the shared numbers are weak in types as they are in a call of one's own.
    found = program(
        plan.put(lanes, LANE), plan.put(plan.wanted, *plan.axes), plan.put(numbers, SEED), shared, plan.put(args)
    )
    found = found if plan.wanted.all() else plan.cropped(found)
    return found if seeds is not None else jax.tree.map(lambda leaf: leaf[0], found)


@functools.lru_cache(maxsize=32)
def _program(owner: str, train: Callable[..., PyTree], plan: Plan, with_key: bool) -> Callable[..., PyTree]:
    """The compiled function of all lanes. Few are kept, as each holds on to all that `train` closes over."""

    def block(lanes: PyTree, wanted: jax.Array, seeds: jax.Array, shared: PyTree, args: tuple[PyTree, ...]) -> PyTree:
        def of_seed(seed: jax.Array, wanted: jax.Array) -> PyTree:
            # The lanes of a seed share its key, which is no argument of the inner map: so what is drawn with it is
            # drawn once for all lanes side by side.
            key = (jax.random.key(seed),) if with_key else ()

            def of_lane(lane: tuple[PyTree, PyTree], wanted: jax.Array) -> PyTree:
                batched, carry = lane
                tx = jax.tree.map(lambda own, common: common if own is None else own, batched, shared, is_leaf=_is_none)
                call = functools.partial(_arrays, owner, train, tx, *key, *carry, *args)
                if plan.mode == "vmap" or plan.mesh.size == 1:
                    return call()
                blank = jax.eval_shape(call)  # of padding, which in turn costs nothing
                return jax.lax.cond(wanted, call, lambda: jax.tree.map(jnp.zeros_like, blank))

            return plan.each(of_lane)(lanes, wanted)

        return plan.each(of_seed)(seeds, wanted)

    # On one device without `shard_map`, inside of which `train` could use no mesh of its own.
    spread = plan.spread(block, LANE, plan.axes, SEED, None, None) if plan.mesh.size > 1 else block
    return jax.jit(spread)


def _arrays(owner: str, train: Callable[..., PyTree], *args: PyTree) -> PyTree:
    """What `train` returns, as arrays. Raises TypeError where it is something else."""
    found = train(*args)
    leaves = jax.tree.leaves_with_path(found)
    for path, leaf in leaves:
        if not (hasattr(leaf, "dtype") or isinstance(leaf, (bool, int, float, complex))):
            place = jax.tree_util.keystr(path) or "its root"
            raise TypeError(
                f"{owner}: what `train` returns must be a tree of arrays; at {place} it has {leaf!r} "
                f"({type(leaf).__name__})"
            )
    if not leaves:
        raise TypeError(f"{owner}: `train` returns no array, but {found!r}; return what is to be compared, a loss say")
    return jax.tree.map(jnp.asarray, found)


def _is_none(leaf: object) -> bool:
    return leaf is None


def _named(tree: PyTree) -> dict[str, Any]:
    return {
        jax.tree_util.keystr(path, simple=True, separator=".") or "value": leaf
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def _numbers(seeds: int | Sequence[int]) -> np.ndarray:
    numbers = np.asarray(range(seeds) if isinstance(seeds, (int, np.integer)) else seeds)
    if numbers.ndim != 1 or not numbers.size or numbers.dtype.kind not in "iu" or numbers.min() < 0:
        raise ValueError(f"sweep: `seeds` must be a number >= 1 or several whole numbers >= 0, got {seeds!r}")
    if numbers.max() >= 2**32:
        raise ValueError(f"sweep: `seeds` must be below 2**32, got {numbers.max()}")
    return numbers.astype(np.uint32)
