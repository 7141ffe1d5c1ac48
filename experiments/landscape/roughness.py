r"""How much of a surface is plateau, and how rough it is: two numbers from 0 to 1.

Both are of the logarithm of the loss, which spans decades, and of a square whose side counts as 1: another unit of the
loss or of the plane changes neither, but for the height of a plateau, which is in nats.

**Plateau.** A point is on a plateau if its loss is at least half of what guessing costs, $\ln 10 / 2$, and the slope of
$\ln L$ is below 1 a side: at this slope, crossing the whole square would not even change the loss by a factor of e. The
measure is the share of points on one.

**Roughness.** Along a row or a column that is one valley, the loss falls to its least value and rises again, so that
its total variation is (first - least) + (last - least). Roughness is the share of the variation, over all rows and
columns, that is more than that: 0 means that each is a single valley.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

GUESSING = float(np.log(10))
HIGH = 0.5
"""Of `GUESSING`, from which a loss is high."""
FLAT = 1.0
"""Slope of the logarithm a side, below which a surface is flat."""
LEAST = 1e-6
"""Nats, below which losses count as equal; float32 tells them from 0 no better."""

Surface = Float[np.ndarray, "*surfaces rows columns"]


def on_plateau(loss: Surface, high: float = HIGH, flat: float = FLAT) -> Bool[np.ndarray, "*surfaces rows columns"]:
    """Which points are high and flat. None whose loss is not finite is, and none beside it.

    Args:
        loss: In nats, over an evenly spaced square.
        high: A part of what guessing costs.
        flat: Slope of the logarithm a side.
    """
    logs = _logs(loss)
    with np.errstate(invalid="ignore"):  # inf beside inf
        slopes = [np.gradient(logs, 1 / (logs.shape[axis] - 1), axis=axis) for axis in (-2, -1)]
        return np.isfinite(loss) & (loss >= high * GUESSING) & (np.hypot(*slopes) < flat)


def plateau_share(loss: Surface, high: float = HIGH, flat: float = FLAT) -> Float[np.ndarray, "*surfaces"]:
    """The share of points on a plateau; NaN where the surface has no loss anywhere."""
    share = on_plateau(loss, high, flat).mean((-2, -1))
    return np.where(np.isfinite(loss).any((-2, -1)), share, np.nan)


def roughness(loss: Surface) -> Float[np.ndarray, "*surfaces"]:
    """The share of the variation that is more than a valley's; 0 if all losses are equal, NaN if one is not finite."""
    logs = _logs(loss)
    variation, valley = np.zeros(loss.shape[:-2]), np.zeros(loss.shape[:-2])
    with np.errstate(invalid="ignore"):
        for axis in (-2, -1):
            lines = np.moveaxis(logs, axis, -1)
            least = lines.min(axis=-1)
            variation += np.abs(np.diff(lines, axis=-1)).sum((-2, -1))
            valley += (lines[..., 0] + lines[..., -1] - 2 * least).sum(-1)
        share = np.where(variation > 0, 1 - valley / np.where(variation > 0, variation, 1), 0.0)
    return np.where(np.isfinite(loss).all((-2, -1)), np.maximum(share, 0.0), np.nan)


def _logs(loss: Surface) -> Surface:
    return np.log(np.maximum(np.asarray(loss, np.float64), LEAST))
