"""What is read off `learn-to-learn`: tables, the rules that decide its claims, and what meta-training costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from experiments.handmade import NAMES
from experiments.learning import RETUNED
from experiments.statistics import Interval, Values, mean_interval, paired
from experiments.study import Table, Verdict

LEARNED = "Learned MLP"
"""Of several learned optimizers of a home, the one that claims are about; fixed before the runs."""
UNIFORM, MNIST = "quadratics, uniform", "MNIST, 20 units"
TO_MEET = -1.12
"""log10 of the mean loss after 100 steps on the uniform quadratics: what tuned NAG is known to reach."""

LOSSES_NOTE = (
    "Loss after the last step on held-out problems, the same for every method: mean and its 95 % interval (studentized "
    "bootstrap over problems), median, and the losses after each step summed. All were tuned or trained at home; "
    f"{RETUNED}: on problems of the test itself. Diverged: problems whose loss is not finite or beyond 1e6; each "
    "counts as 1e6. NAG's losses are where it takes its gradient, a step ahead of its iterate. Seconds: of a "
    "training of one problem."
)
COSTS_NOTE = (
    "Its steps: when the best hand-made optimizer gets where the learned one is after its last. Saved: seconds that a "
    "training with the learned optimizer spares. Pays back: trainings after which meta-training, less what tuning all "
    "hand-made ones took, is paid for."
)


def losses(results: xr.Dataset, test: str, method: str, what: str = "final_loss") -> Values:
    """One a problem; empty where the method was not tested."""
    found = results[what].sel(test=test, optimizer=method).values
    return found[np.isfinite(found)]


def tested(results: xr.Dataset, test: str) -> list[str]:
    """The methods of a test."""
    return [str(name) for name in results.optimizer.values if len(losses(results, test, str(name)))]


def homes(results: xr.Dataset) -> list[str]:
    """Tests of what was trained and tuned for."""
    return [str(test) for test in results.test.values if not bool(results.is_transfer.sel(test=test))]


def transfers(results: xr.Dataset) -> list[str]:
    """Tests of something else."""
    return [str(test) for test in results.test.values if bool(results.is_transfer.sel(test=test))]


def tables(results: xr.Dataset) -> list[Table]:
    """Homes, what tuning chose, transfers, ways to learn, and costs."""
    at_home = [_of_test(results, test) for test in homes(results)]
    away = [_transfers(results)] if transfers(results) else []
    return [*at_home, *away, _tuning(results), _recipes(results), _costs(results)]


def _of_test(results: xr.Dataset, test: str) -> Table:
    rows = []
    for name in tested(results, test):
        final, summed = losses(results, test, name), losses(results, test, name, "summed_loss")
        steps = int(results.step[np.isfinite(results.mean_loss.sel(test=test, optimizer=name).values)][-1])
        one, total = mean_interval(final), mean_interval(summed)
        rows.append(
            (
                name,
                f"{np.log10(one.mean):.3f}",
                f"{one.mean:.4g}",
                f"{one.low:.4g} to {one.high:.4g}",
                f"{np.median(final):.4g}",
                f"{total.mean:.4g}",
                f"{total.low:.4g} to {total.high:.4g}",
                f"{int((final >= 1e6).sum())}",
                f"{steps * float(results.step_seconds.sel(test=test, optimizer=name)):.2g}",
            )
        )
    rows.sort(key=lambda row: float(row[1]))
    count = len(losses(results, test, NAMES[0]))
    interval = "95 % interval"
    columns = (
        "optimizer", "log10 of mean", "mean", interval, "median", "summed", interval, "diverged", "seconds",
    )  # fmt: skip
    return Table(f"{test}: {count:,} held-out problems", columns, rows, LOSSES_NOTE)


def _transfers(results: xr.Dataset) -> Table:
    rows = []
    for test in transfers(results):
        here = [name for name in NAMES if name in tested(results, test)]
        best = min(here, key=lambda name: losses(results, test, name).mean())
        adam, retuned = losses(results, test, "Adam"), losses(results, test, RETUNED)
        for name in tested(results, test):
            if name in (*NAMES, RETUNED):
                continue
            own = losses(results, test, name)
            rows.append(
                (
                    test,
                    str(results.home.sel(test=test).values),
                    name,
                    f"{own.mean():.4g}",
                    f"{np.median(own):.4g}",
                    f"{adam.mean():.4g}",
                    _gap(paired(own, adam)),
                    f"{retuned.mean():.4g}",
                    f"{best} {losses(results, test, best).mean():.4g}",
                )
            )
    note = (
        "Everything as it was at home: learned optimizers with their weights, hand-made ones at their tuned numbers. "
        f"Loss after the last step, mean over held-out problems. To Adam: the paired difference, below 0 where the "
        f"learned one is better, and its 95 % interval. {RETUNED}: tuned for the test itself. Best "
        "hand-made: of those that were transferred."
    )
    columns = (
        "test", "home", "optimizer", "mean", "median", "Adam", "to Adam", RETUNED, "best hand-made",
    )  # fmt: skip
    return Table("Transfers", columns, rows, note)


def _gap(one: Interval) -> str:
    return f"{one.mean:+.3g} [{one.low:+.3g}, {one.high:+.3g}]"


def _tuning(results: xr.Dataset) -> Table:
    rows = []
    for home in results.home_task.values:
        for name in results.hand_made.values:
            one = results.sel(home_task=home, hand_made=name)
            second = float(one.chosen_second)
            rows.append(
                (
                    str(home),
                    str(name),
                    f"{float(one.chosen_learning_rate):.3g}" + "*" * bool(one.at_edge),
                    f"{second:g}" if second else "–",
                    f"{int(one.trials)}",
                    f"{float(one.tuning_seconds):.1f}",
                )
            )
    note = (
        "As many trials for each. The second number: momentum; decay (RMSprop); b1 (Adam). * At an edge of the rates. "
        "Seconds include compilation."
    )
    return Table("What tuning chose", ("home", "optimizer", "rate", "second", "trials", "seconds"), rows, note)


def _recipes(results: xr.Dataset) -> Table:
    rows = []
    for label in results.learner.values:
        one = results.sel(learner=label)
        seen = one.validation.values[np.isfinite(one.iteration.values)]
        iterations = one.iteration.values[np.isfinite(one.iteration.values)]
        best = int(np.nanargmin(seen))
        rows.append(
            (
                str(label),
                f"{int(iterations[-1])}",
                f"{seen[best]:.3f}",
                f"{int(iterations[best])}",
                f"{seen[-1]:.3f}",
                f"{float(one.meta_seconds):.0f}",
                f"{float(one.meta_trainings):,.0f}",
            )
        )
    note = (
        "log10 of the mean loss after the last step, on validation problems; what is tested is the best optimizer, not "
        "the last. Trainings: how many of a whole length it made. Seconds were measured beside other work on the "
        "machine."
    )
    columns = ("learned optimizer, home", "iterations", "best", "at", "last", "seconds", "trainings")
    return Table("Meta-training", columns, rows, note)


class Cost(NamedTuple):
    """What a learned optimizer costs and spares.

    Attributes:
        steps: Of the best hand-made optimizer until its mean loss is the learned one's last; infinite beyond the run.
        saved: Seconds a training.
        pays_back: Trainings; infinite where nothing is saved.
    """

    meta_seconds: float
    tuning_seconds: float
    steps: float
    saved: float
    pays_back: float


def cost(results: xr.Dataset, test: str, method: str) -> Cost:
    """For a learned optimizer at home."""
    home = str(results.home.sel(test=test).values)
    meta = float(results.meta_seconds.sel(learner=f"{method}, {home}"))
    tuning = float(results.tuning_seconds.sel(home_task=home).sum())
    target = losses(results, test, method).mean()
    curve = results.longer_loss.sel(test=test).dropna("longer_step").values
    reached = np.flatnonzero(curve <= target)
    steps = float(reached[0]) if len(reached) else np.inf
    rival = str(results.longer_method.sel(test=test).values)
    seconds = results.step_seconds.sel(test=test)
    own_steps = len(results.mean_loss.sel(test=test, optimizer=method).dropna("step")) - 1
    known = min(steps, len(curve) - 1)  # at least so many, where it does not get there
    saved = known * float(seconds.sel(optimizer=rival)) - own_steps * float(seconds.sel(optimizer=method))
    pays_back = max(meta - tuning, 0.0) / saved if saved > 0 else np.inf
    return Cost(meta, tuning, steps, saved, pays_back)


def _costs(results: xr.Dataset) -> Table:
    rows = []
    for test in homes(results):
        for name in tested(results, test):
            if name in NAMES:
                continue
            one = cost(results, test, name)
            longest = len(results.longer_loss.sel(test=test).dropna("longer_step")) - 1
            rows.append(
                (
                    test,
                    name,
                    f"{one.meta_seconds:.0f}",
                    f"{one.tuning_seconds:.0f}",
                    str(results.longer_method.sel(test=test).values),
                    f"{one.steps:.0f}" if np.isfinite(one.steps) else f"more than {longest}",
                    f"{one.saved:.2g}",
                    f"{one.pays_back:,.0f}" if np.isfinite(one.pays_back) else "never",
                )
            )
    columns = (
        "test",
        "optimizer",
        "meta-training, s",
        "tuning, s",
        "best hand-made",
        "its steps",
        "saved, s",
        "pays back",
    )
    return Table("What it costs, and when it pays back", columns, rows, COSTS_NOTE)


def beats_hand_made(results: xr.Dataset) -> Verdict:
    """Decide C12."""
    return _against(results, homes(results), NAMES, "Learned minus best hand-made")


def keeps_its_lead(results: xr.Dataset) -> Verdict:
    """Decide L3."""
    here = [test for test in transfers(results) if LEARNED in tested(results, test)]
    return _against(results, here, (RETUNED,), f"Learned minus {RETUNED}")


def _against(results: xr.Dataset, tests: Sequence[str], rivals: Sequence[str], what: str) -> Verdict:
    """Better than every rival in every test; worse than one in one, by intervals that hold together."""
    pairs = [(test, rival) for test in tests for rival in rivals]

    def gaps(count: int) -> list[Interval]:
        return [paired(losses(results, test, LEARNED), losses(results, test, rival), count) for test, rival in pairs]

    plain = dict(zip(pairs, gaps(1), strict=True))
    told = []
    for test in tests:
        rival = min(rivals, key=lambda name: losses(results, test, name).mean())
        told.append(f"{test} {_gap(plain[test, rival])} ({rival})")
    effect = f"{what}, loss after the last step: {'; '.join(told)}."
    if any(gap.low > 0 for gap in gaps(len(pairs))):
        return Verdict("refuted", effect)
    return Verdict("supported" if all(gap.high < 0 for gap in plain.values()) else "inconclusive", effect)


def meets_the_figure(results: xr.Dataset) -> Verdict:
    """Decide L1."""
    found = mean_interval(losses(results, UNIFORM, LEARNED))
    logs = [float(np.log10(max(value, 1e-12))) for value in found]
    effect = f"log10 of the mean loss: {logs[0]:.3f} [{logs[1]:.3f}, {logs[2]:.3f}]."
    if logs[2] <= TO_MEET:
        return Verdict("supported", effect)
    return Verdict("refuted" if logs[1] > TO_MEET else "inconclusive", effect)


def is_not_worse_on_mnist(results: xr.Dataset) -> Verdict:
    """Decide L2."""
    gap = paired(losses(results, MNIST, LEARNED), losses(results, MNIST, "Adam"))
    effect = f"Learned minus Adam, nats: {_gap(gap)}."
    if gap.high <= 0:
        return Verdict("supported", effect)
    return Verdict("refuted" if gap.low > 0 else "inconclusive", effect)
