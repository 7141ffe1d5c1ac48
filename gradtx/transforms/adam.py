r"""Adam: the average gradient over its running root mean square, both corrected for their start."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._core.arguments import Decay, DType, NonNegative
from .._core.maths import abs_sq, positive, safe_increment, safe_sqrt
from .._core.precision import scalar, step_dtype
from .._core.transformation import Transform, transformation
from .._core.tree import map_leaves, zeros_like
from .bias_correction import correction


def _adam(
    updates: jax.Array,
    mu: jax.Array,
    nu: jax.Array,
    b1: jax.Array,
    b2: jax.Array,
    mu_gain: jax.Array,
    nu_gain: jax.Array,
    eps: jax.Array,
    eps_root: jax.Array,
    mu_scale: jax.Array,
    nu_scale: jax.Array,
    mu_next: jax.Array,
    *,
    nesterov: bool,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    mu = b1 * mu + mu_gain * updates
    nu = b2 * nu + nu_gain * abs_sq(updates)
    mu_hat = b1 * mu * mu_next + mu_gain * updates * mu_scale if nesterov else mu * mu_scale
    return mu_hat / (safe_sqrt(nu * nu_scale + eps_root) + eps), mu, nu


class ScaleByAdamState(NamedTuple):
    """The number of updates, and decaying means of gradients and of their squares, each like `params`."""

    count: jax.Array
    mu: Any
    nu: Any


@transformation
def scale_by_adam(
    b1: Decay = 0.9,
    b2: Decay = 0.999,
    eps: NonNegative = 1e-8,
    eps_root: NonNegative = 0.0,
    mu_dtype: DType = None,
    *,
    nesterov: bool = False,
) -> Transform:
    r"""Divide the average gradient by the running root mean square, both bias-corrected.

    $$m_t = \beta_1 m_{t-1} + (1-\beta_1) g_t, \quad v_t = \beta_2 v_{t-1} + (1-\beta_2)|g_t|^2, \quad
    u_t = \frac{m_t/(1-\beta_1^t)}{\sqrt{v_t/(1-\beta_2^t) + \bar\epsilon} + \epsilon}$$

    With `nesterov` the numerator is $\beta_1 m_t/(1-\beta_1^{t+1}) + (1-\beta_1) g_t/(1-\beta_1^t)$ (NAdam).

    State: `count`, int32; `mu` and `nu`, like `params` (float32 for half-precision; `nu` real for complex
    params): two copies.
    Units: $u_t$ has none; $|u_t|$ is about 1, exactly 1 at the first step if eps is small. Keeps the sign of $m_t$.

    Args:
        b1: beta_1, in [0, 1). A step.
        b2: beta_2, in [0, 1). A step.
        eps: Outside the root. Unit: gradient.
        eps_root: Inside the root. Unit: gradient squared.
        mu_dtype: The dtype of `mu`, in place of the parameters' (float32 for half precision).
        nesterov: Whether to look one step ahead, as NAdam.

    Raises:
        ValueError: `b1` or `b2` is outside [0, 1), `eps` or `eps_root` is negative.

    Source: Kingma and Ba, 2015; Dozat, 2016, for `nesterov`.
    Differs: NAdam's paper multiplies v-hat by beta_2 and schedules the momentum; like optax we do neither.
    """

    def init(params: Any) -> ScaleByAdamState:
        return ScaleByAdamState(jnp.zeros([], jnp.int32), zeros_like(params, mu_dtype), zeros_like(params, real=True))

    def update(updates: Any, state: ScaleByAdamState, params: Any = None) -> tuple[Any, ScaleByAdamState]:
        count = safe_increment(state.count)
        dtype = step_dtype(updates)
        first, second = scalar(b1, dtype), scalar(b2, dtype)
        # All that is the same for every entry is computed once a step; reciprocals spare two divisions an entry.
        factors = [first, second, 1 - first, 1 - second, positive(scalar(eps, dtype), outside=True), eps_root]
        weights = [(first, count), (second, count), (first, safe_increment(count))]
        scales = [1 / correction(decay, after, dtype) for decay, after in weights]
        updates, mu, nu = map_leaves(_adam, [updates, state.mu, state.nu], [*factors, *scales], nesterov=nesterov)
        return updates, ScaleByAdamState(count, mu, nu)

    return Transform(init, update, state_type=ScaleByAdamState)
