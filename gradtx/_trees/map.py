"""The one checked map: maths on one array, lifted to trees.

A kernel is a module-level function of arrays whose parameters are the names of the trees and numbers it is given.
`map_leaves` runs it on each leaf under `jax.jit`, so that JAX traces it once per shape and not once per leaf, and so
that an update which nobody jitted is a handful of compiled calls. Around the kernel, and in no other place:

- half-precision leaves are widened to float32, and each output is cast back to the dtype of the leaf it replaces;
- numbers become the kernel's *real* dtype before any arithmetic (so that 1 - b2 has the right precision);
- structures and shapes are compared (`checks.py`). Nothing broadcasts.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from .._types import Params, PyTree
from .checks import Kind, aligned, check_rank, check_real, checked_leaves
from .gate import evaluate, gate_of, is_state
from .precision import compute_dtype, in_precision, kernel_dtype, real_dtype, scalar

Kernel = Callable[..., Any]
Flags = tuple[tuple[str, Any], ...]

_STATIC = (bool, int, str, tuple, type(None))


def map_leaves(
    kernel: Kernel,
    trees: Mapping[str, PyTree],
    /,
    *,
    reads: Mapping[str, PyTree] | None = None,
    optional: str | None = None,
    **numbers: ArrayLike | str | tuple[int, ...] | None,
) -> Any:
    """Replace the leaves of `trees` by what `kernel` makes of them.

        updates, mu = map_leaves(_lion, {"updates": updates, "mu": state.mu}, b1=self.b1, b2=self.b2)

    Args:
        kernel: A module-level function of one leaf of each tree and of the numbers, by their names. It returns the
            new leaf of each of `trees`, in order (a bare array for one tree).
        trees: What is replaced: the updates, then the state that belongs to them. Messages use the names.
        reads: Trees that the kernel only reads (params).
        optional: The tree that may hold `None` where the others have a leaf; default: the first. There, all trees
            keep what they have: a parameter without a gradient keeps its state.
        numbers: Hyperparameters and once-per-step values, of rank 0. Bools, integers, strings, tuples (of axes) and
            `None` are static.

    Returns:
        A tuple of the new trees, or the bare tree where there is one.

    Raises:
        ValueError: if structures or shapes differ; the path, what was expected and what came are named. Or if a
            number is an array of several.
        TypeError: if a leaf is not floating or complex, or not an array.
    """
    everything = {**trees, **(reads or {})}
    names, width = tuple(everything), len(trees)
    if optional not in (None, *names):
        raise ValueError(f"map_leaves: optional={optional!r} is none of the trees, which are {', '.join(names)}")
    place = 0 if optional is None else names.index(optional)
    structure, rows, kinds = aligned(names, tuple(everything.values()), place)
    if not rows:
        return tuple(trees.values()) if width > 1 else next(iter(trees.values()))
    flags = tuple((name, value) for name, value in numbers.items() if isinstance(value, _STATIC))
    scalars = {name: value for name, value in numbers.items() if not isinstance(value, _STATIC)}
    for name, value in scalars.items():
        check_rank(name, value)

    def in_dtype(dtype: np.dtype) -> dict[str, Any]:
        return {name: scalar(value, dtype) for name, value in scalars.items()}

    new = map_rows(kernel, names, width, flags, rows, kinds, place, in_dtype, structure)
    outs = tuple(structure.unflatten(column) for column in zip(*new, strict=True))
    return outs if width > 1 else outs[0]


def map_rows(
    kernel: Kernel,
    names: tuple[str, ...],
    width: int,
    flags: Flags,
    rows: list[tuple[Any, ...]],
    kinds: list[tuple[Kind, ...]],
    optional: int,
    in_dtype: Callable[[np.dtype], dict[str, Any]],
    structure: Any,
) -> list[tuple[Any, ...]]:
    """The first `width` leaves of each row as the kernel makes them; `in_dtype` gives its numbers in a real dtype.

    Raises:
        TypeError: if a leaf would become complex; its path in `structure` is named.
    """
    new = [row[:width] for row in rows]
    one, several = _lifted(kernel, names, width, flags)
    # Once per step and not once per leaf: nearly always there is one dtype.
    converted: dict[np.dtype, dict[str, Any]] = {}
    for kind, group in _groups(kinds, optional).items():
        dtype = kernel_dtype(*(each[1] for each in kind if each is not None))
        if dtype not in converted:
            converted[dtype] = in_dtype(dtype)
        gate = gate_of([leaf for i in group for leaf in rows[i]])
        condition = None if gate is None else gate.condition
        try:
            for indices in chunks(group):
                if len(indices) == 1:
                    new[indices[0]] = one(rows[indices[0]], converted[dtype], condition)
                    continue
                out = several([rows[i] for i in indices], converted[dtype], condition)
                for i, leaves in zip(indices, out, strict=True):
                    new[i] = leaves
        except _BecomesComplex as error:
            paths = jax.tree.leaves_with_path(structure.unflatten(range(structure.num_leaves)))
            raise TypeError(str(error).format(jax.tree_util.keystr(paths[group[0]][0]))) from None
        if gate is not None:
            gate.note_all(pair for i in group for pair in zip(names, new[i], rows[i], strict=False))
    return new


class _BecomesComplex(Exception):
    """A kernel makes a complex leaf in the place of a real one: a message with {0} for the path."""


def _groups(kinds: list[tuple[Kind, ...]], optional: int) -> dict[tuple[Any, ...], list[int]]:
    """Row numbers by shape and dtypes; rows that have nothing to do are in no group."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, kind in enumerate(kinds):
        if kind[optional] is not None:
            groups.setdefault(kind, []).append(i)
    return groups


def chunks(group: list[int]) -> list[list[int]]:
    """A group in a few calls of a few leaves each."""
    size = _chunk_size(len(group))
    return [group[i : i + size] for i in range(0, len(group), size)]


@functools.lru_cache(maxsize=1024)
def _chunk_size(n: int) -> int:
    """About sqrt(n), and best a divisor of n.

    A call costs tracing and lowering, and so does each leaf in the first call of a length (a shorter last call is
    another length): n / size + size + rest, in place of n. For 300 leaves that is 35 in place of 300; tracing Adam on
    300 leaves takes 35 ms for optax's 166, compiling included 853 for 1,002 (`python -m experiments bench step`).
    """
    return min(range(1, n + 1), key=lambda size: n // size + size + n % size)


@functools.lru_cache(maxsize=1024)
def _lifted(kernel: Kernel, names: tuple[str, ...], width: int, flags: Flags) -> tuple[Kernel, Kernel]:
    """The kernel on one row of leaves, and on several at once, compiled."""

    @functools.wraps(kernel)
    def kernel_on_leaves(
        leaves: tuple[Any, ...], scalars: dict[str, Any], condition: jax.Array | None
    ) -> tuple[jax.Array, ...]:
        arrays = [jnp.asarray(leaf) for leaf in leaves]
        real = kernel_dtype(*(a.dtype for a in arrays))
        wide = {name: a.astype(in_precision(a.dtype, real)) for name, a in zip(names, arrays, strict=True)}
        # All have one precision now, so that the only promotion left is of a real scalar to a complex leaf.
        with jax.numpy_dtype_promotion("standard"):
            if condition is None:
                out = kernel(**wide, **scalars, **dict(flags))
            else:
                old = [wide[name] if is_state(name) else None for name in names[:width]]
                out = evaluate(lambda w, s: kernel(**w, **s, **dict(flags)), (wide, scalars), old, condition)
        out = out if width > 1 else (out,)
        expected = f"{kernel.__name__} must return a leaf for each of {', '.join(names[:width])}"
        if not isinstance(out, tuple) or len(out) != width:
            raise TypeError(f"{expected}, got {out!r}")
        for name, new, old in zip(names[:width], out, arrays[:width], strict=True):
            if jnp.iscomplexobj(new) and not jnp.iscomplexobj(old):
                causes = "{0} and ".join(n for n, a in zip(names, arrays, strict=True) if jnp.iscomplexobj(a))
                words = f"{name}{{0}} would become complex where it is {old.dtype}, since {causes}{{0}} is: "
                raise _BecomesComplex(words + "updates, params and state must agree")
            if jnp.shape(new) != old.shape:
                raise ValueError(f"{expected}, of its shape: {name} has {old.shape}, got {jnp.shape(new)}")
        return tuple(new.astype(old.dtype) for new, old in zip(out, arrays[:width], strict=True))

    one = jax.jit(kernel_on_leaves, inline=True)

    @functools.wraps(kernel)
    def several(
        rows: list[tuple[Any, ...]], scalars: dict[str, Any], condition: jax.Array | None
    ) -> list[tuple[jax.Array, ...]]:
        return [one(row, scalars, condition) for row in rows]

    return one, jax.jit(several)


def scaled(updates: jax.Array, factor: jax.Array) -> jax.Array:
    """`factor * updates`."""
    return factor * updates


def zeros_like(params: Params, dtype: DTypeLike | None = None, *, real: bool = False) -> PyTree:
    """A state leaf for each parameter: zeros of its shape and sharding, float32 for half precision.

    Args:
        params: Arrays, tracers or `ShapeDtypeStruct`s.
        dtype: In place of the parameter's own.
        real: The real dtype for complex parameters (second moments).

    Raises:
        TypeError: if a leaf is not floating or complex, or complex where `dtype` is not; its path is named.
    """
    if dtype is not None and np.dtype(dtype).kind != "c" and not real:
        why = f"an accumulator of {np.dtype(dtype)} (`mu_dtype`, `accumulator_dtype`) has no imaginary part"
        check_real("zeros_like", "params", params, why)

    def zero(leaf: PyTree) -> jax.Array:
        own = compute_dtype(jnp.result_type(leaf)) if dtype is None else np.dtype(dtype)
        return jnp.zeros_like(leaf, dtype=real_dtype(own) if real else own)

    return jax.tree.structure(params).unflatten(map(zero, checked_leaves(params, "params")))


def copies_of(params: Params, dtype: DTypeLike | None = None) -> PyTree:
    """A state leaf for each parameter: a copy of it, float32 for half precision, sharded as it.

    Args:
        params: Arrays or tracers.
        dtype: In place of the parameter's own; in its complex form for complex parameters, in its real for real ones.

    Raises:
        TypeError: if a leaf is not floating or complex, or complex where `dtype` is of half precision, which has no
            complex form; its path is named.
    """
    real = None if dtype is None else real_dtype(dtype)
    if real is not None and real.itemsize < 4:
        check_real("copies_of", "params", params, f"{real} (`accumulator_dtype`, `state_dtype`) has no complex form")

    def copy(leaf: PyTree) -> jax.Array:
        own = np.dtype(jnp.result_type(leaf))
        kind = compute_dtype(own) if real is None else in_precision(own, real)
        # Always a copy: a state and parameters that share a buffer cannot both be donated.
        return jnp.array(leaf, dtype=kind, copy=True)

    return jax.tree.structure(params).unflatten(map(copy, checked_leaves(params, "params")))
