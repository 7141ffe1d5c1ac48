r"""Divide by the size of past gradients: a decaying mean of squares, its centred form, or the sum of squares."""

from __future__ import annotations

import functools
from dataclasses import KW_ONLY
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from .._core.contract import GradientTransformation
from .._core.fields import Decay, NonNegative
from .._maths import abs_sq, bias_weight, floor_eps, safe_increment, safe_sqrt
from .._trees.map import map_leaves, zeros_like
from .._trees.precision import scalar, step_dtype
from .._types import Count, Leaf, Params, RealLeaf, ScalarArray, Updates


def _root(square: RealLeaf, eps: ScalarArray, *, eps_in_sqrt: bool) -> RealLeaf:
    """The divisor: sqrt(square + eps) or sqrt(square) + eps; never 0, since eps is positive."""
    return safe_sqrt(square + eps) if eps_in_sqrt else safe_sqrt(square) + eps


def _rms(
    updates: Leaf,
    nu: RealLeaf,
    decay: ScalarArray,
    gain: ScalarArray,
    eps: ScalarArray,
    scale: ScalarArray,
    *,
    eps_in_sqrt: bool,
) -> tuple[Leaf, RealLeaf]:
    nu = decay * nu + gain * abs_sq(updates)
    return updates / _root(nu * scale, eps, eps_in_sqrt=eps_in_sqrt), nu


def _stddev(
    updates: Leaf,
    mu: Leaf,
    nu: RealLeaf,
    decay: ScalarArray,
    gain: ScalarArray,
    eps: ScalarArray,
    scale: ScalarArray,
    *,
    eps_in_sqrt: bool,
) -> tuple[Leaf, Leaf, RealLeaf]:
    mu = decay * mu + gain * updates
    nu = decay * nu + gain * abs_sq(updates)
    # A difference of nearly equal numbers where the gradient hardly changes: rounding can make it negative, about
    # -1e-7 of nu in float32, and its root NaN.
    variance = jnp.maximum(nu * scale - abs_sq(mu * scale), 0)
    return updates / _root(variance, eps, eps_in_sqrt=eps_in_sqrt), mu, nu


def _rss(updates: Leaf, sum_of_squares: RealLeaf, eps: ScalarArray, *, eps_in_sqrt: bool) -> tuple[Leaf, RealLeaf]:
    sum_of_squares = sum_of_squares + abs_sq(updates)
    return updates / _root(sum_of_squares, eps, eps_in_sqrt=eps_in_sqrt), sum_of_squares


def _fill(params: RealLeaf, value: ScalarArray) -> RealLeaf:
    return params + value


def _filled(params: Params, value: ArrayLike) -> Updates:
    return map_leaves(_fill, {"params": zeros_like(params, real=True)}, value=value)


@functools.partial(jax.jit, static_argnames=("eps_in_sqrt", "dtype"), inline=True)
def _once_per_step(
    count: Count | None, decay: ArrayLike, eps: ArrayLike, *, eps_in_sqrt: bool, dtype: DTypeLike
) -> tuple[Count | None, dict[str, ScalarArray]]:
    """The new count, and what is the same for every entry; without a count, means are not corrected for their start."""
    decay, eps = jnp.asarray(decay).astype(dtype), jnp.asarray(eps).astype(dtype)
    count = None if count is None else safe_increment(count)
    scale = jnp.ones([], dtype) if count is None else 1 / bias_weight(decay, count, dtype)
    return count, {"decay": decay, "gain": 1 - decay, "eps": floor_eps(eps, outside=not eps_in_sqrt), "scale": scale}


class ScaleByRmsState(NamedTuple):
    """State of `scale_by_rms`."""

    nu: Updates
    """Decaying mean of squared gradients, like the parameters, real."""


class ScaleByRmsWithCountState(NamedTuple):
    """State of `scale_by_rms` with `bias_correction`."""

    count: Count
    """Number of updates."""
    nu: Updates
    """Decaying mean of squared gradients, like the parameters, real; not corrected."""


class ScaleByRStdDevState(NamedTuple):
    """State of `scale_by_stddev`."""

    mu: Updates
    """Decaying mean of gradients, like the parameters."""
    nu: Updates
    """Decaying mean of squared gradients, like the parameters, real."""


class ScaleByRStdDevWithCountState(NamedTuple):
    """State of `scale_by_stddev` with `bias_correction`."""

    count: Count
    """Number of updates."""
    mu: Updates
    """Decaying mean of gradients, like the parameters; not corrected."""
    nu: Updates
    """Decaying mean of squared gradients, like the parameters, real; not corrected."""


class ScaleByRssState(NamedTuple):
    """State of `scale_by_rss`."""

    sum_of_squares: Updates
    """Sum of squared gradients, like the parameters, real."""


class scale_by_rms(GradientTransformation):
    r"""Divide by the running root mean square (RMSProp).

    $$v_t = \rho v_{t-1} + (1-\rho)|g_t|^2, \qquad u_t = g_t / \sqrt{v_t + \epsilon}$$

    State: `nu`, like `params` (float32 for half-precision, real for complex params): one copy; and `count`, int32,
    if `bias_correction`.
    Units: $u_t$ has none; $|u_t|$ is about 1, and $1/\sqrt{1-\rho}$ at the first step. Keeps the gradient's sign.
    Where a square overflows (from 2e19 on in float32), its mean is infinite and updates are 0 from then on.

    Args:
        decay: rho, in [0, 1). Per step.
        eps: Inside the root (outside if not `eps_in_sqrt`). Unit: gradient squared (gradient).
        initial_scale: v_0 >= 0. Unit: gradient squared.
        eps_in_sqrt: Whether eps stands inside the root.
        bias_correction: Whether to divide v_t by 1 - rho^t first, as Adam does.

    Raises:
        ValueError: if `decay` is outside [0, 1), or `eps` or `initial_scale` is negative.

    Source: Hinton, lecture 6e, 2012. Differs: the lecture gives no epsilon.
    """

    decay: Decay = 0.9
    eps: NonNegative = 1e-8
    initial_scale: NonNegative = 0.0
    eps_in_sqrt: bool = True
    bias_correction: bool = False

    def _state_classes(self) -> tuple[type, ...]:
        return (ScaleByRmsWithCountState if self.bias_correction else ScaleByRmsState,)

    def init(self, params: Params) -> ScaleByRmsState | ScaleByRmsWithCountState:
        nu = _filled(params, self.initial_scale)
        return ScaleByRmsWithCountState(jnp.zeros([], jnp.int32), nu) if self.bias_correction else ScaleByRmsState(nu)

    def update(
        self, updates: Updates, state: ScaleByRmsState | ScaleByRmsWithCountState, params: Params | None = None
    ) -> tuple[Updates, ScaleByRmsState | ScaleByRmsWithCountState]:
        count, factors = _once_per_step(
            state.count if isinstance(state, ScaleByRmsWithCountState) else None,
            self.decay,
            self.eps,
            eps_in_sqrt=self.eps_in_sqrt,
            dtype=step_dtype(updates),
        )
        trees = {"updates": updates, "nu": state.nu}
        updates, nu = map_leaves(_rms, trees, eps_in_sqrt=self.eps_in_sqrt, **factors)
        return updates, ScaleByRmsState(nu) if count is None else ScaleByRmsWithCountState(count, nu)


class scale_by_stddev(GradientTransformation):
    r"""Divide by the running standard deviation (centred RMSProp).

    $$m_t = \rho m_{t-1} + (1-\rho) g_t, \quad v_t = \rho v_{t-1} + (1-\rho)|g_t|^2, \quad
    u_t = g_t / \sqrt{v_t - |m_t|^2 + \epsilon}$$

    State: `mu` and `nu`, like `params` (float32 for half-precision; `nu` real for complex params): two copies; and
    `count`, int32, if `bias_correction`.
    Units: $u_t$ has none; $1/\sqrt{\rho(1-\rho)}$ at the first step. Keeps the gradient's sign. Where the gradient
    hardly changes, $u_t$ grows to $g_t/\sqrt\epsilon$; with `bias_correction` it is that at the first step.
    Where a square overflows (from 2e19 on in float32), its mean is infinite and updates are 0 from then on.

    Args:
        decay: rho, of both means, in [0, 1). Per step.
        eps: Inside the root (outside if not `eps_in_sqrt`). Unit: gradient squared (gradient).
        initial_scale: v_0 >= 0. Unit: gradient squared.
        eps_in_sqrt: Whether eps stands inside the root.
        bias_correction: Whether to divide m_t and v_t by 1 - rho^t first, as Adam does.

    Raises:
        ValueError: if `decay` is outside [0, 1), or `eps` or `initial_scale` is negative.

    Source: Graves, Generating Sequences With Recurrent Neural Networks, 2013, equations 38 to 40.
    Differs: a variance that rounding makes negative counts as 0; in optax the update may be NaN there.
    """

    decay: Decay = 0.9
    eps: NonNegative = 1e-8
    initial_scale: NonNegative = 0.0
    eps_in_sqrt: bool = True
    bias_correction: bool = False

    def _state_classes(self) -> tuple[type, ...]:
        return (ScaleByRStdDevWithCountState if self.bias_correction else ScaleByRStdDevState,)

    def init(self, params: Params) -> ScaleByRStdDevState | ScaleByRStdDevWithCountState:
        mu, nu = zeros_like(params), _filled(params, self.initial_scale)
        if self.bias_correction:
            return ScaleByRStdDevWithCountState(jnp.zeros([], jnp.int32), mu, nu)
        return ScaleByRStdDevState(mu, nu)

    def update(
        self, updates: Updates, state: ScaleByRStdDevState | ScaleByRStdDevWithCountState, params: Params | None = None
    ) -> tuple[Updates, ScaleByRStdDevState | ScaleByRStdDevWithCountState]:
        count, factors = _once_per_step(
            state.count if isinstance(state, ScaleByRStdDevWithCountState) else None,
            self.decay,
            self.eps,
            eps_in_sqrt=self.eps_in_sqrt,
            dtype=step_dtype(updates),
        )
        trees = {"updates": updates, "mu": state.mu, "nu": state.nu}
        updates, mu, nu = map_leaves(_stddev, trees, eps_in_sqrt=self.eps_in_sqrt, **factors)
        return updates, ScaleByRStdDevState(mu, nu) if count is None else ScaleByRStdDevWithCountState(count, mu, nu)


class scale_by_rss(GradientTransformation):
    r"""Divide by the root of the sum of squares (Adagrad).

    $$G_t = G_{t-1} + |g_t|^2, \qquad u_t = g_t / \sqrt{G_t + \epsilon}$$

    State: `sum_of_squares`, like `params` (float32 for half-precision, real for complex params): one copy.
    Units: $u_t$ has none; $|u_t| \le 1$, falling as $1/\sqrt t$. Keeps the gradient's sign. Where every gradient
    was 0 the update is 0.
    Where a square overflows (from 2e19 on in float32), its mean is infinite and updates are 0 from then on.

    Args:
        initial_accumulator_value: G_0 >= 0. Unit: gradient squared. The paper has 0; at 0.1 the first steps of
            small gradients are small.
        eps: Inside the root (outside if not `eps_in_sqrt`). Unit: gradient squared (gradient).
        eps_in_sqrt: Whether eps stands inside the root, as in optax; in the paper and PyTorch it is outside.

    Raises:
        ValueError: if `initial_accumulator_value` or `eps` is negative.

    Source: Duchi, Hazan and Singer, 2011.
    """

    initial_accumulator_value: NonNegative = 0.1
    eps: NonNegative = 1e-7
    _: KW_ONLY
    eps_in_sqrt: bool = True

    def init(self, params: Params) -> ScaleByRssState:
        return ScaleByRssState(_filled(params, self.initial_accumulator_value))

    def update(
        self, updates: Updates, state: ScaleByRssState, params: Params | None = None
    ) -> tuple[Updates, ScaleByRssState]:
        eps = floor_eps(scalar(self.eps, step_dtype(updates)), outside=not self.eps_in_sqrt)
        trees = {"updates": updates, "sum_of_squares": state.sum_of_squares}
        updates, total = map_leaves(_rss, trees, eps=eps, eps_in_sqrt=self.eps_in_sqrt)
        return updates, ScaleByRssState(total)
