"""Arithmetic on trees as vectors, for methods whose once-per-step numbers depend on all leaves together."""

import functools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from .._maths import safe_divisor, safe_sqrt
from .._types import Leaf, Params, PyTree, RealLeaf, ScalarArray
from .checks import aligned, checked_leaves
from .map import Kernel, map_leaves, scaled, zeros_like
from .precision import in_precision, kernel_dtype, step_dtype


def axpy(updates: jax.Array, other: jax.Array, factor: jax.Array) -> jax.Array:
    """`updates + factor * other`."""
    return updates + factor * other


def map_reduce(kernel: Kernel, tree: PyTree, *numbers: jax.Array) -> jax.Array:
    """The sum over leaves of `kernel(leaf, *numbers)`, a scalar; in float64 if any leaf is 64-bit, else float32."""
    leaves, dtype = checked_leaves(tree, "updates"), step_dtype(tree)
    run = _reduced(kernel, dtype)
    return sum((run(leaf, *numbers) for leaf in leaves), start=jnp.zeros([], dtype))


@functools.lru_cache(maxsize=1024)
def _reduced(kernel: Kernel, dtype: np.dtype) -> Callable[..., Any]:
    def reduced(leaf: jax.Array, *numbers: jax.Array) -> jax.Array:
        wide = jnp.asarray(leaf).astype(in_precision(np.dtype(jnp.result_type(leaf)), dtype))
        with jax.numpy_dtype_promotion("standard"):  # of a real number to a complex leaf
            return kernel(wide, *numbers)

    return jax.jit(reduced)


def tree_vdot(a: PyTree, b: PyTree) -> jax.Array:
    """The real part of the inner product of two trees, a scalar; in float64 if any leaf is 64-bit, else float32.

    Raises:
        ValueError: if structures or shapes differ.
        TypeError: if a leaf is not floating or complex.
    """
    _, rows, _ = aligned(("the first tree", "the second tree"), (a, b), 0)
    dtype = step_dtype((a, b))
    return sum((_vdot(x, y).astype(dtype) for x, y in rows), start=jnp.zeros([], dtype))


@jax.jit
def _vdot(x: jax.Array, y: jax.Array) -> jax.Array:
    # Not jnp.vdot, which flattens: a leaf that is sharded along several axes cannot be.
    real = kernel_dtype(jnp.result_type(x), jnp.result_type(y))
    x, y = (jnp.asarray(v).astype(in_precision(np.dtype(jnp.result_type(v)), real)) for v in (x, y))
    with jax.numpy_dtype_promotion("standard"):
        return jnp.sum(jnp.real(jnp.conj(x) * y))


def leading_zeros(params: Params, size: int) -> PyTree:
    """`size` numbers of state for each entry of a parameter: zeros as of `zeros_like`, behind an axis of that size."""
    return jax.tree.map(lambda p: jnp.broadcast_to(p[None], (size, *p.shape)), zeros_like(params))


def present(tree: PyTree, updates: PyTree) -> PyTree:
    """The tree with `None` wherever the updates are `None`."""
    return jax.tree.map(lambda u, x: None if u is None else x, updates, tree, is_leaf=lambda u: u is None)


def completed(tree: PyTree, whole: PyTree) -> PyTree:
    """The tree with leaves of `whole` wherever it is `None`."""
    return jax.tree.map(lambda x, w: w if x is None else x, tree, whole, is_leaf=lambda x: x is None)


def tree_sub(a: PyTree, b: PyTree) -> PyTree:
    """`a - b`."""
    return map_leaves(_sub, {"updates": a}, reads={"other": b})


def tree_scale(tree: PyTree, factor: ArrayLike) -> PyTree:
    """`factor * tree`."""
    return map_leaves(scaled, {"updates": tree}, factor=factor)


def tree_add_scaled(a: PyTree, factor: ArrayLike, b: PyTree) -> PyTree:
    """`a + factor * b`."""
    return map_leaves(axpy, {"updates": a}, reads={"other": b}, factor=factor)


def tree_where(condition: jax.Array | np.ndarray, then: object, otherwise: object) -> Any:
    """One tree or the other, whole."""
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), then, otherwise)


def max_abs(tree: PyTree) -> ScalarArray:
    """The largest absolute value of an entry, 0 if there is none; in float64 if any leaf is 64-bit, else float32."""
    dtype = step_dtype(tree)
    leaves = [_max_abs(leaf).astype(dtype) for leaf in jax.tree.leaves(tree)]
    return jnp.max(jnp.stack(leaves)) if leaves else jnp.zeros([], dtype)


def smallest_ratio(a: PyTree, b: PyTree) -> ScalarArray:
    """The least absolute value of an entry of `a / b`, of those where neither is 0; infinite if there is none."""
    _, rows, _ = aligned(("the first tree", "the second tree"), (a, b), 0)
    dtype = step_dtype((a, b))
    leaves = [_smallest_ratio(x, y).astype(dtype) for x, y in rows]
    return jnp.min(jnp.stack(leaves)) if leaves else jnp.full([], np.inf, dtype)


@partial(jax.jit, inline=True)
def power_of_two_scale(size: RealLeaf) -> RealLeaf:
    """The power of two nearest to a size, and 1 where that is 0 or not finite; a constant to derivatives.

    What is divided by it is about 1, and can be squared without leaving the range of floats. In float32 that is from
    1.2e-38 to 3.4e38, so that squares of entries below 1e-19 are 0 and of those above 2e19 infinite: sizes which
    gradients do reach when the objective is in another unit. BLAS scales its `nrm2` for the same reason (Blue, 1978,
    https://doi.org/10.1145/355769.355771).

    It is a power of two because dividing by one rounds nothing: what is in range comes out to the bit as it does
    without. So the objective's unit changes no path.

    Never divide by it twice. XLA rewrites `x / a / b` to `x / (a * b)`, and `a * b` is what leaves the range. Multiply
    a quotient before the next division, or divide different factors.
    """
    kind = jnp.finfo(size.dtype)
    # Rounding away all of the significand's bits leaves the power.
    power = jax.lax.reduce_precision(jax.lax.stop_gradient(size), kind.nexp, 0)
    # The last powers have no normal reciprocal; sizes below the least normal one count as 0, as XLA flushes them.
    power = jnp.clip(power, kind.tiny, 1 / kind.tiny)
    return jnp.where((size >= kind.tiny) & jnp.isfinite(size), power, 1)


def tree_norm(tree: PyTree) -> ScalarArray:
    """The root of the sum of squares, for entries of any size; its derivative at 0 is 0.

    It reads the tree twice. `global_norm`, which clipping uses, does so only where a square leaves the range of floats.
    """
    size = power_of_two_scale(max_abs(tree))
    near_one = tree_scale(tree, 1 / size)
    return size * safe_sqrt(tree_vdot(near_one, near_one))


class PairProducts(NamedTuple):
    """Inner products of a step s and of the gradient's difference y along it.

    For <y, y>, y is multiplied by `y_scale`, a power of two near <s, s> / <s, y>. With it y is of the step's size,
    whatever unit the objective is measured in. Never divide by it twice (see `power_of_two_scale`).
    """

    ss: ScalarArray
    """<s, s>."""
    sy: ScalarArray
    """<s, y>."""
    yy: ScalarArray
    """<y, y>, times `y_scale` squared."""
    y_scale: ScalarArray
    """The factor of y."""


def pair_products(s: PyTree, y: PyTree) -> PairProducts:
    """The inner products of a pair."""
    ss, sy = tree_vdot(s, s), tree_vdot(s, y)
    y_scale = power_of_two_scale(ss / safe_divisor(jnp.abs(sy)))
    near_s = tree_scale(y, y_scale)
    return PairProducts(ss, sy, tree_vdot(near_s, near_s), y_scale)


@jax.jit
def _max_abs(leaf: Leaf) -> jax.Array:
    return jnp.max(jnp.abs(leaf), initial=0)


@jax.jit
def _smallest_ratio(x: Leaf, y: Leaf) -> jax.Array:
    x, y = jnp.abs(x), jnp.abs(y)
    real = jnp.promote_types(x.dtype, y.dtype)
    ratio = x.astype(real) / safe_divisor(y).astype(real)
    return jnp.min(jnp.where((x > 0) & (y > 0), ratio, np.inf), initial=np.inf)


def _sub(updates: Leaf, other: Leaf) -> Leaf:
    return updates - other
