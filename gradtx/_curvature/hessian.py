"""An objective's second derivatives at params: whole, or as a product with a vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec

from .._objective import one_number
from .._trees.checks import aligned
from .._trees.precision import restore, step_dtype, widen
from .._types import Params, PyTree, Updates, ValueFn

MatrixVectorProduct: TypeAlias = Callable[[Any], Any]
"""`v -> A v` on trees, linear and symmetric."""

WHY_REAL = "give real and imaginary parts; the second derivatives of a complex one are no symmetric matrix"
"""The reason that `check_real` gives."""


def check_aligned(updates: Updates, params: Params) -> None:
    """Raise ValueError, with the path, where updates differ from params in structure or shapes, or one is `None`."""
    _, rows, _ = aligned(("updates", "params"), (updates, params), 0)
    if any(update is None for update, _ in rows):
        is_none = jax.tree.map(lambda u, p: u is None and p is not None, updates, params, is_leaf=lambda x: x is None)
        path = next(path for path, here in jax.tree.leaves_with_path(is_none) if here)
        where = jax.tree_util.keystr(path)
        raise ValueError(
            f"updates{where} is None, but params{where} is not; second derivatives are of whole params. Let the "
            "objective close over what stays as it is"
        )


def hessian_vector_product(value_fn: ValueFn, params: Params) -> MatrixVectorProduct:
    """`v -> H v`, each at about the cost of two gradients. Vectors are float32 where params are half-precision.

    Forward over reverse, which keeps less in memory than reverse over reverse
    (https://docs.jax.dev/en/latest/notebooks/autodiff_cookbook.html#hessian-vector-products-using-both-forward-and-reverse-mode).
    """
    gradient = jax.grad(on_widened(one_number("what `value_fn` returns", value_fn), params))
    return lambda vector: jax.jvp(gradient, (widen(params),), (vector,))[1]


def gauss_newton_vector_product(
    outputs_fn: Callable[[Any], Any], loss_fn: Callable[[Any], jax.Array], params: Params
) -> MatrixVectorProduct:
    """`v -> J' H J v`: J of the outputs by params, H of the loss by outputs. Source: Schraudolph, 2002."""
    outputs, pullback = jax.vjp(on_widened(outputs_fn, params), widen(params))
    gradient = jax.grad(one_number("what `loss_fn` returns", loss_fn))

    def product(vector: PyTree) -> PyTree:
        _, tangent = jax.jvp(on_widened(outputs_fn, params), (widen(params),), (vector,))
        return pullback(jax.jvp(gradient, (outputs,), (tangent,))[1])[0]

    return product


def dense_hessian(value_fn: ValueFn, params: Params) -> jax.Array:
    """All second derivatives, over params as one vector (see `flatten_to_vector`)."""
    objective, (wide, back) = one_number("what `value_fn` returns", value_fn), flatten_to_vector(params)
    return jax.hessian(lambda vector: objective(back(vector)).astype(wide.dtype))(wide)


def flatten_to_vector(tree: PyTree) -> tuple[jax.Array, Callable[[jax.Array], PyTree]]:
    """The leaves as one vector of their widest dtype, at least float32, and the way back.

    The vector is whole on each device; back, leaves have the sharding and dtype they came with. (JAX's `ravel_pytree`
    keeps neither.)
    """
    leaves, structure = jax.tree.flatten(tree)
    dtype = step_dtype(leaves)
    kinds = [jax.typeof(leaf) for leaf in leaves]

    def back(vector: jax.Array) -> PyTree:
        parts, start = [], 0
        for kind in kinds:
            part = vector[start : start + kind.size].reshape(kind.shape).astype(kind.dtype)
            parts.append(jax.sharding.reshard(part, kind.sharding) if _is_explicit(kind) else part)
            start += kind.size
        return structure.unflatten(parts)

    whole = [
        jax.sharding.reshard(leaf, PartitionSpec()) if _is_explicit(kind) else jnp.asarray(leaf)
        for leaf, kind in zip(leaves, kinds, strict=True)
    ]
    rows = [leaf.astype(dtype).ravel() for leaf in whole]
    return jnp.concatenate(rows) if rows else jnp.zeros([0], dtype), back


def on_widened(function: Callable[[Any], Any], params: Params) -> Callable[[Any], Any]:
    """A function of params, as one of params that `widen` has made: it sees the dtypes it was written for."""
    return lambda wide: function(restore(wide, params))


def _is_explicit(kind: Any) -> bool:
    mesh = kind.sharding.mesh
    return not mesh.empty and any(axis is AxisType.Explicit for axis in mesh.axis_types)
