r"""Newton's direction without the Hessian: truncated conjugate gradients on Hessian-vector products."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._core.contract import GradientTransformation
from .._core.fields import AtLeastOne, NonNegative
from .._manual_axes import vary_with
from .._maths import safe_divisor, safe_increment
from .._objective import check_number
from .._trees.checks import check_real
from .._trees.map import zeros_like
from .._trees.precision import cast_like, restore, scalar, step_dtype, widen
from .._trees.vectors import tree_add_scaled, tree_norm, tree_sub, tree_vdot
from .._types import Count, Number, Params, PyTree, ScalarArray, Updates, ValueFn
from .conjugate_gradients import solve
from .hessian import WHY_REAL, MatrixVectorProduct, check_aligned, hessian_vector_product

GOOD_RATIO, POOR_RATIO = 0.75, 0.25
"""Thresholds on the ratio of actual to predicted decrease: above the first damping shrinks, below the second it grows.

Those of trust regions (Nocedal and Wright, 2006, algorithm 4.1, page 69) and of Martens, 2010, section 4.1.
"""
DAMPING_FACTOR = 4.0
"""By which it shrinks and grows. Martens takes 1.5; with a line search behind, larger jumps cost little."""
FIRST_DAMPING = 1e-3
"""What damping of 0 grows to, as a fraction of the curvature along the step. Ours, by trial: no source has a damping
that may be 0."""
FORCING_FACTOR, FORCING_EXPONENT = 0.9, 2
"""How the residual's bound falls with the gradient. Eisenstat and Walker, 1996, choice 2 (gamma and alpha),
https://doi.org/10.1137/0917003."""


class NewtonCGState(NamedTuple):
    """State of `scale_by_newton_cg` and `scale_by_gauss_newton_cg`: what the next update judges this one by."""

    count: Count
    """Number of updates."""
    hvps: Count
    """Number of products with the matrix so far."""
    damping: ScalarArray
    """The damping that the last update used."""
    norm: ScalarArray
    """Norm of the last gradient."""
    params: Params
    """The last parameters."""
    updates: Updates
    """The last direction."""
    value: ScalarArray
    """The objective at the last parameters."""
    slope: ScalarArray
    """Inner product of the last gradient and direction."""
    curvature: ScalarArray
    """Undamped curvature along the last direction d: d'Hd."""


class scale_by_newton_cg(GradientTransformation):
    r"""Solve $(H + \lambda_t I)\, d = g$ inexactly by conjugate gradients, stopping early at negative curvature.

    - Truncated Newton: until the residual is at most $\eta_t \|g\|$, $\eta_t = \min(\mathtt{rtol}, .9\, (\|g_t\| /
      \|g_{t-1}\|)^2)$ (Eisenstat and Walker, 1996): roughly at first, exactly near the end, where it converges faster
      than linearly.
    - A direction of negative curvature is the last one; d goes along it as far as its absolute value says, which is
      downhill too, and leaves a saddle.
    - Damped as by Levenberg and Marquardt: $\rho$ is the decrease of the objective over what the quadratic model
      promised for the step that was taken; lambda is divided by 4 where $\rho > 3/4$ and multiplied by 4 where
      $\rho < 1/4$ (from 0: a thousandth of the curvature along the step).

    Each update is judged by the next one's `value` and params, so that a line search behind it may change its length.
    Both have to be of the same objective: of all the data, and not of mini-batches.

    State: `NewtonCGState`, 2 copies of the parameters (float32 for half precision). Needs `params`.
    Units: parameter squared over objective, times the gradient's. Not negated; updates and gradient have a positive
    inner product. Derivatives are those of the exact solution, by systems that are solved as roughly as this one: for
    exact ones let `rtol` be 0.

    Extra arguments: `value` at params, and `value_fn`, a pure function of params, twice differentiable (forward over
    reverse).

    Args:
        max_cg_steps: Hessian-vector products per update, at least 1. Each costs about two gradients.
        damping: lambda at first. Unit: the Hessian's.
        rtol: The residual that is always small enough, relative to the gradient.

    Raises:
        TypeError: from `init`, if a parameter is complex.
        ValueError: if `max_cg_steps` is less than 1.

    Source: Nocedal and Wright, 2006, algorithm 7.1 (page 169); Martens, 2010, for the damping. Not in optax.
    """

    max_cg_steps: AtLeastOne = 100
    damping: NonNegative = 0.0
    rtol: NonNegative = 0.5

    def init(self, params: Params) -> NewtonCGState:
        return init_state("scale_by_newton_cg", params, self.damping)

    def update(
        self, updates: Updates, state: NewtonCGState, params: Params, *, value: ArrayLike, value_fn: ValueFn
    ) -> tuple[Updates, NewtonCGState]:
        check_aligned(updates, params)
        product = hessian_vector_product(value_fn, params)
        return step(product, updates, state, params, value, self.max_cg_steps, self.rtol)


def init_state(owner: str, params: Params, damping: Number) -> NewtonCGState:
    """The first state. Raises TypeError, with the path, if a parameter is complex."""
    check_real(owner, "params", params, WHY_REAL)
    dtype = step_dtype(params)
    # Each is an array of its own: a buffer cannot be donated twice.
    count, hvps = (jnp.zeros([], jnp.int32) for _ in range(2))
    norm, value, slope, curvature = (jnp.zeros([], dtype) for _ in range(4))
    first = jnp.asarray(scalar(damping, dtype))
    state = NewtonCGState(count, hvps, first, norm, zeros_like(params), zeros_like(params), value, slope, curvature)
    return vary_with(state, params)


def step(
    product: MatrixVectorProduct,
    updates: Updates,
    state: NewtonCGState,
    params: Params,
    value: ArrayLike,
    max_cg_steps: int,
    rtol: Number,
) -> tuple[Updates, NewtonCGState]:
    """One update, whatever the matrix is."""
    check_number("`value`", value)
    dtype = state.damping.dtype
    gradient, value = widen(updates), jax.lax.stop_gradient(jnp.asarray(value).astype(dtype))
    norm = jax.lax.stop_gradient(tree_norm(gradient).astype(dtype))
    damping = _adapted_damping(state, params, value)

    def damped(vector: PyTree) -> PyTree:
        return tree_add_scaled(product(vector), damping, vector)

    ratio = norm / safe_divisor(state.norm)
    forcing = jnp.where(state.count > 0, FORCING_FACTOR * ratio**FORCING_EXPONENT, jnp.inf)
    tolerance = jnp.minimum(scalar(rtol, dtype), forcing.astype(dtype))
    direction, info = solve(damped, gradient, jax.lax.stop_gradient(tolerance), max_cg_steps)
    new = NewtonCGState(
        count=safe_increment(state.count),
        hvps=state.hvps + info.hvps,
        damping=damping,
        norm=norm,
        params=cast_like(params, state.params),
        updates=cast_like(direction, state.updates),
        value=value,
        slope=tree_vdot(gradient, direction).astype(dtype),
        curvature=info.curvature - damping * tree_vdot(direction, direction).astype(dtype),
    )
    return restore(direction, updates), new


def _adapted_damping(state: NewtonCGState, params: Params, value: ScalarArray) -> ScalarArray:
    """The damping, by what came of the last update. The step is a constant to derivatives."""
    moved, last, before, slope, curvature = jax.lax.stop_gradient(
        (
            tree_sub(cast_like(params, state.params), state.params),
            state.updates,
            state.value,
            state.slope,
            state.curvature,
        )
    )
    dtype = state.damping.dtype
    squared = tree_vdot(last, last).astype(dtype)
    length = -tree_vdot(moved, last).astype(dtype) / safe_divisor(squared)
    predicted = length * slope - 0.5 * length * length * curvature
    actual = before - value
    # A decrease within a few roundings of the objective says nothing about the model.
    is_judged = (state.count > 0) & (predicted > 10 * jnp.finfo(dtype).eps * jnp.abs(before))
    along = jnp.abs(curvature) / safe_divisor(squared)
    # Damping that is rounding beside the curvature becomes 0, or the order of convergence would stay linear.
    lower = jnp.where(state.damping > jnp.finfo(dtype).eps * along, state.damping / DAMPING_FACTOR, 0)
    higher = jnp.maximum(state.damping * DAMPING_FACTOR, FIRST_DAMPING * along)
    is_good = is_judged & (actual > GOOD_RATIO * predicted)
    is_poor = is_judged & ~(actual >= POOR_RATIO * predicted)  # NaN is poor
    return jnp.where(is_good, lower, jnp.where(is_poor, higher, state.damping))
