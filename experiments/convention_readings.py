"""What is read off a comparison of conventions."""

from __future__ import annotations

import xarray as xr

from experiments.conventions import BASE, VARIANTS, full_name
from experiments.readings import final_accuracies
from experiments.statistics import Interval, paired
from experiments.verdicts import counted

MARGIN = 0.005
"""Of test accuracy, within which two conventions are called the same."""


def differences(results: xr.Dataset, model: str, track: str, tests: int = 1) -> dict[str, Interval]:
    """Each variant's test accuracy minus that of the same optimizer by the base convention; `tests` as in `paired`."""
    accuracies = counted(final_accuracies(results, model, track))
    return {
        full_name(optimizer, convention): paired(
            accuracies[full_name(optimizer, convention)], accuracies[full_name(optimizer, BASE)], tests
        )
        for optimizer, variants in VARIANTS.items()
        for convention in variants
        if convention != BASE
    }
