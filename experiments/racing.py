"""A race of all optimizers on a surface, as written and as coded: over many learning rates, and the paths of a few."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import xarray as xr

import gradtx
from experiments.printed import VERSIONS
from experiments.study import Context
from experiments.surfaces import Surface, each, trajectories

RATES = tuple(float(f"{rate:.6g}") for rate in np.logspace(-3, 3, 49))
"""From 0.001 to 1,000, eight a decade. Rounded: the last bits of a power differ between versions of numpy."""


@dataclass(frozen=True)
class Race:
    """A tier.

    Attributes:
        steps: Of the race.
        rates: The learning rates of the race, the same for all.
        shown_steps, shown_rates: Of the paths that are kept whole.
    """

    steps: int
    rates: tuple[float, ...]
    shown_steps: int
    shown_rates: tuple[float, ...]
    estimate: str = field(repr=False)
    scale: str = field(default="", repr=False)


def run(surface: Surface, measure: Callable[[xr.Dataset], xr.Dataset], tier: Race, context: Context) -> xr.Dataset:
    """The labelled results.

    Args:
        surface: Where.
        measure: Takes paths over learning_rate and step, and tells what is raced for.
        tier: How much.
        context: What the run is given.

    Returns:
        What `measure` told (version, optimizer, learning_rate), and `x`, `y`, `loss` (version, optimizer, shown_rate,
        step).
    """

    def paths(tx: gradtx.GradientTransformation) -> xr.Dataset:
        # One program for the race and for what is shown: compiling takes longer than running.
        path = trajectories(surface, tx, tier.steps, learning_rate=sorted({*tier.rates, *tier.shown_rates}))
        seen = path[["x", "y", "loss"]].sel(learning_rate=list(tier.shown_rates)).isel(step=slice(tier.shown_steps + 1))
        return xr.merge([seen.rename(learning_rate="shown_rate"), measure(path.sel(learning_rate=list(tier.rates)))])

    done: list[xr.Dataset] = []
    for version in VERSIONS:
        context.progress.describe(version)
        done.append(context.store.part(version, lambda _, version=version: each(VERSIONS[version], paths)))
    return xr.concat(done, xr.IndexVariable("version", list(VERSIONS)), combine_attrs="drop")


def expected(tier: Race) -> Mapping[str, float]:
    """The parts: one a version."""
    return dict.fromkeys(VERSIONS, 1.0)
