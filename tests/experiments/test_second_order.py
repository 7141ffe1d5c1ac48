"""The study of second derivatives: its claims can come out in three ways, costs are read rightly, and it runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import gradtx
from experiments import data, descent_methods, descents, minima
from experiments.descent_readings import costs, effort, efforts
from experiments.looks import DARK, LIGHT
from experiments.picture import render_png
from experiments.studies.second_order import STUDY, noise_ruins, pairs_of_one_batch_mend, pays_only_near

SEEDS = 5
STAGES = ["far", "near"]
TARGETS = descents.TARGETS
NAMES = {kind: [method.name for method in methods] for kind, methods in descent_methods.METHODS.items()}
USUAL = {
    ("full", "far"): {"SGD": 250, "Momentum": 120, "Adam": 90, "L-BFGS": 30, "Newton-CG": 60, "Gauss-Newton-CG": 60},
    ("full", "near"): {"SGD": 900, "Momentum": 280, "Adam": 290, "L-BFGS": 90, "Newton-CG": 80, "Gauss-Newton-CG": 80},
    ("mini", "far"): {"SGD": 8, "Momentum": 7, "Adam": 7, "stochastic L-BFGS": 9, "naive L-BFGS": 90,
                      "naive L-BFGS, searching": 200},
    ("mini", "near"): {"SGD": 900, "Momentum": 900, "Adam": 900, "stochastic L-BFGS": 1500, "naive L-BFGS": 1e5,
                       "naive L-BFGS, searching": 1e6},
}  # fmt: skip


def made(spread=0.03, key=0, **changes):
    """Runs whose excess falls as a power of the cost and meets the target at the given cost, times a seed's luck."""
    rng = np.random.default_rng(key)
    parts = {}
    grids = {"full": np.arange(1.0, 301), "mini": np.geomspace(0.01, 40, 300)}
    for kind, along in (("full", "evaluation"), ("mini", "pass")):
        rows = np.empty((2, len(NAMES[kind]), SEEDS, len(grids[kind])))
        for i, stage in enumerate(STAGES):
            for j, name in enumerate(NAMES[kind]):
                needed = changes.get(f"{kind}_{stage}", {}).get(name, USUAL[kind, stage][name])
                needed = needed * np.exp(spread * rng.normal(size=(SEEDS, 1)))
                rows[i, j] = TARGETS[stage] * (needed / grids[kind]) ** 2 * (1 - 1e-9)
        parts[f"{kind}_excess"] = (("stage", kind, "seed", along), rows)
        parts[f"{kind}_rate"] = (("stage", kind), np.full(rows.shape[:2], 0.1))
        parts[f"{kind}_at_edge"] = (("stage", kind), np.zeros(rows.shape[:2], bool))
        parts[f"{kind}_seconds"] = (("stage", kind), np.full(rows.shape[:2], 0.01))
        parts[f"{kind}_tuning"] = (("stage", kind, f"{kind}_learning_rate"), rng.normal(size=(*rows.shape[:2], 3)))
    return xr.Dataset(
        parts
        | {
            "evaluations": (("images", "solver"), [[100, 110], [120, 130]]),
            "least": 0.2,
            "largest_gradient": 1e-12,
            "product_seconds": 0.02,
            "gradient_seconds": 0.01,
        },
        coords={
            "stage": STAGES, "full": NAMES["full"], "mini": NAMES["mini"], "seed": np.arange(SEEDS),
            "evaluation": grids["full"], "pass": grids["mini"], "solver": ["gradtx.lbfgs", "scipy L-BFGS-B"],
            "images": [5000, 50_000],
            "full_learning_rate": [0.1, 0.3, 1.0], "mini_learning_rate": [0.1, 0.3, 1.0],
        },
    )  # fmt: skip


@pytest.mark.parametrize(
    ("decide", "results", "outcome"),
    [
        (pays_only_near, made(), "supported"),
        (pays_only_near, made(mini_far={"SGD": 60, "Momentum": 60, "Adam": 60}), "refuted"),
        (pays_only_near, made(full_near={"Momentum": 50}), "refuted"),
        (pays_only_near, made(spread=0.5, mini_far={"SGD": 30, "Momentum": 30, "Adam": 30}), "inconclusive"),
        # None meets the target within its budget.
        (pays_only_near, made(full_near=dict.fromkeys(NAMES["full"], 5000)), "inconclusive"),
        (noise_ruins, made(), "supported"),
        (noise_ruins, made(mini_far={"naive L-BFGS": 3}), "refuted"),
        (noise_ruins, made(spread=0.5, key=1, mini_far={"naive L-BFGS": 8}), "inconclusive"),
        (pairs_of_one_batch_mend, made(), "supported"),
        (pairs_of_one_batch_mend, made(mini_near={"stochastic L-BFGS": 1e7}), "refuted"),
        (pairs_of_one_batch_mend, made(spread=0.5, key=1, mini_far={"stochastic L-BFGS": 90}), "inconclusive"),
    ],
)
def test_claims(decide, results, outcome):
    verdict = decide(results)
    print(verdict)
    assert verdict.outcome == outcome


def diverged(results, kind, name):
    left = results[f"{kind}_excess"].copy()
    left.loc[{kind: name}] = np.inf
    return results.assign({f"{kind}_excess": left})


def test_what_diverged_takes_the_most_effort():
    lost = diverged(made(), "mini", "naive L-BFGS")
    assert noise_ruins(lost).outcome == "supported"
    assert pairs_of_one_batch_mend(lost).outcome == "supported"
    assert noise_ruins(diverged(made(), "mini", "SGD")).outcome == "refuted"


def test_costs_are_those_of_the_first_meeting():
    results = made(spread=0.0)
    np.testing.assert_array_equal(costs(results, "full", "far", "L-BFGS", TARGETS["far"]), 30)
    np.testing.assert_array_equal(costs(results, "full", "near", "SGD", TARGETS["near"]), np.inf)
    grid = results["pass"].values
    np.testing.assert_array_equal(costs(results, "mini", "far", "SGD", TARGETS["far"]), grid[grid >= 8][0])
    # 900 are needed, 300 there are: a ninth of the way in the excess.
    np.testing.assert_allclose(
        efforts(results, "full", "near", "SGD", TARGETS["near"]), np.log10(300) + 2 * np.log10(3), rtol=1e-6
    )


def test_effort_counts_the_last_point_of_a_run_that_ended():
    paid = np.array([1.0, 5.0, 9.0, np.inf, np.inf])
    assert effort(paid, np.array([1.0, 0.2, 0.1, 0.1, 0.1]), 0.01) == pytest.approx(np.log10(9) + 1)
    assert effort(paid, np.array([1.0, 0.2, 0.1, 0.1, 0.1]), 0.2) == pytest.approx(np.log10(5))
    assert effort(paid, np.array([1.0, np.nan, np.nan, np.nan, np.nan]), 0.2) == np.inf


@pytest.mark.slow
@pytest.mark.parametrize("results", [made(), diverged(made(), "mini", "naive L-BFGS")], ids=["whole", "diverged"])
def test_tables_and_pictures(results):
    for table in STUDY.tables(results):
        assert all(len(row) == len(table.columns) for row in table.rows)
    for one in STUDY.pictures:
        assert render_png(one, results, LIGHT, dpi=30).startswith(b"\x89PNG")
    assert render_png(STUDY.pictures[0], results, DARK, dpi=30).startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_what_is_paid_is_counted():
    """On a small problem: the initial gradient; one more a step of SGD; searches and products of the others."""
    rng = np.random.default_rng(0)
    problem = minima.softmax_problem(jnp.asarray(rng.normal(size=(20, 4))), jnp.arange(20) % 10, 1e-2)
    start = jax.tree.map(lambda leaf: leaf[None], problem.start)
    by_name = {method.name: method for method in descent_methods.METHODS["full"]}
    paid, values = descent_methods.whole(by_name["SGD"], problem.args, jnp.asarray([0.1]), start, 6)
    np.testing.assert_array_equal(paid[0], [1, 2, 3, 4, 5, 6, np.inf])
    assert (np.diff(values[0][:6]) < 0).all()
    paid, values = descent_methods.whole(by_name["Newton-CG"], problem.args, jnp.asarray([0.1]), start, 40)
    known = np.asarray(paid[0][np.isfinite(paid[0])])
    assert known[0] == 1
    assert (np.diff(known) >= 3).all()  # a product at least, and one evaluation
    assert values[0][0] == pytest.approx(np.log(10))
    assert values[0][-1] == values[0][len(known) - 1]
    mini = {method.name: method for method in descent_methods.METHODS["mini"]}
    keys = jax.random.split(jax.random.key(0), 1)
    looks = (3, 10, 25)
    for name, expected in (("SGD", looks), ("stochastic L-BFGS", (3, 12, 29))):
        method = mini[name]
        paid, _ = descent_methods.mini(method, problem.args, jnp.asarray([0.1]), start, keys, 5, looks)
        np.testing.assert_allclose(paid[0], np.asarray(expected) / 4)


@pytest.mark.slow
@pytest.mark.usefixtures("x64", "standard_promotion")
def test_on_mnist_no_more_than_others_do(data_dir, decoded):
    train = data.load("mnist", data_dir("mnist")).train
    images = jnp.asarray(np.asarray(train.images[:1000]).reshape(1000, -1), jnp.float64)
    problem = minima.softmax_problem(images, train.labels[:1000], 1e-3)
    solvers = minima.by_gradtx(problem, gradtx.lbfgs()), minima.by_scipy(problem), minima.by_optax(problem)
    ours, scipys, optaxs = map(minima.needed, solvers)
    print(f"{ours} evaluations, scipy {scipys}, optax {optaxs}")
    assert ours <= 1.15 * scipys
    # Nearly all searches end at their first step, and so it is rounding that makes a few percent, either way.
    assert ours <= 1.05 * optaxs


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_the_stages_begin_where_they_say():
    rng = np.random.default_rng(0)
    problem = minima.softmax_problem(jnp.asarray(rng.random((30, 784))), jnp.arange(30) % 10, 0.1)
    found = gradtx.minimize(problem.function, problem.start, gradtx.lbfgs(), args=problem.args, tol=1e-10)
    left = {}
    for stage in STAGES:
        setting = descents._setting(problem, found.params, stage, np.arange(2))
        values = jax.vmap(lambda params: problem.function(params, *problem.args))(setting.starts)
        left[stage] = (values - found.value) / setting.excess
    np.testing.assert_allclose(left["far"], 1)
    np.testing.assert_allclose(left["near"], descents.NEAR, rtol=1e-6)
