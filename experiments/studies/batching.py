"""How many examples should a step see? All of them, one, or a mini-batch (the study's overview of gradient descent).

Softmax regression by plain gradient descent. Each batch size has its learning rate tuned with the same budget, and sees
the same number of examples.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from experiments import batch_pictures
from experiments.batch_readings import fluctuation, last_loss, size_name, theory, to_reach
from experiments.batch_sizes import Batching, expected, run
from experiments.statistics import Interval, Values, mean_interval, paired
from experiments.study import Claim, Study, Table, TierName, Verdict
from experiments.tuning import Grid


def tables(results: xr.Dataset) -> list[Table]:
    """A row a batch size; then the noise."""
    target = float(last_loss(results, int(results.batch_size[-1])).mean())
    rows = []
    for size in results.batch_size.values:
        one = results.sel(batch_size=size)
        last, moves = mean_interval(last_loss(results, size)), mean_interval(fluctuation(results, size))
        seen = to_reach(one.loss, target)
        rows.append(
            (
                size_name(results, size),
                f"{float(one.learning_rate):g}" + "*" * bool(one.at_edge),
                f"{last.mean:.4f}",
                f"{last.low:.4f} to {last.high:.4f}",
                f"{moves.mean:.4f}",
                f"{100 * float(one.test_accuracy.mean()):.2f}",
                f"{seen:.0f}" if np.isfinite(seen) else "–",
                f"{seen * float(one.example_seconds):.2g}" if np.isfinite(seen) else "–",
                f"{1 / float(one.example_seconds):,.0f}",
            )
        )
    note = (
        f"Loss: on all {int(results.batch_size[-1]):,} training images after {int(results.examples[-1]):,} examples, "
        "mean over seeds and its 95 % interval. Fluctuation: of that loss over the last quarter of the run, its "
        "standard deviation from a line, over checkpoints. To target: examples and seconds until the mean loss is "
        "first at most the full batch's last. Seconds: of one run, measured without evaluation, the quickest epoch of "
        "several. * At an edge of the grid even after it was extended."
    )
    columns = (
        "batch", "learning rate", "loss", "95 % interval", "fluctuation", "test, %", "examples to target",
        "seconds to target", "examples a second",
    )  # fmt: skip
    noise = [
        (f"{size:,}", *(_noise_cell(results, str(point), size) for point in results.point.values))
        for size in results.noise_size.values
    ]
    headings = ("batch", *(f"variance {point} (theory)" for point in results.point.values))
    about = (
        "Mean squared distance of a mini-batch gradient from the full one, mean over seeds. Theory: the variance over "
        "single examples, divided by the batch size, for drawing without replacement."
    )
    return [
        Table("Batch sizes, each at its tuned rate", columns, rows, note),
        Table("Gradient noise", headings, noise, about),
    ]


def _noise_cell(results: xr.Dataset, point: str, size: int) -> str:
    measured = float(results.variance.sel(point=point, noise_size=size).mean())
    return f"{measured:.3g} ({float(theory(results, point, size)):.3g})"


def less_gradient_variance(results: xr.Dataset) -> Verdict:
    """Decide B1."""
    variance = results.variance.mean("point").transpose("noise_size", "seed")
    return _less("the gradient", results, {size: variance.sel(noise_size=size).values for size in _not_full(results)})


def less_fluctuation(results: xr.Dataset) -> Verdict:
    """Decide B4."""
    return _less(
        "the loss at tuned rates", results, {size: fluctuation(results, size) ** 2 for size in _not_full(results)}
    )


def _not_full(results: xr.Dataset) -> list[int]:
    return [int(size) for size in results.batch_size.values[:-1]]


def _less(what: str, results: xr.Dataset, variances: dict[int, Values]) -> Verdict:
    """Whether a variance is less than online learning's, for all mini-batches."""
    online, *minis = variances

    def ratios(tests: int) -> list[Interval]:
        return [paired(np.log(variances[size]), np.log(variances[online]), tests) for size in minis]

    told = [
        f"batch {size:,} {np.exp(mean):.2g} [{np.exp(low):.2g}, {np.exp(high):.2g}]"
        for size, (mean, low, high) in zip(minis, ratios(1), strict=True)
    ]
    effect = f"Variance of {what}, as a multiple of online learning's: {', '.join(told)}."
    if any(one.low > 0 for one in ratios(len(minis))):
        return Verdict("refuted", effect)
    return Verdict("supported" if all(one.high < 0 for one in ratios(1)) else "inconclusive", effect)


def full_batch_is_slower(results: xr.Dataset) -> Verdict:
    """Decide B2."""
    *smaller, full = (int(size) for size in results.batch_size.values)

    def gaps(tests: int) -> list[Interval]:
        return [paired(last_loss(results, full), last_loss(results, size), tests) for size in smaller]

    told = [
        f"{size_name(results, size)} {one.mean:+.4f} [{one.low:+.4f}, {one.high:+.4f}]"
        for size, one in zip(smaller, gaps(1), strict=True)
    ]
    effect = (
        f"Training loss of the full batch after {int(results.examples[-1]):,} examples, "
        f"{last_loss(results, full).mean():.4f} nats, minus that of: {'; '.join(told)}."
    )
    if any(one.high < 0 for one in gaps(len(smaller))):
        return Verdict("refuted", effect)
    return Verdict("supported" if all(one.low > 0 for one in gaps(1)) else "inconclusive", effect)


SETTLED = 0.01
"""Nats of fluctuation, below which a run is said to have settled."""


def online_does_not_settle(results: xr.Dataset) -> Verdict:
    """Decide B3."""
    online, full = int(results.batch_size[0]), int(results.batch_size[-1])
    moves = mean_interval(fluctuation(results, online))
    effect = (
        f"Fluctuation of online learning's training loss at its best rate: {moves.mean:.4f} nats "
        f"[{moves.low:.4f}, {moves.high:.4f}]; of the full batch's {fluctuation(results, full).mean():.4f}."
    )
    if np.isnan(moves.mean) or moves.low > SETTLED:
        return Verdict("supported", effect)
    return Verdict("refuted" if moves.high < SETTLED else "inconclusive", effect)


_FLUCTUATION = (
    "Fluctuation: the standard deviation from a line of the loss on all training images over the last quarter of a run."
)
_LESS = (
    "Supported if it is lower than online learning's for all mini-batches (95 % intervals of the mean log ratio). "
    "Refuted if it is higher for one of them (95 % for all together, by Bonferroni's correction). Else inconclusive."
)
CLAIMS = (
    Claim(
        "B1",
        "Compared to online learning, mini-batches reduce the variance: of the gradient.",
        f"Compared is the gradient's variance at two fixed points (their mean), as a ratio within seeds. {_LESS}",
        less_gradient_variance,
    ),
    Claim(
        "B2",
        "Calculating the gradient over the whole data set is wasteful: it makes less progress an example.",
        "Compared is the training loss after the same number of examples, each batch size at its tuned rate. Supported "
        "if the full batch's is higher than that of every smaller batch (paired 95 % intervals over seeds). Refuted if "
        "it is lower than one (95 % for all of them together, by Bonferroni's correction). Else inconclusive.",
        full_batch_is_slower,
    ),
    Claim(
        "B3",
        "Online learning fluctuates, and may not converge.",
        f"{_FLUCTUATION} Supported if online learning's at its tuned rate is above {SETTLED:g} nats (the whole 95 % "
        f"interval over seeds), or a run diverged. Refuted if it is below {SETTLED:g}. Else inconclusive.",
        online_does_not_settle,
    ),
    Claim(
        "B4",
        "Compared to online learning, mini-batches reduce the variance during training: of the loss, at tuned rates.",
        f"{_FLUCTUATION} Compared is its square at tuned rates, as a ratio within seeds. {_LESS}",
        less_fluctuation,
    ),
)

TIERS: dict[TierName, Batching] = {
    "smoke": Batching(
        (1, 10, 50, 500), (1, 10, 50), draws=30, train_size=500, epochs=12, seeds=3, tuning_seeds=1, grid=Grid(-5, 0),
        estimate="30 seconds", scale="500 images, 12 epochs",
    ),
    "cpu": Batching(
        (1, 10, 100, 1000, 10_000), (1, 3, 10, 30, 100, 300, 1000), draws=100, train_size=10_000, epochs=20, seeds=5,
        tuning_seeds=2, grid=Grid(-6, 1), estimate="4 minutes", scale="10,000 of the 50,000 training images",
    ),
    "accelerator": Batching(
        (1, 10, 100, 1000, 50_000), (1, 3, 10, 30, 100, 300, 1000), draws=200, train_size=50_000, epochs=40, seeds=10,
        tuning_seeds=3, grid=Grid(-6, 1), estimate="not measured",
    ),
}  # fmt: skip

STUDY = Study(
    name="batching",
    question="What do full-batch gradient descent, online learning and mini-batches do to noise and progress?",
    figures="the overview's text on gradient descent",
    data="mnist",
    tiers=TIERS,
    run=run,
    tables=tables,
    pictures=batch_pictures.PICTURES,
    claims=CLAIMS,
    expected=expected,
)
