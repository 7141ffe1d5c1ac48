"""Learning to learn: both estimates of the meta-gradient are right, meta-training resumes, and claims can come out."""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import gradtx
from experiments import learning, meta, results
from experiments.handmade import HAND_MADE, NAMES, Trials, choose, of_arrays
from experiments.learning import AWAY, RETUNED, HeldOut, Home, Learner, LearnToLearn
from experiments.learning_readings import (
    LEARNED,
    MNIST,
    UNIFORM,
    beats_hand_made,
    cost,
    is_not_worse_on_mnist,
    keeps_its_lead,
    meets_the_figure,
    tables,
)
from experiments.meta import Beginning, Recipe, Trainer
from experiments.progress import Progress
from experiments.ship import SHIPPED, shipped
from experiments.store import opened
from experiments.studies.learn_to_learn import CIFAR, STUDY
from experiments.study import Context
from experiments.tasks import quadratic
from experiments.unrolling import LARGE, curves, draw, start, unroll
from gradtx.learned import origin, pretrained

from .conftest import same

TASK = quadratic("uniform", 3)
RECIPE = Recipe("mlp", iterations=6, problems=8, window=5, rate=1e-2, every=2, validation=16, horizon=10)


# Trainings


@pytest.mark.slow
def test_a_stack_of_problems_trains_as_each_alone():
    problems = draw(TASK, jax.random.key(0), 3)
    tx = RECIPE.fresh(jax.random.key(1))
    together = curves(TASK, tx, problems, None, 12)
    for i in range(3):
        one = jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], problems)
        np.testing.assert_allclose(curves(TASK, tx, one, None, 12)[0], together[i], rtol=1e-4)
    in_turn = dataclasses.replace(TASK, together=1)
    np.testing.assert_allclose(curves(in_turn, tx, problems, None, 12), together, rtol=1e-4)


def test_what_diverges_counts_as_large():
    problems = draw(TASK, jax.random.key(0), 4)
    made = curves(TASK, of_arrays(HAND_MADE[0], 1e6, 0.0), problems, None, 30)
    assert np.all(made[:, -1] == LARGE)
    assert np.all(np.isfinite(made))


def test_random_scaling_starts_from_the_same_loss():
    """f(c x) from x / c."""
    problems = draw(TASK, jax.random.key(0), 4)
    scales = meta._random_scales(jax.random.key(1), problems.params, 1.0)
    moved = problems._replace(params=problems.params / scales)
    tx = RECIPE.fresh(jax.random.key(2))
    plain = unroll(TASK, tx, start(tx, problems), problems, None, 3)[1]
    scaled = unroll(TASK, tx, start(tx, moved), moved, None, 3, scales)[1]
    np.testing.assert_allclose(scaled[0], plain[0], rtol=1e-5)
    assert not np.allclose(scaled[2], plain[2], rtol=1e-2)


def test_an_mlp_begins_as_what_was_tuned():
    problems = draw(TASK, jax.random.key(0), 5)
    for begins, known in (
        (Beginning(0.05, 0.8, False), gradtx.sgd(0.05, 0.8)),
        (Beginning(0.05, 0.8, True), gradtx.adam(0.05, 0.8, 0.99)),
    ):
        tx: Any = RECIPE.fresh(jax.random.key(1), begins)
        weights = tx.weights
        bare = {**weights, "output": {**weights["output"], "kernel": 0 * weights["output"]["kernel"]}}
        made = curves(TASK, tx.replace(weights=bare), problems, None, 20)
        # Roundings of the decays' logits, over 20 steps.
        np.testing.assert_allclose(made, curves(TASK, known, problems, None, 20), rtol=1e-3, atol=1e-5)


# The meta-gradient


def whole(tx, problems, steps):
    """The objective over a whole training, differentiated at once."""
    return meta.objective(TASK, tx, start(tx, problems), problems, None, steps, None, jnp.zeros(()))[0]


@functools.partial(jax.jit, static_argnums=0)
def estimate(recipe, tx, problems, key):
    """The sum over windows of what `_backpropagate` or `_evolve` makes, at one and the same optimizer."""
    make: Any = meta._evolve if recipe.pairs else meta._backpropagate
    carried, total = meta._begun(recipe, tx, problems), jax.tree.map(jnp.zeros_like, tx)

    def value(tx, running):
        return meta.objective(TASK, tx, running, problems, None, recipe.window, None, jnp.zeros(()))

    for i in range(recipe.horizon // recipe.window):
        gradient, carried = make(recipe, value, tx, carried, jax.random.fold_in(key, i))
        total = jax.tree.map(jnp.add, total, gradient)
    # Each window has the mean over its steps.
    return flat(total) * recipe.window / recipe.horizon


def flat(tree):
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)])


@pytest.mark.slow
def test_truncation_is_biased_and_evolution_is_not():
    problems = draw(TASK, jax.random.key(3), 16)
    tx = RECIPE.fresh(jax.random.key(4))
    exact = flat(jax.jit(jax.grad(whole), static_argnums=2)(tx, problems, 10))
    key = jax.random.key(5)
    full = estimate(dataclasses.replace(RECIPE, window=10), tx, problems, key)
    np.testing.assert_allclose(full, exact, rtol=1e-3, atol=1e-4 * float(jnp.abs(exact).max()))

    def along(gradient):
        """Its part along the exact one, as a multiple of that."""
        return float(gradient @ exact / (exact @ exact))

    short = dataclasses.replace(RECIPE, window=2)
    evolved = estimate(dataclasses.replace(short, pairs=1024, deviation=1e-3), tx, problems, key)
    truncated = estimate(short, tx, problems, key)
    print(along(evolved), along(truncated))
    # The noise along one direction is about sqrt(2 windows / pairs), 0.1.
    assert abs(along(evolved) - 1) < 0.3
    assert abs(along(truncated) - 1) > 0.3


def test_a_training_that_explodes_does_not_hide_the_others():
    losses = jnp.array([0.5, 1.0, 10.0, 1e9, jnp.nan, jnp.inf])
    tamed = meta._tamed(losses, 1.0)
    most = 1 + np.log(LARGE)
    np.testing.assert_allclose(tamed, [0.5, 1.0, 1 + np.log(10), most, most, most], rtol=1e-6)
    slopes = jax.vmap(jax.grad(lambda x: meta._tamed(x, 1.0)))(losses)
    np.testing.assert_allclose(slopes, [1, 1, 0.1, 0, 0, 0], rtol=1e-6)


def test_what_a_recipe_counts():
    recipe = dataclasses.replace(RECIPE, curriculum=((2, 5),), pairs=3)
    assert [recipe.horizon_at(i) for i in range(6)] == [5, 5, 10, 10, 10, 10]
    assert recipe.updates == 2 * 1 + 4 * 2
    assert recipe.trainings == (2 * 5 + 4 * 10) * 8 * 6 // 10 + 3 * 16
    assert repr(RECIPE) == (
        "Recipe(network='mlp', iterations=6, problems=8, window=5, rate=0.01, clip=0.3, deviation=0.01, horizon=10, "
        "every=2, validation=16)"
    )


@pytest.mark.slow
def test_the_best_on_validation_is_kept():
    trainer = Trainer(TASK, RECIPE, 0, None)
    state = trainer.begin()
    for i in range(RECIPE.iterations):
        state = trainer.advance(state, i)
    best = int(np.argmin(state.validation))
    assert trainer.validate(state.best) == state.validation[best]
    assert trainer.validate(state.tx) == state.validation[-1]


# The study

SMALL = LearnToLearn(
    homes=(Home(TASK, Trials(-2, -1, 2, 4), 10),),
    learners=(Learner(LEARNED, TASK.name, dataclasses.replace(RECIPE, tuned=True)),),
    tests=(HeldOut("here", TASK.name, TASK, 10, 8, 15), HeldOut("longer", TASK.name, TASK, 14, 8)),
    seed=1,
    estimate="a second",
)


class Stop(Exception):
    pass


@pytest.mark.slow
def test_meta_training_that_is_killed_goes_on_with_the_same_bits(tmp_path, monkeypatch):
    def run(place):
        with opened(place, "spec") as store:
            return STUDY.run(SMALL, Context(store, Progress()))

    whole = run(tmp_path / "whole")
    monkeypatch.setattr(learning, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    advance = Trainer.advance

    def killed(self, state, iteration):
        if iteration == 4:
            raise Stop
        return advance(self, state, iteration)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "advance", killed)
        with pytest.raises(Stop):
            run(tmp_path / "killed")
    begun = []
    monkeypatch.setattr(Trainer, "advance", lambda self, state, i: begun.append(i) or advance(self, state, i))
    again = run(tmp_path / "killed")
    assert begun == [4, 5]
    timed = ["meta_seconds", "tuning_seconds", "step_seconds"]
    same(again.drop_vars(timed).to_dict(), whole.drop_vars(timed).to_dict())
    # Longer trainings are those of home, gone on with.
    assert float(whole.mean_loss.sel(test="longer", optimizer="Adam")[10]) == float(
        whole.mean_loss.sel(test="here", optimizer="Adam")[10]
    )


@pytest.mark.parametrize("study", [STUDY, CIFAR], ids=lambda study: study.name)
def test_parts_have_names_of_their_own(study):
    """But for trainings that tests share, which differ by their steps alone."""
    for tier in study.tiers.values():
        named = {}
        for test in tier.tests:
            for method in learning.methods(tier, test):
                what = (test.home, test.task, method, test.steps if method == RETUNED else 0)
                assert named.setdefault(learning._part(tier, test, method), what) == what


def test_trials_are_as_many_for_each():
    trials = Trials(-3, 1, 5, 4)
    for method in HAND_MADE:
        rates, seconds = trials.of(method)
        assert len(rates) == len(seconds) == trials.count == 15
        np.testing.assert_allclose([rates.min(), rates.max()], [1e-3, 10], rtol=1e-6)
    tried = xr.Dataset(
        {
            "loss": ("trial", [3.0, 1.0, 2.0]),
            "learning_rate": ("trial", [0.1, 1.0, 1.0]),
            "second": ("trial", [0, 0, 0.9]),
        }
    )
    assert (choose(tried).rate, choose(tried).second, choose(tried).at_edge) == (1.0, 0.0, True)


def made(home=0.05, mnist=0.2, away=0.1, spread=0.02, seed=0):
    """Losses of 0.1 for every hand-made optimizer at home (0.25 on MNIST); those of the learned one are given."""
    rng = np.random.default_rng(seed)
    methods = [*NAMES, RETUNED, LEARNED]
    tests = {UNIFORM: False, MNIST: False, "away": True}
    final = np.full((3, len(methods), 40), np.nan)
    for i, (test, is_away) in enumerate(tests.items()):
        for j, name in enumerate(methods):
            if (name == RETUNED and not is_away) or (is_away and name not in (*AWAY, RETUNED)):
                continue
            mean = {UNIFORM: home, MNIST: mnist, "away": away}[test] if name == LEARNED else 0.25 if i == 1 else 0.1
            noise = rng.normal(size=40)
            final[i, j] = mean + spread * (noise - noise.mean())
    dims = ("test", "optimizer")
    curve = final.mean(-1)[..., None] * np.linspace(3, 1, 101)
    longer = np.broadcast_to(0.25 / np.linspace(1, 8, 201), (3, 201))
    tuning = ("home_task", "hand_made")
    two = [UNIFORM, MNIST]
    return xr.Dataset(
        {
            "final_loss": ((*dims, "problem"), final),
            "summed_loss": ((*dims, "problem"), 100 * final),
            "mean_loss": ((*dims, "step"), curve),
            "median_loss": ((*dims, "step"), curve),
            "step_seconds": (dims, np.where(np.isnan(final[..., 0]), np.nan, 1e-3)),
            "longer_loss": (("test", "longer_step"), longer),
            "longer_method": ("test", ["Adam", "Adam", ""]),
            "home": ("test", [UNIFORM, MNIST, UNIFORM]),
            "is_transfer": ("test", list(tests.values())),
            "chosen_learning_rate": (tuning, np.full((2, 6), 0.1)),
            "chosen_second": (tuning, np.full((2, 6), 0.9)),
            "at_edge": (tuning, np.full((2, 6), False)),
            "tuning_seconds": (tuning, np.full((2, 6), 1.0)),
            "trials": ("home_task", [24, 24]),
            "validation": (("learner", "time"), np.array([[-1.0, -1.2], [-0.3, np.nan]])),
            "iteration": (("learner", "time"), np.array([[10.0, 20.0], [10.0, np.nan]])),
            "meta_seconds": ("learner", [16.0, 60.0]),
            "meta_trainings": ("learner", [100.0, 20.0]),
        },
        coords={
            "test": list(tests), "optimizer": methods, "step": np.arange(101), "home_task": two,
            "hand_made": list(NAMES),
            "learner": [f"{LEARNED}, {home}" for home in two],
        },
    )  # fmt: skip


@pytest.mark.parametrize(
    ("decide", "results", "outcome"),
    [
        (beats_hand_made, made(), "supported"),
        (beats_hand_made, made(mnist=0.3), "refuted"),
        (beats_hand_made, made(mnist=0.25), "inconclusive"),
        (meets_the_figure, made(home=0.05), "supported"),
        (meets_the_figure, made(home=0.1), "refuted"),
        (meets_the_figure, made(home=10**-1.12), "inconclusive"),
        (is_not_worse_on_mnist, made(mnist=0.2), "supported"),
        (is_not_worse_on_mnist, made(mnist=0.3), "refuted"),
        (is_not_worse_on_mnist, made(mnist=0.25), "inconclusive"),
        (keeps_its_lead, made(away=0.05), "supported"),
        (keeps_its_lead, made(away=0.2), "refuted"),
        (keeps_its_lead, made(away=0.1), "inconclusive"),
    ],
)
def test_rules_have_three_outcomes(decide, results, outcome):
    verdict = decide(results)
    assert verdict.outcome == outcome
    assert verdict.effect.endswith(".")


def test_when_meta_training_pays_back():
    # The rival's curve is 0.25 / (1 + 7 t / 200): at 0.05 after 115 steps (200 * 4 / 7 = 114.3).
    one = cost(made(), UNIFORM, LEARNED)
    assert one.steps == 115
    np.testing.assert_allclose(one.saved, (115 - 100) * 1e-3)
    np.testing.assert_allclose(one.pays_back, (16 - 6) / one.saved)
    assert cost(made(home=0.2), UNIFORM, LEARNED).pays_back == np.inf


def test_tables_of_made_up_results():
    shown = tables(made())
    assert [table.title for table in shown] == [
        f"{UNIFORM}: 40 held-out problems",
        f"{MNIST}: 40 held-out problems",
        "Transfers",
        "What tuning chose",
        "Meta-training",
        "What it costs, and when it pays back",
    ]
    assert shown[0].rows[0][:2] == (LEARNED, "-1.301")
    assert all(len(row) == len(table.columns) for table in shown for row in table.rows)


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_shipped_is_what_was_published(name):
    found = results.read(pathlib.Path(__file__).parents[2] / "docs" / "results" / "learn-to-learn" / "cpu")
    tx, metadata = shipped(found, name)
    assert pretrained(name) == tx
    assert origin(name) == metadata
