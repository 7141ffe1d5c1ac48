"""What is read off the solver settings: the table beside the published one, and how alike the two orders are."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.stats import kendalltau, rankdata

from experiments import readings
from experiments.comparison import DEFAULT
from experiments.readings import final_accuracies
from experiments.solvers import PUBLISHED, fair, published
from experiments.statistics import Interval, Values, mean_interval
from experiments.study import Table
from experiments.verdicts import counted

NOTE = (
    "Testing errors in %. Published: single runs of the torch-residual-networks code, with 50,000 training images "
    "(the study calls them training errors). Ours: mean over seeds, 95 % interval by Student's t, on one fixed test "
    "split; a run that diverged counts as 100. Order: of the settings by error, 1 the best. Training loss: on all "
    "training images after the last epoch, in nats."
)


def errors(results: xr.Dataset, model: str) -> dict[str, Values]:
    """Testing errors of each setting as published, by seed; 1 for a run that diverged."""
    accuracies = counted(final_accuracies(published(results), model, DEFAULT))
    return {name: 1 - accuracy for name, accuracy in accuracies.items()}


def orders_alike(found: dict[str, Values]) -> tuple[Values, Interval]:
    """Kendall's tau-b between table 1's order and that of each seed's runs; and the interval of its mean.

    Single runs are compared with single runs, which is what the published order is of.
    """
    table = [PUBLISHED[name].resnet110 for name in found]
    seeds = np.array(list(found.values())).T
    # Where all runs of a seed are equal there is no order, and so nothing in common with another.
    taus = np.array([np.nan_to_num(np.asarray(kendalltau(table, one))[0]) for one in seeds])
    return taus, mean_interval(taus).clipped(-1.0, 1.0)


def tables(results: xr.Dataset) -> list[Table]:
    """Table 1 beside ours, for each network; then the tuned methods."""
    models = [str(name) for name in results.published_model.values]
    return [*(_table(results, model) for model in models), *readings.tables(fair(results))]


def _table(results: xr.Dataset, model: str) -> Table:
    found = errors(results, model)
    means = {name: float(values.mean()) for name, values in found.items()}
    ours = dict(zip(means, rankdata(list(means.values()), "min"), strict=True))
    theirs = dict(zip(found, rankdata([PUBLISHED[name].resnet110 for name in found], "min"), strict=True))
    one = published(results).sel(model=model, track=DEFAULT)
    rows = []
    for name in sorted(found, key=lambda name: PUBLISHED[name].resnet110):
        setting = one.sel(optimizer=name)
        interval = mean_interval(found[name]).clipped(0.0, 1.0)
        rows.append(
            (
                name,
                f"{100 * PUBLISHED[name].resnet110:.2f}",
                _percent(PUBLISHED[name].resnet20),
                f"{100 * means[name]:.2f}",
                f"{100 * interval.low:.2f} to {100 * interval.high:.2f}" if np.isfinite(interval.low) else "–",
                f"{theirs[name]:.0f}",
                f"{ours[name]:.0f}",
                f"{float(setting.full_train_loss.isel(tested_epoch=-1).mean()):.3g}",
                f"{int(setting.diverged.sum())} of {setting.sizes['seed']}",
            )
        )
    columns = (
        "solver (rate)", "ResNet-110, published", "ResNet-20, published", "ours", "95 % interval", "order, published",
        "order, ours", "training loss", "diverged",
    )  # fmt: skip
    return Table(f"Table 1 beside ours: {model}", columns, rows, NOTE)


def _percent(error: float) -> str:
    return f"{100 * error:.2f}" if np.isfinite(error) else "–"
