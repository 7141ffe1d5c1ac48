r"""Adam: the average gradient over its running root mean square, both corrected for their start."""

from __future__ import annotations

import functools
from dataclasses import KW_ONLY
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from .._core.contract import GradientTransformation
from .._core.fields import Decay, DType, NonNegative
from .._maths import abs_sq, bias_weight, floor_eps, safe_increment, safe_sqrt
from .._trees.map import map_leaves, zeros_like
from .._trees.precision import step_dtype
from .._types import Count, Leaf, Params, RealLeaf, ScalarArray, Updates


def _adam(
    updates: Leaf,
    mu: Leaf,
    nu: RealLeaf,
    b1: ScalarArray,
    b2: ScalarArray,
    mu_gain: ScalarArray,
    nu_gain: ScalarArray,
    eps: ScalarArray,
    eps_root: ScalarArray,
    mu_scale: ScalarArray,
    nu_scale: ScalarArray,
    mu_scale_next: ScalarArray,
    *,
    nesterov: bool,
) -> tuple[Leaf, Leaf, RealLeaf]:
    mu = b1 * mu + mu_gain * updates
    nu = b2 * nu + nu_gain * abs_sq(updates)
    mu_hat = b1 * mu * mu_scale_next + mu_gain * updates * mu_scale if nesterov else mu * mu_scale
    return mu_hat / (safe_sqrt(nu * nu_scale + eps_root) + eps), mu, nu


@functools.partial(jax.jit, static_argnames="dtype", inline=True)
def _once_per_step(
    count: Count, b1: ArrayLike, b2: ArrayLike, eps: ArrayLike, eps_root: ArrayLike, dtype: DTypeLike
) -> tuple[Count, dict[str, ScalarArray]]:
    """The new count, and all that is the same for every entry; reciprocals spare two divisions an entry."""
    b1, b2, eps, eps_root = (jnp.asarray(value).astype(dtype) for value in (b1, b2, eps, eps_root))
    count = safe_increment(count)
    return count, {
        "b1": b1,
        "b2": b2,
        "mu_gain": 1 - b1,
        "nu_gain": 1 - b2,
        "eps": floor_eps(eps, outside=True),
        "eps_root": eps_root,
        "mu_scale": 1 / bias_weight(b1, count, dtype),
        "nu_scale": 1 / bias_weight(b2, count, dtype),
        "mu_scale_next": 1 / bias_weight(b1, safe_increment(count), dtype),
    }


class ScaleByAdamState(NamedTuple):
    """State of `scale_by_adam`."""

    count: Count
    """Number of updates."""
    mu: Updates
    """Decaying mean of gradients, like the parameters."""
    nu: Updates
    """Decaying mean of squared gradients, like the parameters, real."""


class scale_by_adam(GradientTransformation):
    r"""Divide the average gradient by the running root mean square, both bias-corrected.

    $$m_t = \beta_1 m_{t-1} + (1-\beta_1) g_t, \quad v_t = \beta_2 v_{t-1} + (1-\beta_2)|g_t|^2, \quad
    u_t = \frac{m_t/(1-\beta_1^t)}{\sqrt{v_t/(1-\beta_2^t) + \bar\epsilon} + \epsilon}$$

    With `nesterov` the numerator is $\beta_1 m_t/(1-\beta_1^{t+1}) + (1-\beta_1) g_t/(1-\beta_1^t)$ (NAdam).

    State: `count`, int32; `mu` and `nu`, like `params` (float32 for half-precision; `nu` real for complex
    params): two copies.
    Units: $u_t$ has none; $|u_t|$ is about 1, exactly 1 at the first step if eps is small. Keeps the sign of $m_t$.
    Where a square overflows (from 2e19 on in float32), its mean is infinite and updates are 0 from then on.

    Args:
        b1: Decay of the mean gradient, in [0, 1). Per step.
        b2: Decay of the mean squared gradient, in [0, 1). Per step.
        eps: Outside the root. Unit: gradient.
        eps_root: Inside the root. Unit: gradient squared.
        mu_dtype: The dtype of `mu`, in place of the parameters' (float32 for half precision).
        nesterov: Whether to look one step ahead, as NAdam.

    Raises:
        ValueError: if `b1` or `b2` is outside [0, 1), or `eps` or `eps_root` is negative.

    Source: Kingma and Ba, 2015; Dozat, 2016, for `nesterov`.
    Differs: NAdam's paper multiplies v-hat by beta_2 and schedules the momentum; like optax we do neither.
    """

    b1: Decay = 0.9
    b2: Decay = 0.999
    eps: NonNegative = 1e-8
    eps_root: NonNegative = 0.0
    mu_dtype: DType = None
    _: KW_ONLY
    nesterov: bool = False

    def init(self, params: Params) -> ScaleByAdamState:
        nu = zeros_like(params, real=True)
        return ScaleByAdamState(jnp.zeros([], jnp.int32), zeros_like(params, self.mu_dtype), nu)

    def update(
        self, updates: Updates, state: ScaleByAdamState, params: Params | None = None
    ) -> tuple[Updates, ScaleByAdamState]:
        dtype = step_dtype(updates)
        count, factors = _once_per_step(state.count, self.b1, self.b2, self.eps, self.eps_root, dtype)
        trees = {"updates": updates, "mu": state.mu, "nu": state.nu}
        updates, mu, nu = map_leaves(_adam, trees, nesterov=self.nesterov, **factors)
        return updates, ScaleByAdamState(count, mu, nu)
