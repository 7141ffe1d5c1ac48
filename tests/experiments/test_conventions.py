"""The conventions are what papers, libraries and the study's listings say, and the study of them runs."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import convention_pictures, data
from experiments.comparison import DEFAULT, TUNED, Stage
from experiments.convention_readings import differences
from experiments.conventions import BASE, VARIANTS, bites, full_name, keras_adam, methods, steps
from experiments.conventions import STUDY as CODE
from experiments.looks import DARK, LIGHT, LOOKS, look
from experiments.picture import render_png
from experiments.progress import Progress
from experiments.store import opened
from experiments.studies.conventions import NAME, STUDY, matters_by_default, no_matter_when_tuned
from experiments.study import Context
from experiments.tuning import Grid
from gradtx.testing import check_transformation
from tests.experiments.synthetic import around, comparison

NAMES = [method.name for method in methods()]


@pytest.fixture(scope="module")
def table():
    return bites()


# Published: the bias corrections are arithmetic; losses on the bowl are those of the listings run as they stand.
BITES = [
    ("Adam, rate 0.1: first step at a gradient of 1e-6", {BASE: 0.0990, "Keras": 0.0240, CODE: 1e-4}),
    ("Adam, rate 1: length of step 1 at a gradient of 1", {BASE: 1, "Keras": 1, CODE: 0.1 / 0.001**0.5}),
    ("Adam, rate 1: length of step 12 at a gradient of 1", {BASE: 1, CODE: 6.57}),
    ("RMSprop, rate 1: first step at a gradient of 1", {BASE: 10**0.5, "PyTorch": 10, CODE: 10**0.5}),
    ("Adagrad, rate 1: first step in y on the saddle", {BASE: 0.0063, "PyTorch": 1.000, "Keras": 0.0063, CODE: 1.000}),
    ("Adadelta, rate 1: loss on the bowl after 50 steps, of 299", {BASE: 278, CODE: 1e-22}),
    ("NAG, rate 0.01: loss on the bowl after 50 steps, of 299", {BASE: 0.105946, "paper": 0.105946, CODE: 0.0293}),
]


@pytest.mark.parametrize(("what", "values"), BITES, ids=[what.split(":")[0] for what, _ in BITES])
def test_bites(table, what, values):
    found = dict(zip(zip(table.what.values, table.convention.values, strict=True), table.value.values, strict=True))
    for convention, value in values.items():
        # To the digits that are published.
        assert found[what, convention] == pytest.approx(value, rel=0.2 if value < 1e-9 else 0.01), convention


def test_keras_adam_is_kerass():
    """Its source in five lines of NumPy: the rate takes up the correction, and eps is added to the plain root."""
    gradients = np.random.default_rng(0).normal(size=(50, 3)) * 10.0 ** np.array([0, -4, -8])
    m = v = np.zeros(3)
    expected = []
    for t, g in enumerate(gradients, 1):
        rate = 0.1 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        m, v = m + (g - m) * (1 - 0.9), v + (g**2 - v) * (1 - 0.999)
        expected.append(-m * rate / (np.sqrt(v) + 1e-7))
    tx, taken = keras_adam(0.1), []
    state = tx.init(jnp.zeros(3))
    for g in gradients:
        update, state = tx.update(jnp.asarray(g, jnp.float32), state)
        taken.append(update)
    np.testing.assert_allclose(np.stack(taken), expected, rtol=2e-5, atol=1e-7)


@pytest.mark.slow
def test_keras_adam_keeps_the_laws():
    check_transformation(keras_adam(0.1), sign="flips")


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", VARIANTS)
def test_conventions_differ_only_in_detail(optimizer):
    """All descend, and at a gradient of ordinary size they agree within an order of magnitude after a while."""
    lengths = {
        name: steps(make(1.0), 1.0, 40)[-1]
        for name, (make, _) in VARIANTS[optimizer].items()
        if optimizer != "Adadelta"
    }
    assert all(length > 0 for length in lengths.values())
    if lengths:
        assert max(lengths.values()) / min(lengths.values()) < 10


def test_names_and_looks():
    assert len(set(NAMES)) == len(NAMES)
    for optimizer, variants in VARIANTS.items():
        assert next(iter(variants)) == BASE
        for convention in variants:
            assert look(full_name(optimizer, convention)) == LOOKS[optimizer]
            assert convention in convention_pictures.LINES


def results(**gaps):
    """All at 97 %, but for variants that are so many points away in the tuned or the default track."""
    made = comparison({name: around(0.97, 0.0005) for name in NAMES}, models=[NAME])
    for track in (TUNED, DEFAULT):
        for name, gap in gaps.get(track, {}).items():
            made.test_accuracy.loc[{"optimizer": name, "track": track}] += np.reshape(gap, (1, -1, 1)) / 100
    return made


KERAS, PRINTED = "Adam (Keras)", "Adam (study's code)"
NOISE = 3 * np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
OUTCOMES = [({}, "alike"), ({KERAS: -2.0}, "apart"), ({KERAS: NOISE}, "not known"), ({PRINTED: np.nan}, "apart")]


@pytest.mark.parametrize(("gaps", "outcome"), OUTCOMES)
def test_claims(gaps, outcome):
    as_n1 = {"alike": "supported", "apart": "refuted", "not known": "inconclusive"}
    as_n2 = {"alike": "refuted", "apart": "supported", "not known": "inconclusive"}
    assert no_matter_when_tuned(results(tuned=gaps)).outcome == as_n1[outcome]
    assert no_matter_when_tuned(results(default=gaps)).outcome == "supported"
    assert matters_by_default(results(default=gaps)).outcome == as_n2[outcome]
    assert matters_by_default(results(tuned=gaps)).outcome == "refuted"


def test_differences_are_paired_and_of_the_same_optimizer():
    gaps = differences(results(tuned={KERAS: -2.0}), NAME, TUNED)
    assert len(gaps) == len(NAMES) - len(VARIANTS)
    assert gaps[KERAS].mean == pytest.approx(-0.02)
    assert gaps[KERAS].high - gaps[KERAS].low < 1e-9  # what the seeds share cancels
    assert gaps[PRINTED].mean == pytest.approx(0)


@pytest.mark.slow
@pytest.mark.parametrize("made", [results(), results(tuned={KERAS: np.nan})], ids=["whole", "diverged"])
def test_tables_and_pictures(made, table):
    whole = made.assign(table.data_vars).assign_coords(table.coords)
    for one in STUDY.tables(whole):
        assert all(len(row) == len(one.columns) for row in one.rows)
        assert not any("nan" in cell for row in one.rows for cell in row)
    for one in STUDY.pictures:
        assert render_png(one, whole, LIGHT, dpi=30).startswith(b"\x89PNG")
    assert render_png(STUDY.pictures[0], whole, DARK, dpi=30).startswith(b"\x89PNG")


@pytest.mark.slow
def test_runs_and_goes_on(tmp_path):
    tier = dataclasses.replace(
        STUDY.tiers["smoke"], epochs=2, seeds=2, grid=Grid(-3, -2), tuning=Stage(epochs=1, seeds=1), train_size=64,
        methods=tuple(method for method in methods() if method.name.startswith("Adam ")),
    )  # fmt: skip
    dataset = data.load("digits")
    with opened(tmp_path / "parts", "a spec") as store, Progress() as progress:
        first = STUDY.run(tier, Context(store, progress, dataset))
    with opened(tmp_path / "parts", "a spec") as store, Progress() as progress:
        assert STUDY.run(tier, Context(store, progress, dataset)).identical(first)
    assert first.sizes["optimizer"] == 3
    assert np.isfinite(first.test_accuracy).all()
    assert STUDY.expected(tier).keys() >= {"bites"}
