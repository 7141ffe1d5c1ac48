"""What is read off a comparison of batch sizes."""

from __future__ import annotations

import numpy as np
import xarray as xr

from experiments.statistics import Values

LAST = 0.25
"""Of the examples of a run: where its fluctuation is read."""


def size_name(results: xr.Dataset, size: int) -> str:
    """What tables and pictures call a batch size."""
    if size == 1:
        return "1 (online)"
    return f"{size:,} (full)" if size == results.batch_size[-1] else f"{size:,}"


def last_loss(results: xr.Dataset, size: int) -> Values:
    """The training loss after all examples, by seed."""
    return _known(results, size).isel(examples=-1).values.astype(np.float64)


def fluctuation(results: xr.Dataset, size: int) -> Values:
    """The loss's standard deviation from a line over the last quarter of the run, by seed; NaN where it diverged."""
    off = deviation(results, size)
    count = off.sizes["examples"]
    if count < 3:
        return np.full(off.sizes["seed"], np.nan)
    return np.sqrt((off**2).sum("examples", skipna=False).values / (count - 2))


def deviation(results: xr.Dataset, size: int) -> xr.DataArray:
    """The loss minus the line that fits it best, over the last quarter of the run: (seed, examples)."""
    loss = _known(results, size)
    late = loss.where(loss.examples > (1 - LAST) * float(results.examples[-1]), drop=True)
    x = late.examples.values / float(results.examples[-1])
    design = np.stack([np.ones_like(x), x], axis=-1)
    y = late.values.astype(np.float64).T
    return late.copy(data=(y - design @ (np.linalg.pinv(design) @ y)).T)


def to_reach(loss: xr.DataArray, target: float) -> float:
    """Examples until the mean loss over seeds is first at most the target; infinite if it never is."""
    mean = loss.mean("seed", skipna=False)
    reached = mean.examples.values[mean.values <= target]
    return float(reached[0]) if len(reached) else float("inf")


def theory(results: xr.Dataset, point: str, size: int) -> float:
    """The variance of a mini-batch gradient, drawn without replacement, by that of single examples."""
    count = int(results.batch_size[-1])
    return float(results.population_variance.sel(point=point).mean()) * (count - size) / ((count - 1) * size)


def _known(results: xr.Dataset, size: int) -> xr.DataArray:
    """The loss (seed, examples) at the checkpoints that this batch size has; the last one is the end of the run."""
    loss = results.loss.sel(batch_size=size).transpose("seed", "examples")
    has = np.isfinite(loss.values).any(axis=0)
    has[-1] = True
    return loss[:, has]
