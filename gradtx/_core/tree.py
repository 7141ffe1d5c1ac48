"""The one checked map: maths on one array, lifted to trees.

A kernel is a module-level function of arrays: `kernel(update, *state, *reads, *scalars, **flags)`. `map_leaves` runs
it on each leaf under `jax.jit`, so that JAX traces it once per shape and not once per leaf, and so that an update
which nobody jitted is a handful of compiled calls. Around the kernel, and in no other place:

- half-precision leaves are widened to float32, and each output is cast back to the dtype of the leaf it replaces;
- scalars become the kernel's *real* dtype before any arithmetic (so that 1 - b2 has the right precision);
- structures and shapes are compared (`checks.py`). Nothing broadcasts.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from .checks import Kind, aligned, check_rank, checked_leaves
from .precision import compute_dtype, in_precision, kernel_dtype, real_dtype, scalar, step_dtype

Kernel = Callable[..., Any]


def map_leaves(
    kernel: Kernel,
    trees: Sequence[Any],
    scalars: Sequence[ArrayLike] = (),
    *,
    reads: Sequence[Any] = (),
    optional: int = 0,
    vectors: int = 0,
    weights: Any = None,
    **flags: Any,
) -> Any:
    """Replace the leaves of `trees` by what `kernel` makes of them.

    Args:
        kernel: A module-level function of one leaf of each tree, one of each read tree, and the scalars. It
            returns the new leaf of each tree, in order (a bare array for one tree). `weights` come last, if any.
        trees: What is replaced: the updates, then the state that belongs to them.
        scalars: Hyperparameters and once-a-step values, of rank 0.
        reads: Trees that the kernel only reads (params).
        optional: Which tree (of `trees`, then `reads`) may hold `None` where the others have a leaf. There, all
            trees keep what they have: a parameter without a gradient keeps its state.
        vectors: How many of `trees`, the last ones, hold several numbers an entry: their leaves have one axis before
            the entry's own.
        weights: A tree of arrays of any shape that the kernel reads whole, in its real dtype (a network's weights).
        flags: Static options of the kernel.

    Returns:
        A tuple of the new trees, or the bare tree where there is one.

    Raises:
        ValueError: Structures or shapes differ; the path, what was expected and what came are named. Or a scalar
            is an array.
        TypeError: A leaf is not floating or complex, or not an array.
    """
    width, names = len(trees), _names(kernel)
    leading = [0] * (width - vectors) + [1] * vectors
    structure, rows, kinds = aligned(names, (*trees, *reads), optional, leading)
    if not rows:
        return tuple(trees) if width > 1 else trees[0]
    for name, value in zip(names[len(rows[0]) :], scalars, strict=False):
        check_rank(name, value)
    new: list[Any] = [row[:width] for row in rows]
    one, several = _lifted(kernel, width, tuple(sorted(flags.items())))
    # Once a step and not once a leaf: nearly always there is one dtype.
    converted: dict[np.dtype, tuple[Any, ...]] = {}
    for kind, group in _groups(kinds, optional).items():
        dtype = kernel_dtype(*(dtype for _, dtype in kind))
        if dtype not in converted:
            network = () if weights is None else (jax.tree.map(lambda w, to=dtype: scalar(w, to), weights),)
            converted[dtype] = (*(scalar(value, dtype) for value in scalars), *network)
        for indices in _chunks(group):
            if len(indices) == 1:
                new[indices[0]] = one(rows[indices[0]], converted[dtype])
                continue
            out = several([rows[i] for i in indices], converted[dtype])
            for i, leaves in zip(indices, out, strict=True):
                new[i] = leaves
    outs = tuple(structure.unflatten(column) for column in zip(*new, strict=True))
    return outs if width > 1 else outs[0]


def _groups(kinds: list[tuple[Kind, ...]], optional: int) -> dict[tuple[Any, ...], list[int]]:
    """Row numbers by shape and dtypes; rows that have nothing to do are in no group."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for i, kind in enumerate(kinds):
        if kind[optional] is not None:
            groups.setdefault(kind, []).append(i)
    return groups


def _chunks(group: list[int]) -> list[list[int]]:
    """A group in a few calls of a few leaves each."""
    size = _chunk_size(len(group))
    return [group[i : i + size] for i in range(0, len(group), size)]


@functools.lru_cache(maxsize=1024)
def _chunk_size(n: int) -> int:
    """About sqrt(n), and best a divisor of n.

    A call costs tracing and lowering, and so does each leaf in the first call of a length (a shorter last call is
    another length): n / size + size + rest, in place of n.
    """
    return min(range(1, n + 1), key=lambda size: n // size + size + n % size)


@functools.lru_cache(maxsize=1024)
def _lifted(kernel: Kernel, width: int, flags: tuple[tuple[str, Any], ...]) -> tuple[Kernel, Kernel]:
    """The kernel on one row of leaves, and on several at once, compiled."""

    @functools.wraps(kernel)
    def kernel_on_leaves(leaves: tuple[Any, ...], scalars: tuple[Any, ...]) -> tuple[jax.Array, ...]:
        arrays = [jnp.asarray(leaf) for leaf in leaves]
        real = kernel_dtype(*(a.dtype for a in arrays))
        wide = [a.astype(in_precision(a.dtype, real)) for a in arrays]
        # All have one precision now, so that the only promotion left is of a real scalar to a complex leaf.
        with jax.numpy_dtype_promotion("standard"):
            out = kernel(*wide, *scalars, **dict(flags))
        out = out if width > 1 else (out,)
        for name, new, old in zip(_names(kernel), out, arrays[:width], strict=False):
            if jnp.iscomplexobj(new) and not jnp.iscomplexobj(old):
                raise TypeError(f"{name} would become complex where it is {old.dtype}: updates and params must agree")
        return tuple(new.astype(old.dtype) for new, old in zip(out, arrays[:width], strict=True))

    one = jax.jit(kernel_on_leaves, inline=True)

    @functools.wraps(kernel)
    def several(rows: list[tuple[Any, ...]], scalars: tuple[Any, ...]) -> list[tuple[jax.Array, ...]]:
        return [one(row, scalars) for row in rows]

    return one, jax.jit(several)


@functools.lru_cache(maxsize=1024)
def _names(kernel: Kernel) -> tuple[str, ...]:
    """What the kernel calls its arguments; messages use the same words."""
    return tuple(inspect.signature(kernel).parameters)


def map_reduce(kernel: Kernel, tree: Any) -> jax.Array:
    """The sum over leaves of `kernel(leaf)`, a scalar; in float64 if any leaf is 64-bit, else float32."""
    leaves, dtype = checked_leaves(tree, "updates"), step_dtype(tree)
    run = _reduced(kernel)
    return sum((run(leaf).astype(dtype) for leaf in leaves), start=jnp.zeros([], dtype))


@functools.lru_cache(maxsize=1024)
def _reduced(kernel: Kernel) -> Callable[..., Any]:
    return jax.jit(lambda leaf: kernel(jnp.asarray(leaf).astype(compute_dtype(jnp.result_type(leaf)))))


def inner(a: Any, b: Any) -> jax.Array:
    """The real part of the inner product of two trees, a scalar; in float64 if any leaf is 64-bit, else float32.

    Raises:
        ValueError: Structures or shapes differ.
        TypeError: A leaf is not floating or complex.
    """
    _, rows, _ = aligned(("the first tree", "the second tree"), (a, b), 0)
    dtype = step_dtype((a, b))
    return sum((_inner(x, y).astype(dtype) for x, y in rows), start=jnp.zeros([], dtype))


@jax.jit
def _inner(x: jax.Array, y: jax.Array) -> jax.Array:
    # Not vdot, which flattens: a leaf that is sharded along several axes cannot be.
    real = kernel_dtype(jnp.result_type(x), jnp.result_type(y))
    x, y = (jnp.asarray(v).astype(in_precision(np.dtype(jnp.result_type(v)), real)) for v in (x, y))
    with jax.numpy_dtype_promotion("standard"):
        return jnp.sum(jnp.real(jnp.conj(x) * y))


def zeros_like(params: Any, dtype: DTypeLike | None = None, *, real: bool = False) -> Any:
    """A state leaf for each parameter: zeros of its shape and sharding, float32 for half precision.

    Args:
        params: Arrays, tracers or `ShapeDtypeStruct`s.
        dtype: In place of the parameter's own.
        real: The real dtype for complex parameters (second moments).

    Raises:
        TypeError: A leaf is not floating or complex; its path is named.
    """

    def zero(leaf: Any) -> jax.Array:
        own = compute_dtype(jnp.result_type(leaf)) if dtype is None else np.dtype(dtype)
        return jnp.zeros_like(leaf, dtype=real_dtype(own) if real else own)

    return jax.tree.structure(params).unflatten(map(zero, checked_leaves(params, "params")))


def leading_zeros(params: Any, size: int) -> Any:
    """`size` numbers of state for each entry of a parameter: zeros as of `zeros_like`, behind an axis of that size."""
    return jax.tree.map(lambda p: jnp.broadcast_to(p[None], (size, *p.shape)), zeros_like(params))
