r"""Divide by the size of past gradients: a decaying mean of squares, or their sum."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._core.arguments import Decay, NonNegative
from .._core.maths import abs_sq, positive, safe_increment, safe_sqrt
from .._core.precision import scalar, step_dtype
from .._core.transformation import Transform, transformation
from .._core.tree import map_leaves, zeros_like
from .bias_correction import correction


def _root(square: jax.Array, eps: jax.Array, *, eps_in_sqrt: bool) -> jax.Array:
    """The divisor: sqrt(square + eps) or sqrt(square) + eps; never 0, since eps is positive."""
    return safe_sqrt(square + eps) if eps_in_sqrt else safe_sqrt(square) + eps


def _rms(
    updates: jax.Array,
    nu: jax.Array,
    decay: jax.Array,
    gain: jax.Array,
    eps: jax.Array,
    scale: jax.Array,
    *,
    eps_in_sqrt: bool,
) -> tuple[jax.Array, jax.Array]:
    nu = decay * nu + gain * abs_sq(updates)
    return updates / _root(nu * scale, eps, eps_in_sqrt=eps_in_sqrt), nu


def _rss(
    updates: jax.Array, sum_of_squares: jax.Array, eps: jax.Array, *, eps_in_sqrt: bool
) -> tuple[jax.Array, jax.Array]:
    sum_of_squares = sum_of_squares + abs_sq(updates)
    return updates / _root(sum_of_squares, eps, eps_in_sqrt=eps_in_sqrt), sum_of_squares


def _fill(zeros: jax.Array, value: jax.Array) -> jax.Array:
    return zeros + value


def _filled(params: Any, value: ArrayLike) -> Any:
    return map_leaves(_fill, [zeros_like(params, real=True)], [value])


class ScaleByRmsState(NamedTuple):
    """The decaying mean of squares, like `params`."""

    nu: Any


class ScaleByRmsWithCountState(NamedTuple):
    """The number of updates, and the decaying mean of squares, like `params`."""

    count: jax.Array
    nu: Any


class ScaleByRssState(NamedTuple):
    """The sum of squares, like `params`."""

    sum_of_squares: Any


@transformation
def scale_by_rms(
    decay: Decay = 0.9,
    eps: NonNegative = 1e-8,
    initial_scale: NonNegative = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
) -> Transform:
    r"""Divide by the running root mean square (RMSProp).

    $$v_t = \rho v_{t-1} + (1-\rho)|g_t|^2, \qquad u_t = g_t / \sqrt{v_t + \epsilon}$$

    State: `nu`, like `params` (float32 for half-precision, real for complex params): one copy; and `count`, int32,
    if `bias_correction`.
    Units: $u_t$ has none; $|u_t|$ is about 1, and $1/\sqrt{1-\rho}$ at the first step. Keeps the gradient's sign.

    Args:
        decay: rho, in [0, 1). A step.
        eps: Inside the root (outside if not `eps_in_sqrt`). Unit: gradient squared (gradient).
        initial_scale: v_0 >= 0. Unit: gradient squared.
        eps_in_sqrt: Where eps stands.
        bias_correction: Whether to divide v_t by 1 - rho^t first, as Adam does.

    Raises:
        ValueError: `decay` is outside [0, 1), `eps` or `initial_scale` is negative.

    Source: Hinton, lecture 6e, 2012. Differs: the lecture gives no epsilon.
    """

    def init(params: Any) -> ScaleByRmsState | ScaleByRmsWithCountState:
        nu = _filled(params, initial_scale)
        return ScaleByRmsWithCountState(jnp.zeros([], jnp.int32), nu) if bias_correction else ScaleByRmsState(nu)

    def divide(updates: Any, nu: Any, count: jax.Array | None) -> tuple[Any, Any]:
        dtype = step_dtype(updates)
        rho = scalar(decay, dtype)
        scale = 1.0 if count is None else 1 / correction(rho, count, dtype)
        factors = [rho, 1 - rho, positive(scalar(eps, dtype), outside=not eps_in_sqrt), scale]
        return map_leaves(_rms, [updates, nu], factors, eps_in_sqrt=eps_in_sqrt)

    def plain(updates: Any, state: ScaleByRmsState, params: Any = None) -> tuple[Any, ScaleByRmsState]:
        updates, nu = divide(updates, state.nu, None)
        return updates, ScaleByRmsState(nu)

    def corrected(
        updates: Any, state: ScaleByRmsWithCountState, params: Any = None
    ) -> tuple[Any, ScaleByRmsWithCountState]:
        count = safe_increment(state.count)
        updates, nu = divide(updates, state.nu, count)
        return updates, ScaleByRmsWithCountState(count, nu)

    if bias_correction:
        return Transform(init, corrected, state_type=ScaleByRmsWithCountState)
    return Transform(init, plain, state_type=ScaleByRmsState)


@transformation
def scale_by_rss(
    initial_accumulator_value: NonNegative = 0.1, eps: NonNegative = 1e-7, *, eps_in_sqrt: bool = True
) -> Transform:
    r"""Divide by the root of the sum of squares (Adagrad).

    $$G_t = G_{t-1} + |g_t|^2, \qquad u_t = g_t / \sqrt{G_t + \epsilon}$$

    State: `sum_of_squares`, like `params` (float32 for half-precision, real for complex params): one copy.
    Units: $u_t$ has none; $|u_t| \le 1$, falling as $1/\sqrt t$. Keeps the gradient's sign. Where every gradient
    was 0 the update is 0.

    Args:
        initial_accumulator_value: G_0 >= 0. Unit: gradient squared. The paper has 0; at 0.1 the first steps of
            small gradients are small.
        eps: Inside the root (outside if not `eps_in_sqrt`). Unit: gradient squared (gradient).
        eps_in_sqrt: Where eps stands; optax has it inside, the paper and PyTorch outside.

    Raises:
        ValueError: `initial_accumulator_value` or `eps` is negative.

    Source: Duchi, Hazan and Singer, 2011.
    """

    def init(params: Any) -> ScaleByRssState:
        return ScaleByRssState(_filled(params, initial_accumulator_value))

    def update(updates: Any, state: ScaleByRssState, params: Any = None) -> tuple[Any, ScaleByRssState]:
        epsilon = positive(scalar(eps, step_dtype(updates)), outside=not eps_in_sqrt)
        updates, total = map_leaves(_rss, [updates, state.sum_of_squares], [epsilon], eps_in_sqrt=eps_in_sqrt)
        return updates, ScaleByRssState(total)

    return Transform(init, update, state_type=ScaleByRssState)
