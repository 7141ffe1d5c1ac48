r"""Newton's direction without the Hessian: truncated conjugate gradients on Hessian-vector products."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._core import vectors
from .._core.arguments import NonNegative
from .._core.checks import check_number
from .._core.maths import nonzero, safe_increment
from .._core.precision import cast_like, restore, scalar, step_dtype, widen
from .._core.transformation import Transform, transformation
from .._core.tree import inner, zeros_like
from .._core.vectors import add_scaled, subtract
from . import conjugate_gradients, curvature
from .curvature import Product
from .ray import ValueFn

TRUSTED, DOUBTED = 0.75, 0.25
"""Of the decrease that the quadratic model promised: from the one on damping falls, below the other it rises."""
FACTOR = 4.0
LEAST = 1e-3
"""To what part of the curvature the damping rises from 0."""


class NewtonCGState(NamedTuple):
    """What the next update needs to judge this one.

    `count` of updates and `products` with the Hessian so far, int32; `damping` of the next update; `norm` of the last
    gradient; the last `params`, `updates` and `value`; and of the model along those updates `slope` and `curved`.
    """

    count: jax.Array
    products: jax.Array
    damping: jax.Array
    norm: jax.Array
    params: Any
    updates: Any
    value: jax.Array
    slope: jax.Array
    curved: jax.Array


def check_steps(owner: str, max_cg_steps: int) -> None:
    """Raise ValueError where there is no room for a product."""
    if max_cg_steps < 1:
        raise ValueError(f"{owner}: `max_cg_steps` must be at least 1, got {max_cg_steps}")


@transformation(check=lambda max_cg_steps, **_: check_steps("scale_by_newton_cg", max_cg_steps))
def scale_by_newton_cg(max_cg_steps: int = 100, damping: NonNegative = 0.0, rtol: NonNegative = 0.5) -> Transform:
    r"""Solve $(H + \lambda_t I)\, d = g$ by conjugate gradients, as exactly as it pays, and no further than it bends.

    - Truncated: until the residual is at most $\eta_t \|g\|$, $\eta_t = \min(\mathtt{rtol}, .9\, (\|g_t\| /
      \|g_{t-1}\|)^2)$ (Eisenstat and Walker, 1996): roughly at first, exactly near the end, where it converges faster
      than linearly.
    - Where a direction has negative curvature, d is what it was before that, or the gradient: downhill either way.
    - Damped as by Levenberg and Marquardt: $\rho$ is the decrease of the objective over what the quadratic model
      promised for the step that was taken; lambda is divided by 4 where $\rho > 3/4$ and multiplied by 4 where
      $\rho < 1/4$ (from 0: a thousandth of the curvature along the step).

    Each update is judged by the next one's `value` and params, so that a line search behind it may change its length.
    Both have to be of the same objective: of all the data, and not of mini-batches.

    State: `NewtonCGState`, 2 copies of the parameters (float32 for half precision). Units: parameter squared over
    objective, times the gradient's. Not negated; updates and gradient have a positive inner product. Derivatives are
    those of the exact solution, by systems that are solved as roughly as this one: for exact ones let `rtol` be 0.

    Extra arguments: `value` at params, and `value_fn`, a pure function of params, twice differentiable (forward over
    reverse).

    Args:
        max_cg_steps: Hessian-vector products an update, at least 1. Each costs about two gradients.
        damping: lambda at first. Unit: the Hessian's.
        rtol: The residual that is always small enough, relative to the gradient.

    Raises:
        TypeError: Parameters are complex.
        ValueError: `max_cg_steps` is less than 1.

    Source: Nocedal and Wright, 2006, algorithm 7.1; Martens, 2010, for the damping. Not in optax.
    """

    def update(
        updates: Any, state: NewtonCGState, params: Any, *, value: ArrayLike, value_fn: ValueFn
    ) -> tuple[Any, NewtonCGState]:
        curvature.check_aligned(updates, params)
        product = curvature.hessian_product(value_fn, params)
        return step(product, updates, state, params, value, max_cg_steps, rtol)

    def init(params: Any) -> NewtonCGState:
        return begin("scale_by_newton_cg", params, damping)

    return Transform(init, update, state_type=NewtonCGState)


def begin(owner: str, params: Any, damping: Any) -> NewtonCGState:
    """The state at first."""
    curvature.check_real(owner, params)
    dtype = step_dtype(params)
    # Each is an array of its own: a buffer cannot be donated twice.
    count, products = (jnp.zeros([], jnp.int32) for _ in range(2))
    norm, value, slope, curved = (jnp.zeros([], dtype) for _ in range(4))
    first = jnp.asarray(scalar(damping, dtype))
    return NewtonCGState(count, products, first, norm, zeros_like(params), zeros_like(params), value, slope, curved)


def step(
    product: Product, updates: Any, state: NewtonCGState, params: Any, value: ArrayLike, most: int, rtol: Any
) -> tuple[Any, NewtonCGState]:
    """One update, whatever the matrix is."""
    check_number("`value`", value)
    dtype = state.damping.dtype
    gradient, value = widen(updates), jax.lax.stop_gradient(jnp.asarray(value).astype(dtype))
    length = jax.lax.stop_gradient(vectors.norm(gradient).astype(dtype))
    damping = _judged(state, params, value)

    def damped(vector: Any) -> Any:
        return add_scaled(product(vector), damping, vector)

    falls = jnp.where(state.count > 0, 0.9 * jnp.square(length / nonzero(state.norm)), jnp.inf)
    enough = jnp.minimum(scalar(rtol, dtype), falls.astype(dtype))
    direction, solved = conjugate_gradients.solve(damped, gradient, jax.lax.stop_gradient(enough), most)
    new = NewtonCGState(
        safe_increment(state.count),
        state.products + solved.products,
        damping,
        length,
        cast_like(params, state.params),
        cast_like(direction, state.updates),
        value,
        inner(gradient, direction).astype(dtype),
        solved.curved - damping * inner(direction, direction).astype(dtype),
    )
    return restore(direction, updates), new


def _judged(state: NewtonCGState, params: Any, value: jax.Array) -> jax.Array:
    """The damping, by what came of the last update. The step is a constant to derivatives."""
    taken, last, before, slope, curved = jax.lax.stop_gradient(
        (subtract(cast_like(params, state.params), state.params), state.updates, state.value, state.slope, state.curved)
    )
    dtype = state.damping.dtype
    size = inner(last, last).astype(dtype)
    length = -inner(taken, last).astype(dtype) / nonzero(size)
    promised = length * slope - 0.5 * length * length * curved
    gained = before - value
    # Within the objective's rounding nothing can be judged.
    is_judged = (state.count > 0) & (promised > 10 * jnp.finfo(dtype).eps * jnp.abs(before))
    along = jnp.abs(curved) / nonzero(size)
    lower = jnp.where(state.damping > jnp.finfo(dtype).eps * along, state.damping / FACTOR, 0)
    higher = jnp.maximum(state.damping * FACTOR, LEAST * along)
    better = is_judged & (gained > TRUSTED * promised)
    worse = is_judged & ~(gained >= DOUBTED * promised)
    return jnp.where(better, lower, jnp.where(worse, higher, state.damping))
