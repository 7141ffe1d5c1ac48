"""Learned and hand-made optimizers side by side: meta-training, tuning, and held-out problems, in parts.

What is learned and what is tuned rest on the same family of problems, the *home*; a *test* is that family's held-out
problems, or another family's, to which all are transferred as they are.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Key

import gradtx
from experiments.checkpoint import Checkpoint, Paced
from experiments.data import Dataset, Examples
from experiments.handmade import HAND_MADE, NAMES, HandMade, Trials, choose, of_arrays, tune
from experiments.meta import Beginning, Meta, Recipe, Trainer
from experiments.study import Context
from experiments.tasks import Task
from experiments.unrolling import curves, draw

AWAY = ("Momentum", "Adam", "Learned MLP", "Learned LSTM", "MLP, scaled")
"""Who is transferred: the others' story is told at home."""
BEGIN = ("Momentum", "Adam")
"""As what a learned optimizer may begin."""
RETUNED = "Adam (retuned)"
"""Adam tuned for the test itself, as somebody would who does not trust a transfer."""
SECONDS_BETWEEN_CHECKPOINTS = 5.0
"""Of meta-training. What is lost at most: the running iteration, and the iterations of so many seconds."""


@dataclass(frozen=True)
class Home:
    """A family of problems to learn and to tune on."""

    task: Task
    trials: Trials
    steps: int = 100


@dataclass(frozen=True)
class Learner:
    """A learned optimizer: its name, where it is trained (a home's name), and how."""

    name: str
    home: str
    recipe: Recipe

    @property
    def label(self) -> str:
        """Its name among all of a study."""
        return f"{self.name}, {self.home}"


@dataclass(frozen=True)
class HeldOut:
    """Held-out problems.

    Attributes:
        name: In tables and pictures.
        home: Whose optimizers are tested.
        task: The problems.
        steps: Of each training.
        problems: How many.
        longer: Steps for which hand-made optimizers go on, to see when they get where a learned one is; at least
            `steps`.
    """

    name: str
    home: str
    task: Task
    steps: int
    problems: int
    longer: int = 0

    def length(self, method: str) -> int:
        """Steps that a method is run for."""
        return max(self.steps, self.longer) if method in NAMES else self.steps


@dataclass(frozen=True)
class LearnToLearn:
    """A tier.

    Attributes:
        seed: Of everything. Pilot runs, which the recipes were chosen by, had others.
    """

    homes: tuple[Home, ...]
    learners: tuple[Learner, ...]
    tests: tuple[HeldOut, ...]
    seed: int
    estimate: str = field(repr=False)
    scale: str = field(default="", repr=False)
    hand_made: tuple[HandMade, ...] = HAND_MADE

    def home(self, name: str) -> Home:
        """The home of that name."""
        return next(home for home in self.homes if home.task.name == name)

    def at_home(self, test: HeldOut) -> Home | None:
        """The home whose problems a test has, if any."""
        return next((home for home in self.homes if (home.task, home.steps) == (test.task, test.steps)), None)

    def is_transfer(self, test: HeldOut) -> bool:
        """Whether the test is of other problems, or of longer trainings, than its home."""
        home = self.home(test.home)
        return (test.task, test.steps) != (home.task, home.steps)

    def alike(self, test: HeldOut) -> list[HeldOut]:
        """The tests that differ from this one by their steps at most: they share their runs."""
        return [
            one for one in self.tests if (one.home, one.task, one.problems) == (test.home, test.task, test.problems)
        ]

    def length(self, test: HeldOut, method: str) -> int:
        """Steps of a method's runs, which `alike` tests share."""
        return test.length(method) if method == RETUNED else max(one.length(method) for one in self.alike(test))


def expected(tier: LearnToLearn) -> dict[str, float]:
    """The parts, and about how many steps of a user's training each makes."""
    costs: dict[str, float] = {}
    for learner in tier.learners:
        costs[f"meta/{learner.label}"] = 3.0 * learner.recipe.trainings * learner.recipe.horizon
    for home in tier.homes:
        for method in tier.hand_made:
            costs[_tuning(home, method)] = float(home.trials.count * home.trials.problems * home.steps)
    for test in tier.tests:
        if tier.is_transfer(test) and tier.at_home(test) is None:
            trials = tier.home(test.home).trials
            costs[_retuning(test)] = float(trials.count * trials.problems * test.steps)
        for method in methods(tier, test):
            costs[_part(tier, test, method)] = float(test.problems * tier.length(test, method))
    return costs


def _part(tier: LearnToLearn, test: HeldOut, method: str) -> str:
    shared = test if method == RETUNED else tier.alike(test)[0]
    return f"test/{test.home}/{shared.name}/{method}"


def _tuning(home: Home, method: HandMade) -> str:
    return f"tuning/{home.task.name}/{method.name}"


def _retuning(test: HeldOut) -> str:
    return f"retuning/{test.name}"


def methods(tier: LearnToLearn, test: HeldOut) -> list[str]:
    """Who is tested there."""
    every = [*NAMES, *(learner.name for learner in tier.learners if learner.home == test.home)]
    return [*(name for name in every if name in AWAY), RETUNED] if tier.is_transfer(test) else every


def run(tier: LearnToLearn, context: Context) -> xr.Dataset:
    """The labelled results.

    Returns:
        - `final_loss`, `summed_loss` (test, optimizer, problem); `mean_loss`, `median_loss` (test, optimizer, step),
          over problems, NaN where one is not tested; `longer_loss` (test, longer_step), the mean of the best hand-made
          as it goes on, whose name is `longer_method` (test), "" for transfers; `step_seconds` (test,
          optimizer), of one step of one problem;
        - `home`, `is_transfer` (test);
        - `chosen_learning_rate`, `chosen_second`, `at_edge`, `tuning_seconds` (home_task, hand_made), `trials`
          (home_task);
        - `validation` (learner, time), log10 of the mean loss in meta-training; `iteration` (learner, time);
          `meta_seconds`, `meta_trainings` (learner); `weights` (learner, weight).
    """
    for cost in expected(tier).values():
        context.progress.expect(cost)
    tuned = {home.task.name: _tuned(tier, home, context) for home in tier.homes}
    learned = {learner.label: _learned(tier, learner, context, tuned[learner.home]) for learner in tier.learners}
    tested = [_tested(tier, test, context, learned, tuned) for test in tier.tests]
    every = [*NAMES, RETUNED, *dict.fromkeys(learner.name for learner in tier.learners)]
    joined = xr.concat([one.reindex({"optimizer": every}) for one in tested], "test", join="outer")
    return xr.merge(
        [
            joined.assign_coords(test=[test.name for test in tier.tests]),
            xr.concat(list(learned.values()), "learner", join="outer").assign_coords(learner=list(learned)),
            _of_tuning(tier, tuned),
        ],
        combine_attrs="drop",
    )


def _of_tuning(tier: LearnToLearn, tuned: Mapping[str, Mapping[str, xr.Dataset]]) -> xr.Dataset:
    chosen = [[choose(tried) for tried in of_home.values()] for of_home in tuned.values()]
    dims = ("home_task", "hand_made")
    return xr.Dataset(
        {
            "chosen_learning_rate": (dims, [[one.rate for one in row] for row in chosen]),
            "chosen_second": (dims, [[one.second for one in row] for row in chosen]),
            "at_edge": (dims, [[one.at_edge for one in row] for row in chosen]),
            "tuning_seconds": (dims, [[one.attrs["seconds"] for one in row.values()] for row in tuned.values()]),
            "trials": ("home_task", [home.trials.count for home in tier.homes]),
        },
        coords={"home_task": list(tuned), "hand_made": list(NAMES)},
    )


def _images(context: Context, task: Task) -> Dataset | None:
    """The data set of a task, if it needs one."""
    return None if task.data is None else context.named(task.data)


def _key(tier: LearnToLearn, use: int) -> Key[Array, ""]:
    """Meta-training's keys have uses below it."""
    return jax.random.fold_in(jax.random.key(tier.seed), 100 + use)


def _train_images(context: Context, task: Task) -> Examples | None:
    dataset = _images(context, task)
    return None if dataset is None else dataset.train


def _beginnings(tuned: Mapping[str, xr.Dataset]) -> tuple[Beginning, ...]:
    """Tuned Momentum and tuned Adam."""
    return tuple(Beginning(one.rate, one.second, name == "Adam") for name in BEGIN for one in [choose(tuned[name])])


def _learned(tier: LearnToLearn, learner: Learner, context: Context, tuned: Mapping[str, xr.Dataset]) -> xr.Dataset:
    task, recipe, progress = tier.home(learner.home).task, learner.recipe, context.progress
    name = f"meta/{learner.label}"
    begins = _beginnings(tuned) if recipe.tuned else ()
    trainer = Trainer(task, recipe, tier.seed, _train_images(context, task), begins)
    cost = expected(tier)[name]

    def train(checkpoint: Checkpoint) -> xr.Dataset:
        # The seconds of former sittings are a part of what is kept.
        begun = (trainer.begin(), np.zeros((), np.float64))
        keeper = Paced(checkpoint, SECONDS_BETWEEN_CHECKPOINTS)
        (meta, before), done = keeper.load(begun) or (begun, 0)
        progress.advance(cost * done / recipe.iterations)
        sitting = time.perf_counter()
        for iteration in range(done, recipe.iterations):
            meta = trainer.advance(meta, iteration)
            if keeper.is_due(iteration + 1, recipe.iterations):
                spent = before + (time.perf_counter() - sitting)
                keeper.save((meta, spent), iteration + 1, recipe.iterations)
            progress.advance(cost / recipe.iterations)
        return _of_meta(recipe, meta, float(before) + time.perf_counter() - sitting)

    return context.part(name, cost, train)


def _of_meta(recipe: Recipe, meta: Meta, seconds: float) -> xr.Dataset:
    times = np.arange(1, len(meta.validation) + 1)
    return xr.Dataset(
        {
            "validation": ("time", meta.validation),
            "iteration": ("time", (times * recipe.every).astype(np.float64)),
            "meta_seconds": seconds,
            "meta_trainings": float(recipe.trainings),
            "weights": ("weight", np.asarray(ravel_pytree(meta.best)[0])),
        },
        coords={"time": times, "weight": np.arange(sum(leaf.size for leaf in jax.tree.leaves(meta.best)))},
    )


def restored(recipe: Recipe, weights: np.ndarray) -> gradtx.GradientTransformation:
    """A learned optimizer out of `weights` of the results."""
    like = recipe.fresh(jax.random.key(0))
    flat, unravel = ravel_pytree(like)
    return unravel(jnp.asarray(weights[: flat.size], jnp.float32))


def _tuned(tier: LearnToLearn, home: Home, context: Context) -> dict[str, xr.Dataset]:
    images, costs, found = _train_images(context, home.task), expected(tier), {}
    for method in tier.hand_made:

        def tuned(_: Checkpoint, method: HandMade = method) -> xr.Dataset:
            return tune(home.task, method, home.trials, home.steps, _key(tier, 0), images)

        name = _tuning(home, method)
        found[method.name] = context.part(name, costs[name], tuned)
    return found


def _tested(
    tier: LearnToLearn,
    test: HeldOut,
    context: Context,
    learned: Mapping[str, xr.Dataset],
    tuned: Mapping[str, Mapping[str, xr.Dataset]],
) -> xr.Dataset:
    """Each method on the same held-out problems."""
    dataset, costs = _images(context, test.task), expected(tier)
    images = None if dataset is None else dataset.test
    by_name = {method.name: method for method in tier.hand_made}

    def tx_of(name: str) -> gradtx.GradientTransformation:
        if name in by_name:
            one = choose(tuned[test.home][name])
            return of_arrays(by_name[name], one.rate, one.second)
        if name == RETUNED:
            its_own = tier.at_home(test)
            tried = tuned[its_own.task.name]["Adam"] if its_own else _retuned(tier, test, context, by_name["Adam"])
            one = choose(tried)
            return of_arrays(by_name["Adam"], one.rate, one.second)
        learner = next(one for one in tier.learners if (one.name, one.home) == (name, test.home))
        return restored(learner.recipe, learned[learner.label].weights.values)

    runs = {}
    for name in methods(tier, test):
        part = _part(tier, test, name)
        runs[name] = context.part(part, costs[part], lambda _, name=name: _run(tier, test, name, tx_of(name), images))
    here = np.stack([one.loss.values[:, : test.steps + 1] for one in runs.values()])
    joined = xr.Dataset(
        {
            "final_loss": (("optimizer", "problem"), here[:, :, -1]),
            "summed_loss": (("optimizer", "problem"), here[:, :, 1:].sum(-1)),
            "mean_loss": (("optimizer", "step"), here.mean(1)),
            "median_loss": (("optimizer", "step"), np.median(here, 1)),
            "step_seconds": ("optimizer", [float(one.step_seconds) for one in runs.values()]),
        },
        coords={
            "optimizer": list(runs), "problem": np.arange(test.problems), "step": np.arange(test.steps + 1),
        },
    )  # fmt: skip
    who = "" if tier.is_transfer(test) else min(NAMES, key=lambda name: here[list(runs).index(name), :, -1].mean())
    curve = runs[who].loss.values.mean(0) if who else np.full(1, np.nan)
    return joined.assign(
        longer_loss=("longer_step", curve), longer_method=who, home=test.home, is_transfer=tier.is_transfer(test)
    ).assign_coords(longer_step=np.arange(len(curve)))


def _retuned(tier: LearnToLearn, test: HeldOut, context: Context, adam: HandMade) -> xr.Dataset:
    name, trials = _retuning(test), tier.home(test.home).trials
    images = _train_images(context, test.task)

    def tuned(_: Checkpoint) -> xr.Dataset:
        return tune(test.task, adam, trials, test.steps, _key(tier, 0), images)

    return context.part(name, expected(tier)[name], tuned)


def _run(
    tier: LearnToLearn, test: HeldOut, method: str, tx: gradtx.GradientTransformation, images: Examples | None
) -> xr.Dataset:
    """The losses of one method, and how long a step of one problem took, beside those that run side by side with it."""
    length = tier.length(test, method)
    problems = draw(test.task, _key(tier, 1), test.problems)
    ready = curves.lower(test.task, tx, problems, images, length).compile()
    begun = time.perf_counter()
    losses = np.asarray(jax.block_until_ready(ready(tx, problems, images)))
    seconds = (time.perf_counter() - begun) / (test.problems * length)
    return xr.Dataset({"loss": (("problem", "step"), losses), "step_seconds": seconds})
