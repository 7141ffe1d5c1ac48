"""Batches are made and taken apart without a loss, and a sweep is its lanes, one by one, wherever they run."""

from __future__ import annotations

import functools
import pickle
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import gradtx

TARGET = jnp.asarray([1.0, -2.0, 0.5])
RATES, DECAYS = [0.01, 0.1, 0.3], [0.5, 0.9]
LANES = gradtx.grid(gradtx.adam, learning_rate=RATES, b1=DECAYS)
HOW = pytest.mark.parametrize("how", ["vmap", "map"])
EIGHT, ONE = jax.devices(), jax.devices()[:1]
RATE = st.floats(0.0, 1e300)
DECAY = st.floats(0.0, 1.0, exclude_max=True)


def loss(w: jax.Array, target: jax.Array) -> jax.Array:
    return jnp.sum((w - target) ** 4 + (w - target) ** 2)


def descend(tx: Any, carry: Any, target: jax.Array, steps: int = 10) -> tuple[Any, jax.Array]:
    """Parameters and state after some steps, and the losses on the way."""

    def step(carry: Any, _: None) -> tuple[Any, jax.Array]:
        w, state = carry
        value, grads = jax.value_and_grad(loss)(w, target)
        updates, state = tx.update(grads, state, w)
        return (gradtx.apply_updates(w, updates), state), value

    return jax.lax.scan(step, carry, length=steps)


def init(tx: Any) -> Any:
    return jnp.zeros(3), tx.init(jnp.zeros(3))


def segment(tx: Any, carry: Any, target: jax.Array) -> tuple[Any, jax.Array]:
    carry, losses = descend(tx, carry, target)
    return carry, losses[-1]


def train(tx: Any, target: jax.Array) -> dict[str, Any]:
    (w, _), losses = descend(tx, init(tx), target)
    return {"losses": losses, "end": {"w": w, "norm": gradtx.global_norm(w)}}


def train_from(tx: Any, key: jax.Array, target: jax.Array) -> jax.Array:
    start = jax.random.normal(key, (3,))
    return descend(tx, (start, tx.init(start)), target)[1]


def chained(rate: float, momentum: float, steps: float) -> Any:
    schedule = gradtx.cosine_decay_schedule(rate, steps, alpha=rate / 100)
    return gradtx.chain(gradtx.clip(10.0), gradtx.named_chain(("opt", gradtx.sgd(schedule, momentum))))


# Batches


@given(st.lists(st.tuples(RATE, DECAY, st.floats(1.0, 1e9)), min_size=1, max_size=5))
@settings(deadline=None, max_examples=25)
def test_lanes_come_back_as_they_went_in(values: list[tuple[float, float, float]]) -> None:
    given = [chained(*value) for value in values]
    txs = gradtx.stack(given)
    for i, tx in enumerate(given):
        found = gradtx.lane(txs, i)
        assert found == tx
        assert hash(found) == hash(tx)
        assert gradtx.to_config(found) == gradtx.to_config(tx)
        assert all(type(leaf) is float for leaf in jax.tree.leaves(found))


@given(st.lists(st.floats(0.0, 2.0**99, width=32), min_size=2, max_size=4))
@settings(deadline=None, max_examples=50)
def test_a_lane_of_float32_is_the_shortest_decimal_that_names_it(rates: list[float]) -> None:
    given = np.asarray(rates, np.float32)
    for i, rate in enumerate(given):
        found = gradtx.lane(gradtx.sgd(given), i).learning_rate
        assert type(found) is float
        assert np.float32(found) == rate
        assert len(repr(found)) <= len(repr(float(rate)))
    assert gradtx.lane(gradtx.adam(jnp.asarray([0.1, 0.2])), 0) == gradtx.adam(0.1)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_a_lane_of_half_precision_is_exact(dtype: Any) -> None:
    given = jnp.asarray([0.1, 0.2], dtype)
    assert gradtx.lane(gradtx.sgd(given), 0).learning_rate == float(given[0])


def test_a_grid_is_every_combination_the_last_axis_fastest() -> None:
    txs, labels = LANES
    assert {name: values.tolist() for name, values in labels.items()} == {"learning_rate": RATES, "b1": DECAYS}
    assert LANES.shape == (3, 2)
    assert [gradtx.lane(txs, i) for i in range(6)] == [gradtx.adam(rate, b1) for rate in RATES for b1 in DECAYS]
    assert gradtx.lane(LANES, -1) == gradtx.adam(0.3, 0.9)
    assert (txs.b2, txs.eps) == (0.999, 1e-8)  # shared numbers stay single


def test_a_factory_may_compute_with_its_numbers() -> None:
    lanes = gradtx.grid(chained, rate=jnp.asarray([0.1, 0.2]), momentum=np.asarray([0.9]), steps=(10, 20))
    assert gradtx.lane(lanes, 3) == chained(0.2, 0.9, 20)
    assert lanes.labels["rate"].tolist() == [0.1, 0.2]
    fixed = gradtx.grid(functools.partial(gradtx.adam, eps=1e-6), learning_rate=[0.1])
    assert gradtx.lane(fixed, 0) == gradtx.adam(0.1, eps=1e-6)


def test_labels_that_are_no_numbers_are_objects() -> None:
    shapes = [(0.1, 0.9), (0.2, 0.8)]
    labels = gradtx.grid(lambda pair, name: gradtx.adam(*pair), pair=shapes, name=["a"]).labels
    assert labels["pair"].tolist() == shapes
    assert labels["name"].tolist() == ["a"]


def test_equal_lanes_are_lanes() -> None:
    for number in (1, 3):
        txs = gradtx.stack([gradtx.adam(0.1)] * number)
        assert txs.b2.shape == (number,)
        assert gradtx.lane(txs, number - 1) == gradtx.adam(0.1)


def test_take_selects_lanes() -> None:
    txs = gradtx.take(LANES, [4, 4, -6])
    assert [gradtx.lane(txs, i) for i in range(3)] == [gradtx.lane(LANES, i) for i in (4, 4, 0)]
    inside = jax.jit(lambda indices: gradtx.take(LANES, indices))(jnp.asarray([4, 0]))
    assert gradtx.lane(inside, 0) == gradtx.adam(0.3, 0.5)


def test_weights_and_keys() -> None:
    """Weights are shared whole; typed keys are lanes as numbers are."""
    weights = gradtx.learned.mlp_weights(jax.random.key(0), 4)
    txs = gradtx.stack([gradtx.learned.mlp(weights, rate, hidden=4) for rate in (0.1, 0.2)])
    assert gradtx.lane(txs, 1) == gradtx.learned.mlp(weights, 0.2, hidden=4)
    keyed = [Keyed(key, 0.1) for key in jax.random.split(jax.random.key(0), 3)]
    assert gradtx.lane(gradtx.stack(keyed), 2) == keyed[2]
    drawn = gradtx.sweep(lambda tx: jax.random.uniform(tx.key), gradtx.stack(keyed))["value"]
    np.testing.assert_array_equal(drawn, [jax.random.uniform(tx.key) for tx in keyed])


class Keyed(gradtx.Stateless):
    key: jax.Array
    scale: gradtx.Scalar

    def update(self, updates: Any, state: Any, params: Any = None) -> Any:
        return updates, state


def test_lanes_made_inside_jit() -> None:
    def first(rates: jax.Array) -> jax.Array:
        txs = gradtx.stack([gradtx.sgd(rates[0]), gradtx.sgd(rates[1])])
        return jax.vmap(lambda tx: tx.learning_rate * 2, in_axes=(gradtx.batch_axes(txs),))(txs)

    np.testing.assert_allclose(jax.jit(first)(jnp.asarray([0.1, 0.2])), [0.2, 0.4])


# Sweeps


def one_by_one(lanes: Any, number: int) -> list[dict[str, Any]]:
    alone = jax.jit(train)
    return [alone(gradtx.lane(lanes, i), TARGET) for i in range(number)]


@HOW
@pytest.mark.parametrize("devices", [ONE, EIGHT[:4], None], ids=["one", "four", "eight"])
def test_a_sweep_is_its_lanes(how: Any, devices: Any) -> None:
    """Six lanes over four or eight devices do not divide. Bit-equal: nothing here is a matrix product."""
    found = gradtx.sweep(train, LANES, TARGET, how=how, devices=devices)
    assert {name: array.shape for name, array in found.items()} == {
        "losses": (3, 2, 10),
        "end.w": (3, 2, 3),
        "end.norm": (3, 2),
    }
    for i, expected in enumerate(one_by_one(LANES, 6)):
        place = np.unravel_index(i, LANES.shape)
        np.testing.assert_allclose(found["losses"][place], expected["losses"], rtol=1e-6)
        np.testing.assert_allclose(found["end.w"][place], expected["end"]["w"], rtol=1e-6)


@HOW
def test_schedules_and_chains_are_lanes(how: Any) -> None:
    lanes = gradtx.grid(chained, rate=[0.01, 0.05], momentum=[0.0, 0.9], steps=[5, 10, 1000])
    found = gradtx.sweep(train, lanes, TARGET, how=how)["losses"].reshape(12, 10)
    for i, expected in enumerate(one_by_one(lanes, 12)):
        np.testing.assert_allclose(found[i], expected["losses"], rtol=1e-5)


@HOW
@pytest.mark.parametrize("devices", [ONE, None], ids=["one", "eight"])
def test_line_searches_are_lanes(how: Any, devices: Any) -> None:
    """Loops whose length differs between lanes, inside the library's `shard_map`."""

    def search(tx: Any, target: jax.Array) -> jax.Array:
        def value_fn(w: jax.Array) -> jax.Array:
            return loss(w, target)

        def step(carry: Any, _: None) -> tuple[Any, jax.Array]:
            w, state = carry
            value, grads = jax.value_and_grad(value_fn)(w)
            updates, state = tx.update(grads, state, w, value=value, grad=grads, value_fn=value_fn)
            return (gradtx.apply_updates(w, updates), state), value

        return jax.lax.scan(step, init(tx), length=5)[1]

    def make(rate: float, slope_rtol: float) -> Any:
        line_search = gradtx.scale_by_zoom_linesearch(15, slope_rtol=slope_rtol)
        return gradtx.chain(gradtx.sgd(rate), line_search)

    lanes = gradtx.grid(make, rate=[0.01, 1.0, 30.0], slope_rtol=[1e-4, 1e-2])
    found = gradtx.sweep(search, lanes, TARGET, how=how, devices=devices)["value"].reshape(6, 5)
    expected = [jax.jit(search)(gradtx.lane(lanes, i), TARGET) for i in range(6)]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-10)


@HOW
def test_seeds_are_a_first_axis_with_common_random_numbers(how: Any) -> None:
    found = gradtx.sweep(train_from, LANES, TARGET, how=how, seeds=3)
    assert found["value"].shape == (3, 3, 2, 10)
    assert list(found.coords) == ["seed", "learning_rate", "b1"]
    first = found["value"][..., 0]
    np.testing.assert_array_equal(first, np.broadcast_to(first[:, :1, :1], first.shape))
    assert len(np.unique(first)) == 3
    some = gradtx.sweep(train_from, LANES, TARGET, how=how, seeds=[2, 0], devices=ONE)
    np.testing.assert_allclose(some["value"], found["value"][[2, 0]], rtol=1e-6)
    alone = train_from(gradtx.lane(LANES, 5), jax.random.key(2), TARGET)
    np.testing.assert_allclose(found["value"][2, 2, 1], alone, rtol=1e-6)


@HOW
@pytest.mark.parametrize("devices", [ONE, EIGHT], ids=["one", "eight"])
def test_a_lane_that_diverges_leaves_the_others_alone(how: Any, devices: Any) -> None:
    def sweep(rate: float) -> np.ndarray:
        lanes = gradtx.grid(gradtx.sgd, learning_rate=[0.01, rate, 0.02])
        return gradtx.sweep(train, lanes, TARGET, how=how, devices=devices)["losses"]

    with_it, without = sweep(1e20), sweep(0.015)
    assert not np.isfinite(with_it[1, -1])
    np.testing.assert_array_equal(with_it[[0, 2]], without[[0, 2]])


@pytest.mark.usefixtures("x64")
def test_all_digits_of_float64() -> None:
    target = TARGET.astype(jnp.float64)
    found = gradtx.sweep(lambda tx, target: loss(tx.learning_rate * target, target), LANES, target)["value"]
    np.testing.assert_array_equal(found[:, 0], [loss(rate * target, target) for rate in RATES])


@HOW
def test_another_batch_of_the_kind_compiles_nothing(how: Any) -> None:
    traces = []

    def counted(tx: Any) -> jax.Array:
        traces.append(tx)
        return jnp.asarray(tx.learning_rate) * 2

    for rates in ([0.1, 0.2], [0.3, 0.5]):
        gradtx.sweep(counted, gradtx.grid(gradtx.adam, learning_rate=rates), how=how, devices=ONE)
    assert len(traces) == 1


def test_padding_in_turn_is_not_trained() -> None:
    """Nine lanes on eight devices: two each, and seven of the sixteen are padding."""
    trained: list[float] = []

    def noted(tx: Any) -> jax.Array:
        rate = jnp.asarray(tx.learning_rate)
        jax.debug.callback(lambda rate: trained.append(float(rate)), rate)
        return rate

    rates = [float(i) for i in range(9)]
    found = gradtx.sweep(noted, gradtx.grid(gradtx.sgd, learning_rate=rates), how="map")
    jax.effects_barrier()
    assert sorted(trained) == found["value"].tolist() == rates


def test_a_batch_without_labels_has_lanes() -> None:
    found = gradtx.sweep(train, gradtx.adam(jnp.asarray(RATES)), TARGET)
    assert found.coords["lane"].tolist() == [0, 1, 2]
    np.testing.assert_allclose(found["losses"], gradtx.sweep(train, LANES, TARGET)["losses"][:, 1], rtol=1e-6)


def test_hypergradients_are_results_by_their_paths() -> None:
    def slopes(tx: Any) -> Any:
        return jax.grad(lambda tx: train(tx, TARGET)["losses"][-1])(tx)

    found = gradtx.sweep(slopes, gradtx.grid(chained, rate=[0.01, 0.02], momentum=[0.5], steps=[20]))
    assert "transforms.1.transforms.0.learning_rate.decay_steps" in found
    h, (low, high) = 1e-3, (chained(0.01, 0.5 + sign * 1e-3, 20) for sign in (-1, 1))
    difference = (train(high, TARGET)["losses"][-1] - train(low, TARGET)["losses"][-1]) / (2 * h)
    slope = found["transforms.1.transforms.0.momentum"][0, 0, 0]
    np.testing.assert_allclose(slope, difference, rtol=1e-2)  # of a difference in float32


def test_results_as_xarray() -> None:
    found = gradtx.sweep(train_from, LANES, TARGET, seeds=2)
    data = found.to_xarray({"value": ["step"]})
    assert dict(data.sizes) == {"seed": 2, "learning_rate": 3, "b1": 2, "step": 10}
    best = data.value.sel(learning_rate=0.1, b1=0.9, seed=1)
    np.testing.assert_array_equal(best, found["value"][1, 1, 1])
    unnamed = gradtx.sweep(train, LANES, TARGET).to_xarray()
    assert unnamed["end.w"].dims == ("learning_rate", "b1", "end.w_0")
    assert isinstance(unnamed, xr.Dataset)
    with pytest.raises(ValueError, match="`value` has 1 further axes, got the names"):
        found.to_xarray({"value": ["step", "more"]})
    clash = gradtx.sweep(lambda tx: {"b1": jnp.asarray(tx.b1)}, LANES)
    with pytest.raises(ValueError, match="`b1` is a result and an axis"):
        clash.to_xarray()


def test_without_xarray_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(ImportError, match="to_xarray needs xarray, which gradtx does not install: pip install xarray"):
        gradtx.sweep(train, LANES, TARGET).to_xarray()


def test_results_are_a_dict_that_prints_short_and_pickles() -> None:
    found = gradtx.sweep(train, LANES, TARGET)
    assert repr(found) == (
        "SweepResults(end.norm (3, 2), end.w (3, 2, 3), losses (3, 2, 10); over learning_rate 3, b1 2)"
    )
    again = pickle.loads(pickle.dumps(found))
    assert again.coords.keys() == found.coords.keys()
    np.testing.assert_array_equal(again["losses"], dict(**found)["losses"])
    best = gradtx.lane(LANES, found["losses"][..., -1].argmin())
    assert best == gradtx.adam(0.3, 0.9) or best == gradtx.adam(0.3, 0.5)


# Searches


@HOW
@pytest.mark.parametrize("devices", [ONE, None], ids=["one", "eight"])
def test_successive_halving(how: Any, devices: Any) -> None:
    lanes = gradtx.grid(gradtx.sgd, learning_rate=np.geomspace(1e-4, 10.0, 11).tolist())
    found = gradtx.successive_halving(init, segment, lanes, TARGET, rungs=(1, 2, 1), how=how, devices=devices)
    assert np.isfinite(found.scores).sum(1).tolist()[1:] == [5, 2]  # of the first rung the highest rates diverge
    assert np.isnan(found.scores).sum(1).tolist()[1:] == [6, 9]
    # The survivors are trained as if alone, for all four segments.
    for place, index in enumerate(found.lanes):
        (w, _), losses = jax.jit(functools.partial(descend, steps=40))(
            gradtx.lane(lanes, index), init(gradtx.sgd(0.1)), TARGET
        )
        np.testing.assert_allclose(found.carry[0][place], w, rtol=1e-5)
        np.testing.assert_allclose(found.scores[-1, index], losses[-1], rtol=1e-4, atol=1e-12)
    # After the first rung those with the least loss went on.
    after_first = gradtx.sweep(train, lanes, TARGET)["losses"][:, -1]
    assert set(np.argsort(after_first)[:5]) == set(np.flatnonzero(np.isfinite(found.scores[1])))


def explore(tx: Any, rng: np.random.Generator) -> Any:
    return tx.replace(learning_rate=tx.learning_rate * rng.choice([0.5, 2.0]))


def test_population_based_training() -> None:
    lanes = gradtx.grid(gradtx.sgd, learning_rate=[1e-5, 2e-5, 1e-4, 1e-3, 1e-3, 1e20], momentum=[0.5])
    search = functools.partial(gradtx.population_based_training, init, segment, explore, lanes, TARGET)
    found = search(generations=6, share=0.34)
    assert found.scores.shape == (6, 6)
    assert found.parents.shape == (5, 6)
    assert found.parents[0].tolist()[1:5] == [1, 2, 3, 4]  # the worst two are 1e20, which diverged, and 1e-5
    assert all(parent in (3, 4) for parent in found.parents[0][[0, 5]])
    assert np.isnan(found.scores[0, 5]) or np.isinf(found.scores[0, 5])
    assert np.isfinite(found.scores[1:]).all()
    assert found.scores[-1].min() < gradtx.sweep(plain_run, lanes, TARGET)["value"].min()
    for txs, parent, after in zip(found.history, found.parents, found.history[1:], strict=False):
        for i, p in enumerate(parent):
            before, now = gradtx.lane(txs, p).learning_rate, gradtx.lane(after, i).learning_rate
            assert now == before if p == i else now in (before / 2, before * 2)
    np.testing.assert_array_equal(search(generations=6, share=0.34).scores, found.scores)
    np.testing.assert_allclose(search(generations=2, seed=0, devices=ONE, how="map").scores[0], found.scores[0])


def plain_run(tx: Any, target: jax.Array) -> jax.Array:
    losses = descend(tx, init(tx), target, 60)[1]
    return jnp.where(jnp.isfinite(losses[-1]), losses[-1], jnp.inf)
