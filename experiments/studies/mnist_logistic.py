"""Do tuned optimizers differ on a convex problem? Softmax regression on MNIST (the study's figure 8).

The optimum that all should reach is known: L-BFGS finds it, on all training images at once.
"""

from __future__ import annotations

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
import xarray as xr
from jax.flatten_util import ravel_pytree

from experiments import comparison
from experiments.comparison import TUNED, Stage, Training
from experiments.data import Dataset, Examples
from experiments.methods import METHODS
from experiments.models import Classifier, softmax_regression
from experiments.readings import final_accuracies
from experiments.statistics import Interval, mean_interval, paired
from experiments.studies.training import training_study
from experiments.study import Claim, Context, Table, Verdict
from experiments.train import evaluate
from experiments.tuning import Grid
from experiments.verdicts import counted, percent, points

NAME = "softmax regression"
MODEL = softmax_regression(28 * 28, 10)

SPREAD = 0.005
"""Of test accuracies, within which solutions are called the same."""
EXCESS = 0.05
"""Nats above the least training loss, within which the optimum is called reached."""


def same_optimum(results: xr.Dataset) -> Verdict:
    """Decide C5."""
    accuracies = counted(final_accuracies(results, NAME, TUNED))
    losses = results.full_train_loss.sel(model=NAME, track=TUNED).isel(tested_epoch=-1) - results.reference_loss
    above = {str(name): losses.sel(optimizer=name).values for name in results.optimizer.values}
    pairs = list(itertools.combinations(accuracies, 2))

    def found(tests: int) -> tuple[list[Interval], list[Interval]]:
        gaps = [paired(accuracies[a], accuracies[b], tests) for a, b in pairs]
        return gaps, [mean_interval(one, tests) for one in above.values()]

    best, worst = (pick(accuracies, key=lambda name: accuracies[name].mean()) for pick in (max, min))
    farthest = max(above, key=lambda name: np.nan_to_num(above[name].mean(), nan=np.inf))
    mean, low, high = mean_interval(above[farthest])
    effect = (
        f"Best {best} {percent(accuracies[best].mean())}, worst {worst} {percent(accuracies[worst].mean())}: "
        f"{points(paired(accuracies[best], accuracies[worst]))}. Training loss after {results.sizes['epoch']} epochs "
        f"above the optimum ({float(results.reference_loss):.4f} nats, by L-BFGS): at most {mean:.4f} "
        f"[{low:.4f}, {high:.4f}] ({farthest})."
    )
    gaps, excess = found(tests=len(pairs) + len(above))
    if any(gap.beyond(SPREAD) for gap in gaps) or any(one.low > EXCESS or np.isnan(one.mean) for one in excess):
        return Verdict("refuted", effect)
    gaps, excess = found(tests=1)
    if all(gap.within(SPREAD) for gap in gaps) and all(one.high < EXCESS for one in excess):
        return Verdict("supported", effect)
    return Verdict("inconclusive", effect)


@dataclasses.dataclass(frozen=True, repr=False)
class Convex(Training):
    """A tier with a reference: how many steps L-BFGS may take to find it."""

    reference_steps: int = 1000


def run(tier: Convex, context: Context) -> xr.Dataset:
    """The comparison, and the optimum."""
    assert context.dataset is not None
    dataset = context.dataset.subset(tier.train_size, tier.test_size)
    context.progress.describe("L-BFGS")
    reference = context.store.part("reference", lambda checkpoint: optimum(MODEL, dataset, tier.reference_steps))
    return comparison.compare(tier, context).assign(reference.data_vars)


def optimum(model: Classifier, dataset: Dataset, steps: int) -> xr.Dataset:
    """The least training loss, by scipy's L-BFGS-B in double precision on the device's gradients."""
    params, stats = model.init(jax.random.key(0))
    start, unravel = ravel_pytree(params)

    @jax.jit
    def loss_and_gradient(flat: jax.Array, train: Examples) -> tuple[jax.Array, jax.Array]:
        def loss(flat: jax.Array) -> jax.Array:
            return evaluate(model, unravel(flat), stats, train, at_once=len(train.labels))[0]

        return jax.value_and_grad(loss)(flat)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        loss, gradient = loss_and_gradient(np.asarray(flat, np.float32), dataset.train)
        return float(loss), np.asarray(gradient, np.float64)

    found = scipy.optimize.minimize(
        objective, np.asarray(start, np.float64), jac=True, method="L-BFGS-B",
        options={"maxiter": steps, "maxfun": 2 * steps, "maxcor": 20, "ftol": 0.0, "gtol": 1e-6},
    )  # fmt: skip
    best = unravel(jnp.asarray(found.x, jnp.float32))
    return xr.Dataset(
        {
            "reference_loss": float(found.fun),
            "reference_gradient": float(np.abs(found.jac).max()),
            "reference_steps": int(found.nit),
            "reference_test_accuracy": float(evaluate(model, best, stats, dataset.test)[1]),
        }
    )


def reference_table(results: xr.Dataset) -> Table:
    """What L-BFGS found."""
    row = [
        "L-BFGS, full batch", f"{float(results.reference_loss):.4f}", f"{float(results.reference_gradient):.1e}",
        str(int(results.reference_steps)), percent(float(results.reference_test_accuracy)),
    ]  # fmt: skip
    columns = ("", "training loss, nats", "largest gradient", "steps", "test accuracy")
    return Table("The optimum, as reference", columns, [row])


_BASE = training_study(
    name="mnist-logistic",
    question="Do optimizers with tuned learning rates differ on softmax regression, which is convex?",
    figures="figure 8",
    data="mnist",
    tiers={
        "smoke": Convex(
            {NAME: MODEL}, epochs=3, seeds=3, batch_size=128, grid=Grid(-6, 0), tuning=Stage(epochs=3, seeds=2),
            mode="vmap", estimate="40 seconds", methods=METHODS[::3], train_size=4000, reference_steps=100,
            scale="3 of 7 methods, 4,000 images, 3 epochs",
        ),
        "cpu": Convex(
            {NAME: MODEL}, epochs=30, seeds=5, batch_size=128, grid=Grid(-7, 0), tuning=Stage(epochs=30, seeds=3),
            mode="vmap", estimate="7 minutes", defaults=True,
        ),
        "accelerator": Convex(
            {NAME: MODEL}, epochs=100, seeds=10, batch_size=128, grid=Grid(-7, 0), tuning=Stage(epochs=100, seeds=5),
            mode="vmap", estimate="not measured", defaults=True,
        ),
    },
    claims=[
        Claim(
            "C5",
            "Softmax regression is convex: all optimizers converge at a similar rate, to the same solution.",
            f"Supported if the test accuracies of any two methods differ by less than {100 * SPREAD:g} points and "
            f"every method's training loss ends less than {EXCESS:g} nats above the optimum that L-BFGS finds (whole "
            "95 % intervals over seeds, paired for differences). Refuted if one of these is beyond its bound (whole "
            "intervals, 95 % for all of them together by Bonferroni's correction), or a run diverged. Else "
            "inconclusive.",
            same_optimum,
        )
    ],
)  # fmt: skip
STUDY = dataclasses.replace(_BASE, run=run, tables=lambda results: [*_BASE.tables(results), reference_table(results)])
