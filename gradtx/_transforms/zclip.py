r"""Clipping by history: a norm that is far above those of late is a spike."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._core.contract import GradientTransformation
from .._core.fields import Decay, NonNegative, Positive
from .._core.schedule import value_at
from .._maths import floor_eps, safe_divisor, safe_increment, safe_sqrt
from .._trees.map import map_leaves
from .._trees.precision import step_dtype
from .._trees.vectors import tree_where
from .._types import Count, Params, ScalarArray, Updates
from .clip import global_norm, shrink


class ZClipState(NamedTuple):
    """State of `zclip`."""

    count: Count
    """Number of norms that were finite."""
    mean: ScalarArray
    """Mean of norms: of all during the warm-up, then decaying."""
    deviation: ScalarArray
    """Standard deviation of norms, likewise."""
    norm: ScalarArray
    """The last norm, before clipping."""
    clipped: Count
    """Number of updates that were clipped."""

    def _report(self) -> dict[str, jax.Array]:
        return {"norm": self.norm, "mean_norm": self.mean, "clip_fraction": self.clipped / jnp.maximum(self.count, 1)}


def _hypotenuse(x: ScalarArray, y: ScalarArray) -> ScalarArray:
    """The root of the sum of squares, of which none leaves the range of floats: norms may be large."""
    largest = jax.lax.stop_gradient(safe_divisor(jnp.maximum(jnp.abs(x), jnp.abs(y))))
    return largest * safe_sqrt(jnp.square(x / largest) + jnp.square(y / largest))


@jax.jit
def _next(
    state: ZClipState,
    norm: ScalarArray,
    decay: ScalarArray,
    z_threshold: ScalarArray,
    warmup_steps: ScalarArray,
    eps: ScalarArray,
) -> tuple[ScalarArray, ZClipState]:
    """The bound for this norm, and the state after it."""
    warm = jnp.asarray(state.count).astype(norm.dtype) >= warmup_steps
    score = (norm - state.mean) / (state.deviation + floor_eps(eps, outside=True))
    is_spike = warm & (score > z_threshold)
    # The branch that is not taken is differentiated too.
    bound = state.mean + state.deviation * z_threshold * (z_threshold / jnp.where(is_spike, score, z_threshold))
    kept = jnp.where(is_spike, bound, norm)

    count = safe_increment(state.count)
    first = 1 / count.astype(norm.dtype)
    mean = jnp.where(warm, decay * state.mean + (1 - decay) * kept, state.mean + (kept - state.mean) * first)
    # Of all so far: Welford, 1962, whose product is the square of one difference times 1 - 1/t.
    old, add = jnp.where(warm, decay, 1 - first), jnp.where(warm, 1 - decay, first * (1 - first))
    deviation = _hypotenuse(
        safe_sqrt(old) * state.deviation, safe_sqrt(add) * (kept - jnp.where(warm, mean, state.mean))
    )
    clipped = jnp.where(is_spike, safe_increment(state.clipped), state.clipped)
    new = ZClipState(count, mean, deviation, norm, clipped)
    # A norm that is not finite says nothing of others, and would stay in the averages for good.
    new = tree_where(jnp.isfinite(norm), new, state)
    return kept, new._replace(norm=norm)


class zclip(GradientTransformation):
    r"""Shrink updates whose norm is a spike against the norms of late (ZClip).

    $$z = \frac{\lVert g_t\rVert - \mu}{\sigma + \epsilon}, \qquad
    u_t = g_t \frac{\mu + \sigma z_0^2 / z}{\lVert g_t\rVert} \;\text{ where } z > z_0, \text{ else } g_t$$

    Here $\mu$ and $\sigma$ are the mean and the standard deviation of the norms so far.

    The larger the spike, the nearer to the mean is the norm of $u_t$, which $\mu$ and $\sigma^2$ then take in, with
    decay $\alpha$. During the warm-up nothing is clipped, and they are those of all norms.

    State: `count` and `clipped`, int32; `mean`, `deviation` and `norm`, scalars of float32 (float64 if a parameter is).
    Units: as the gradient. Keeps its direction; does not depend on its unit, but for `eps`.
    A norm that is not finite is not taken in, and not hidden: see `clip_by_global_norm`.
    `gradtx.report` shows the norm, its mean and the fraction of updates that were clipped.

    Args:
        decay: alpha, in [0, 1). Per step.
        z_threshold: z_0 > 0, in standard deviations.
        warmup_steps: Norms to see before anything is clipped, more than 0.
        eps: Added to the standard deviation. Unit: gradient.

    Raises:
        ValueError: if `decay` is outside [0, 1), `z_threshold` or `warmup_steps` is not positive, or `eps` is negative.

    Source: Kumar et al., 2025, arXiv:2504.02507. Differs from its code: no fixed bound on top, for which there is
    `clip_by_global_norm` after it.
    """

    decay: Decay = 0.97
    z_threshold: Positive = 2.5
    warmup_steps: Positive = 25.0
    eps: NonNegative = 1e-6

    def init(self, params: Params) -> ZClipState:
        def zero() -> jax.Array:
            return jnp.zeros([], step_dtype(params))

        return ZClipState(jnp.zeros([], jnp.int32), zero(), zero(), zero(), jnp.zeros([], jnp.int32))

    def update(self, updates: Updates, state: ZClipState, params: Params | None = None) -> tuple[Updates, ZClipState]:
        dtype = state.mean.dtype
        names = ("decay", "z_threshold", "warmup_steps", "eps")
        numbers = {name: jnp.asarray(value_at(name, getattr(self, name), 0, dtype)) for name in names}
        norm = global_norm(updates)
        bound, new = _next(state, norm.astype(dtype), **numbers)
        return map_leaves(shrink, {"updates": updates}, norm=norm, max_norm=bound), new
