"""Learned optimizers: NumPy oracles, methods that the MLP contains, meta-training, and bad weights."""

# Some calls are wrong on purpose, and pyright sees many of them too.
# pyright: reportArgumentType=false

from __future__ import annotations

import io
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import gradtx
from gradtx import learned

KEY = jax.random.key(0)
LSTM = learned.lstm(learned.lstm_weights(KEY, 3), hidden=3)
MLP = learned.mlp(learned.mlp_weights(KEY, 4), hidden=4)
BOTH = pytest.mark.parametrize("tx", [LSTM, MLP], ids=["lstm", "mlp"])


def spread(weights: Any) -> Any:
    """The same weights but for noise of 0.3 in each, so that none is zero; in float64."""
    leaves, structure = jax.tree.flatten(weights)
    rng = np.random.default_rng(5)
    return structure.unflatten([np.asarray(leaf, np.float64) + 0.3 * rng.normal(size=leaf.shape) for leaf in leaves])


def gradients(steps: int, shape: tuple[int, ...]) -> np.ndarray:
    """Of many sizes, some so small that the LSTM reads them linearly, some 0."""
    rng = np.random.default_rng(6)
    values = rng.normal(size=(steps, *shape)) * 10.0 ** rng.integers(-7, 2, size=(steps, *shape))
    return np.where(rng.random(values.shape) < 0.1, 0.0, values)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def lstm_oracle(weights: Any, gradients: np.ndarray, layers: int) -> np.ndarray:
    """One entry, in the order of the paper's appendix; rows are inputs."""
    hidden = weights["output"]["kernel"].shape[0]
    output, cell, out = np.zeros((layers, hidden)), np.zeros((layers, hidden)), []
    for g in gradients:
        x = np.array([np.log(abs(g)) / 10, np.sign(g)] if abs(g) >= np.exp(-10) else [-1.0, np.exp(10) * g])
        for i in range(layers):
            z = np.concatenate([x, output[i]]) @ weights[f"layer_{i}"]["kernel"] + weights[f"layer_{i}"]["bias"]
            let_in, candidate, forget, let_out = np.split(z, 4)
            cell[i] = sigmoid(forget + 1) * cell[i] + sigmoid(let_in) * np.tanh(candidate)
            x = output[i] = sigmoid(let_out) * np.tanh(cell[i])
        out.append((x @ weights["output"]["kernel"] + weights["output"]["bias"])[0])
    return np.array(out)


def mlp_oracle(weights: Any, gradients: np.ndarray) -> np.ndarray:
    """One entry."""
    decays, squares = sigmoid(weights["decays"]), sigmoid(weights["squares_decay"])
    m, v, out = np.zeros(4), 0.0, []
    for t, g in enumerate(gradients, 1):
        m, v = decays * m + (1 - decays) * g, squares * v + (1 - squares) * g**2
        average, root = m / (1 - decays**t), np.sqrt(v / (1 - squares**t))
        ratio = average / (root + 2.0**-62)
        sizes = np.log(np.append(np.abs(average), root) + 1e-8) / 10
        x = np.concatenate([ratio, sizes])
        time = np.tanh(t / np.array([1, 3, 10, 30, 100, 300, 1000]))
        h = np.tanh(x @ weights["layer_0"]["kernel"] + time @ weights["time"] + weights["layer_0"]["bias"])
        h = np.tanh(h @ weights["layer_1"]["kernel"] + weights["layer_1"]["bias"])
        c = h @ weights["output"]["kernel"] + weights["output"]["bias"]
        out.append(np.exp(c[0]) * np.sum(c[1:5] * ratio + c[5:] * m))
    return np.array(out)


def outputs(tx: Any, gradients: np.ndarray) -> np.ndarray:
    """What a part makes of a run of gradients."""

    def step(state: Any, g: Any) -> Any:
        updates, state = tx.update(g, state)
        return state, updates

    return np.asarray(jax.jit(lambda gs: jax.lax.scan(step, tx.init(gs[0]), gs)[1])(jnp.asarray(gradients)))


@pytest.mark.parametrize("layers", [1, 2])
def test_the_lstm_is_the_paper_s(x64, layers):
    weights = spread(learned.lstm_weights(KEY, 4, layers))
    given = gradients(50, (2, 3))
    made = outputs(learned.scale_by_lstm(weights, hidden=4, layers=layers), given)
    expected = np.stack([lstm_oracle(weights, row, layers) for row in given.reshape(50, -1).T], axis=-1)
    np.testing.assert_allclose(made.reshape(50, -1), expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max())


def test_the_mlp_is_what_its_formula_says(x64):
    weights = spread(learned.mlp_weights(KEY, 5))
    given = gradients(50, (2, 3))
    made = outputs(learned.scale_by_mlp(weights, hidden=5), given)
    expected = np.stack([mlp_oracle(weights, row) for row in given.reshape(50, -1).T], axis=-1)
    np.testing.assert_allclose(made.reshape(50, -1), expected, rtol=1e-11, atol=1e-11 * np.abs(expected).max())


def constant(**coefficients: float) -> Any:
    """Weights of an MLP that gives these coefficients whatever it reads."""
    weights = learned.mlp_weights(KEY, 4)
    names = ["log_scale"] + [f"ratio_{i}" for i in range(4)] + [f"average_{i}" for i in range(4)]
    bias = jnp.asarray([coefficients.get(name, 0.0) for name in names])
    return {**weights, "output": {"kernel": jnp.zeros_like(weights["output"]["kernel"]), "bias": bias}}


def decay_of(weights: Any, i: int) -> Any:
    return jax.nn.sigmoid(jnp.asarray(weights["decays"][i], jnp.result_type(float)))


@pytest.mark.slow
def test_the_mlp_contains_momentum_and_adam(x64):
    given = gradients(30, (5,))
    weights = constant(average_2=1.0)
    momentum = outputs(gradtx.ema(decay_of(weights, 2), debias=False), given)
    np.testing.assert_allclose(outputs(learned.scale_by_mlp(weights, hidden=4), given), momentum, rtol=1e-12)
    weights = constant(ratio_2=1.0)
    b2 = jax.nn.sigmoid(jnp.asarray(weights["squares_decay"], jnp.float64))
    adam = outputs(gradtx.scale_by_adam(decay_of(weights, 2), b2, 0.0), given)
    np.testing.assert_allclose(outputs(learned.scale_by_mlp(weights, hidden=4), given), adam, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("adaptive", [False, True])
def test_fresh_weights_of_the_mlp_begin_as_momentum_or_adam(adaptive):
    weights = learned.mlp_weights(KEY, decay=0.8, adaptive=adaptive)
    weights["output"]["kernel"] = jnp.zeros_like(weights["output"]["kernel"])
    given = np.asarray(gradients(30, (50,)), np.float32)
    mlp = learned.mlp(weights, 0.1 if adaptive else 0.1 / (1 - 0.8))
    known = gradtx.adam(0.1, 0.8, 0.99, 0.0) if adaptive else gradtx.sgd(0.1, 0.8)
    # Roundings of float32, of the decays' logits above all.
    np.testing.assert_allclose(outputs(mlp, given), outputs(known, given), rtol=1e-4, atol=1e-5)


def test_the_mlp_stands_still_where_the_gradient_was_always_zero():
    made = outputs(learned.scale_by_mlp(learned.mlp_weights(KEY)), np.zeros((5, 3), np.float32))
    assert not made.any()


@BOTH
def test_each_entry_is_by_itself(tx):
    given = np.asarray(gradients(10, (4, 3)), np.float32)
    whole = outputs(tx, given)
    order = np.random.default_rng(0).permutation(12)
    shuffled = outputs(tx, given.reshape(10, -1)[:, order])
    # Another shape is another matrix product, whose sums may be in another order.
    np.testing.assert_allclose(shuffled, whole.reshape(10, -1)[:, order], rtol=1e-4, atol=1e-6)


def quadratic_loss(tx: Any, key: Any, steps: int = 10) -> jax.Array:
    """Of five quadratics after some steps; the mean of the logarithms."""
    w = jax.random.normal(key, (5, 3, 3), jnp.result_type(float))

    def loss(x: Any) -> jax.Array:
        return jnp.sum((jnp.einsum("bij,bj->bi", w, x) - 1) ** 2, axis=-1)

    def step(carry: Any, _: None) -> Any:
        x, state = carry
        updates, state = tx.update(jax.grad(lambda x: jnp.sum(loss(x)))(x), state, x)
        return (gradtx.apply_updates(x, updates), state), None

    x = jnp.zeros((5, 3), w.dtype)
    (x, _), _ = jax.lax.scan(step, (x, tx.init(x)), length=steps)
    return jnp.mean(jnp.log(loss(x)))


@pytest.mark.slow
@BOTH
def test_meta_training_is_training_of_tx(tx):
    """Gradients of `tx` are a `tx`, an ordinary optimizer takes them, and what comes out is one again."""
    tx = jax.tree.map(jnp.asarray, tx)
    meta = gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adam(3e-3))

    @jax.jit
    def step(tx: Any, state: Any, key: Any) -> Any:
        loss, grads = jax.value_and_grad(quadratic_loss)(tx, key)
        updates, state = meta.update(grads, state, tx)
        return gradtx.apply_updates(tx, updates), state, loss

    start, state = tx, meta.init(tx)
    for i in range(30):
        tx, state, _ = step(tx, state, jax.random.key(i))
    assert isinstance(tx, gradtx.GradientTransformation)
    assert jax.tree.structure(tx) == jax.tree.structure(start)
    judged = jax.vmap(quadratic_loss, (None, 0))
    fresh = jax.random.split(jax.random.key(1000), 20)
    assert jnp.mean(judged(tx, fresh)) < jnp.mean(judged(start, fresh)) - 0.05
    assert tx.replace(learning_rate=0.05) != tx


@pytest.mark.slow
@BOTH
def test_meta_gradient_is_the_finite_difference(x64, tx):
    tx = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), tx.replace(weights=spread(tx.weights)))
    leaves, structure = jax.tree.flatten(tx)
    rng = np.random.default_rng(3)
    along = structure.unflatten([jnp.asarray(rng.normal(size=leaf.shape)) for leaf in leaves])
    loss = jax.jit(lambda tx: quadratic_loss(tx, KEY, 5))
    slope = sum(jnp.vdot(a, b) for a, b in zip(*map(jax.tree.leaves, (jax.grad(loss)(tx), along)), strict=True))
    h = 1e-6
    up, down = (loss(jax.tree.map(lambda x, d, s=s: x + s * h * d, tx, along)) for s in (1, -1))
    # The error of a central difference is h^2 and the rounding over h.
    np.testing.assert_allclose(slope, (up - down) / (2 * h), rtol=1e-5)


@BOTH
def test_memory_is_sharded_as_its_parameter(tx):
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AxisType.Explicit, AxisType.Explicit))
    with jax.set_mesh(mesh):
        params = jax.device_put(np.ones((8, 4), np.float32), NamedSharding(mesh, PartitionSpec("data", "model")))
        state = tx.init(params)
        for leaves in (state, jax.jit(tx.update)(params, state)[1]):
            spread_out = [leaf for leaf in jax.tree.leaves(leaves) if leaf.ndim == 3]
            assert spread_out
            assert all(leaf.sharding.spec == PartitionSpec(None, "data", "model") for leaf in spread_out)


@pytest.mark.slow
@BOTH
def test_weights_can_be_mapped_over(tx):
    tx = jax.tree.map(jnp.asarray, tx)
    batch = tx.replace(
        weights=jax.tree.map(lambda w: jnp.stack([w, 1.1 * w]), tx.weights),
        learning_rate=jnp.array([0.1, 0.2]),
    )
    given = jnp.asarray([0.5, -2.0])
    made = jax.vmap(lambda tx: tx.update(given, tx.init(given))[0])(batch)
    for i in range(2):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], batch)
        np.testing.assert_allclose(made[i], one.update(given, one.init(given))[0], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("name", ["lstm", "mlp"])
def test_a_batch_of_weights_wants_to_be_mapped_over(name, size):
    fresh, make = {
        "lstm": (learned.lstm_weights, learned.lstm),
        "mlp": (learned.mlp_weights, learned.mlp),
    }[name]
    tx = make(jax.vmap(fresh)(jax.random.split(jax.random.key(0), size)))
    with pytest.raises(ValueError, match=rf"{name}: `weights\['.*has shape \({size}, .*jax.vmap"):
        tx.update(jnp.ones(2), tx.init(jnp.ones(2)))


def test_state_of_another_shape_is_named():
    state = LSTM.init({"w": jnp.ones(3)})
    with pytest.raises(
        ValueError,
        match=r"updates\['w'\] has shape \(1,\), but memory\['w'\] has shape \(3,\); they must be equal, nothing is "
        r"broadcast \(`memory` is compared without its leading axis\)",
    ):
        LSTM.update({"w": jnp.ones(1)}, state)


@BOTH
def test_a_parameter_without_a_gradient_keeps_its_memory(tx):
    params = {"a": jnp.ones(3), "b": jnp.ones((2, 2)), "c": None}
    state = tx.init(params)
    updates, new = jax.jit(tx.update)({**params, "b": None}, state, params)
    assert updates["b"] is None
    for field, old in zip(new[0], state[0], strict=True):
        if isinstance(field, dict):
            np.testing.assert_array_equal(field["b"], old["b"])
    alone, _ = tx.update({"a": params["a"]}, tx.init({"a": params["a"]}))
    np.testing.assert_allclose(updates["a"], alone["a"], rtol=1e-5)


@pytest.mark.slow
@BOTH
def test_leaves_of_one_shape_share_one_trace(tx, monkeypatch):
    """And leaves in a group give what each gives alone."""
    jax.clear_caches()
    module = learned._lstm if tx is LSTM else learned._mlp
    traces, dense = [], module.dense
    monkeypatch.setattr(
        module, "dense", lambda features, kernel, bias: traces.append(1) or dense(features, kernel, bias)
    )
    grads = [jnp.full((2, 3), float(i)) for i in range(12)]
    made, _ = jax.jit(tx.update)(grads, tx.init(grads))
    assert len(traces) == 3  # dense layers of one call
    for grad, one in zip(grads, made, strict=True):
        np.testing.assert_allclose(one, tx.update(grad, tx.init(grad))[0], rtol=1e-5, atol=1e-7)


def changed(path: tuple[str, ...], value: Any) -> Any:
    """Weights of an LSTM with one of them another; `...` takes it out."""
    weights = learned.lstm_weights(KEY)
    inner = weights if len(path) == 1 else weights[path[0]]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return weights


REFUSED = {
    "a layer is missing": (("layer_1",), ..., ValueError, r"`weights\['layer_1'\]\['bias'\]` is missing"),
    "an unknown layer": (
        ("layer_9",), {"bias": jnp.ones(3)}, ValueError, r"`weights\['layer_9'\]\['bias'\]` is unknown",
    ),
    "another shape": (
        ("output", "kernel"), jnp.ones((7, 1)), ValueError,
        r"`weights\['output'\]\['kernel'\]` has shape \(7, 1\), expected \(20, 1\) .* Make weights with "
        r"gradtx.learned.lstm_weights\(key, hidden=20, layers=2\)",
    ),
    "a batch in one weight only": (("output", "bias"), jnp.ones((5, 1)), ValueError, r"has shape .* expected"),
    "integers": (("output", "bias"), jnp.ones(1, int), TypeError, "must be an array of floats"),
    "no array": (("output", "bias"), "zero", TypeError, "must hold arrays and numbers, got 'zero'"),
    "NaN": (("output", "bias"), jnp.array([jnp.nan]), ValueError, "has an entry that is not finite"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_weights_that_do_not_fit_are_refused(name):
    path, value, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        learned.lstm(changed(path, value))


def test_other_refusals():
    with pytest.raises(ValueError, match="`hidden` and `layers` must be at least 1, got 0 and 2"):
        learned.lstm_weights(KEY, 0)
    with pytest.raises(ValueError, match="`hidden` must be at least 1, got 0"):
        learned.mlp_weights(KEY, 0)
    with pytest.raises(ValueError, match=r"`decay` must be in \(0, 1\), got 1"):
        learned.mlp_weights(KEY, decay=1.0)
    with pytest.raises(TypeError, match=r"save takes a learned optimizer .* got adam"):
        learned.save(io.BytesIO(), gradtx.adam(1e-3))
    with pytest.raises(ValueError, match=r"mlp: `weights\['decays'\]` is missing"):
        learned.mlp({})
    with pytest.raises(TypeError, match=r"mlp: params\['w'\] is complex, expected real numbers: a network of real"):
        MLP.init({"w": jnp.ones(2, jnp.complex64)})
    with pytest.raises(ValueError, match=r"`hidden` must be a whole number >= 1, got 0"):
        learned.mlp(learned.mlp_weights(KEY), hidden=0)
    with pytest.raises(ValueError, match="no learned optimizer 'lstm' comes with gradtx; there are"):
        learned.pretrained("lstm")


def test_what_was_given_is_not_what_is_kept():
    weights = learned.mlp_weights(KEY)
    tx = learned.mlp(weights)
    before = repr(gradtx.to_config(tx))
    weights["decays"] = jnp.zeros(4)
    assert repr(gradtx.to_config(tx)) == before
    assert repr(tx) == "mlp(weights=<702 numbers in 9 arrays>, learning_rate=0.1)"
