"""Training is what it says, by NumPy; what it reports is where it says; and it can stop, go on and diverge."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx
from experiments import train as training
from experiments.data import Examples
from experiments.methods import METHODS
from experiments.train import Order, Problem, begin, draw, evaluate, initial
from tests.experiments.conftest import CLASSES, examples, same

STEPS = 10
KEY = jax.random.key(0)
advance = jax.jit(training.advance, static_argnames="branch")
train = jax.jit(training.train, static_argnames="epochs")
BRANCHES = pytest.mark.parametrize("branch", [True, False], ids=["branch", "mask"])


def resized(problem: Problem, batch_size: int) -> Problem:
    return dataclasses.replace(problem, batch_size=batch_size)


def layer(params) -> dict:
    return params["layers"][0]


def oracle(problem: Problem, learning_rate: float, decay: float, look_ahead: bool):
    """Gradient descent with momentum on softmax regression, in float64: losses at the gradient points, and W, b."""
    x = np.asarray(problem.train.images, np.float64).reshape(len(problem.train.labels), -1)
    x = np.concatenate([x, np.ones((len(x), 1))], 1)  # the last row of the weights is the bias
    y = np.eye(CLASSES)[np.asarray(problem.train.labels)]
    start = layer(initial(problem.model, KEY).params)
    w = np.concatenate([start["kernel"], start["bias"][None]]).astype(np.float64)
    velocity, losses = np.zeros_like(w), []
    for _ in range(STEPS):
        point = w - decay * velocity if look_ahead else w
        logits = x @ point
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        losses.append(-np.log((p * y).sum(1)).mean())
        velocity = decay * velocity + learning_rate * x.T @ (p - y) / len(x)
        w = w - velocity
    return losses, w[:-1], w[-1]


@pytest.mark.parametrize(
    ("tx", "decay", "look_ahead"),
    [
        pytest.param(gradtx.sgd(0.5), 0.0, False, marks=pytest.mark.slow),
        pytest.param(gradtx.sgd(0.5, momentum=0.9), 0.9, False, marks=pytest.mark.slow),
        (gradtx.nag(0.5, 0.9), 0.9, True),
    ],
    ids=["gd", "heavy ball", "nag"],
)
def test_full_batch_training_is_the_textbook_one(tiny, tx, decay, look_ahead):
    problem = resized(tiny, 48)
    losses, kernel, bias = oracle(problem, 0.5, decay, look_ahead)
    run, curves = train(problem, tx, KEY, STEPS)
    # float32: each of 10 steps adds a rounding of about 1e-7 of the largest terms.
    np.testing.assert_allclose(curves.train_loss, losses, rtol=1e-5)
    np.testing.assert_allclose(layer(run.params)["kernel"], kernel, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer(run.params)["bias"], bias, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_both_forms_of_nesterov_are_evaluated_at_one_point(tiny):
    """`nag` differs in where it differentiates, `sgd(nesterov=True)` in where it is evaluated."""
    _, printed = train(tiny, gradtx.nag(0.1, 0.9), KEY, 3)
    run, reformulated = train(tiny, gradtx.sgd(0.1, momentum=0.9, nesterov=True), KEY, 3)
    np.testing.assert_allclose(printed.train_loss, reformulated.train_loss, rtol=1e-4)
    np.testing.assert_allclose(printed.validation_loss, reformulated.validation_loss, rtol=1e-4)
    at_params, _ = evaluate(tiny.model, run.params, run.stats, tiny.validation)
    assert abs(at_params - reformulated.validation_loss[-1]) > 1e-3


def test_the_reported_validation_figures(tiny):
    run, curves = train(tiny, gradtx.adam(0.1), KEY, 2)
    logits = np.asarray(tiny.model.apply(run.params, run.stats, tiny.validation.images)[0], np.float64)
    labels = np.asarray(tiny.validation.labels)
    assert curves.validation_accuracy[-1] == pytest.approx((logits.argmax(-1) == labels).mean())
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    assert curves.validation_loss[-1] == pytest.approx(-log_p[range(len(labels)), labels].mean(), rel=1e-5)


def test_an_epoch_sees_each_example_once_in_an_order_of_its_own(tiny):
    drawn = draw(tiny, KEY, jnp.asarray(0), 3)
    order = np.asarray(drawn.indices).reshape(3, 48)
    for epoch in order:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(48))
    other = np.asarray(draw(tiny, jax.random.key(1), jnp.asarray(0), 1).indices).ravel()
    assert len({tuple(row) for row in (*order, other)}) == 4
    keys = jax.random.key_data(drawn.keys)
    assert len(np.unique(keys.reshape(-1, keys.shape[-1]), axis=0)) == 3 * 6


def test_what_does_not_fill_a_batch_is_left_out(tiny):
    order = np.asarray(draw(resized(tiny, 20), KEY, jnp.asarray(0), 2).indices)
    assert order.shape == (2, 2, 20)
    assert len(np.unique(order[0])) == 40


def test_pieces_of_advance_are_train(tiny):
    tx = gradtx.adam(0.1)
    whole, curves = train(tiny, tx, KEY, 4)
    run, parts = begin(tx, initial(tiny.model, KEY)), []
    for first in (0, 2):
        run, part = advance(tiny, tx, run, draw(tiny, KEY, jnp.asarray(first), 2))
        parts.append(part)
    same(jax.tree.map(lambda *pieces: np.concatenate(pieces), *parts), curves, rtol=1e-6)
    same(run, whole, rtol=1e-5, atol=1e-7)  # two programs: they may round differently


@BRANCHES
def test_a_run_that_diverged_stays_where_it_is_and_reports_nan(tiny, branch):
    tx = gradtx.sgd(3e38)
    run, curves = advance(
        tiny, tx, begin(tx, initial(tiny.model, KEY)), draw(tiny, KEY, jnp.asarray(0), 3), branch=branch
    )
    assert bool(run.diverged)
    assert not np.isfinite([curves.train_loss[0], curves.validation_loss[0]]).all()
    for curve in curves:
        assert np.isnan(curve[1:]).all()
    again, curves = advance(tiny, tx, run, draw(tiny, KEY, jnp.asarray(3), 1), branch=branch)
    same(again, run)
    assert np.isnan(curves.validation_accuracy).all()


@BRANCHES
def test_a_run_that_begins_as_diverged_is_not_trained(tiny, branch):
    tx = gradtx.sgd(0.1)
    start = begin(tx, initial(tiny.model, KEY))._replace(diverged=jnp.asarray(True))
    run, curves = advance(tiny, tx, start, draw(tiny, KEY, jnp.asarray(0), 1), branch=branch)
    same(run, start)
    assert all(np.isnan(curve).all() for curve in curves)


def test_branch_and_mask_are_the_same_training(tiny):
    tx = gradtx.adam(0.1)
    start, order = begin(tx, initial(tiny.model, KEY)), draw(tiny, KEY, jnp.asarray(0), 2)
    branched, masked = (advance(tiny, tx, start, order, branch=branch) for branch in (True, False))
    same(masked, branched, rtol=1e-6, atol=1e-7)


def test_each_step_is_augmented_with_its_own_key(tiny):
    """An augmentation that replaces the images by noise: the first step's gradient is that of the noise."""

    def noise(key, images):
        return jax.random.normal(key, images.shape, images.dtype)

    problem, tx = dataclasses.replace(tiny, augment=noise), gradtx.sgd(1.0)
    order = draw(problem, KEY, jnp.asarray(0), 1)
    first = Order(order.indices[:, :1], order.keys[:, :1])
    start = begin(tx, initial(tiny.model, KEY))
    run, curves = advance(problem, tx, start, first)

    images = noise(order.keys[0, 0], tiny.train.images[order.indices[0, 0]])
    batch = Examples(images, tiny.train.labels[order.indices[0, 0]])
    loss, gradient = jax.value_and_grad(lambda p: evaluate(tiny.model, p, start.stats, batch)[0])(start.params)
    assert curves.train_loss[0] == pytest.approx(float(loss), rel=1e-6)
    same(run.params, jax.tree.map(lambda p, g: p - g, start.params, gradient), rtol=1e-5, atol=1e-6)


def test_evaluation_in_chunks_is_evaluation_at_once(tiny, monkeypatch):
    variables, test = initial(tiny.model, KEY), examples(90, 5)
    at_once = evaluate(tiny.model, *variables, test)
    for most in (7, 45):
        monkeypatch.setattr(training, "EVALUATED_AT_ONCE", most)
        np.testing.assert_allclose(evaluate(tiny.model, *variables, test), at_once, rtol=1e-6)


@pytest.mark.slow
def test_the_loss_is_passed_to_transformations_that_want_it(tiny):
    class scale_by_value(gradtx.Stateless):
        def update(self, updates, state, params=None, *, value):
            return jax.tree.map(lambda u: -value * u, updates), state

    problem = resized(tiny, 48)
    run, curves = train(problem, scale_by_value(), KEY, 1)
    start = initial(problem.model, KEY)
    gradient = jax.grad(lambda p: evaluate(problem.model, p, start.stats, problem.train)[0])(start.params)
    expected = jax.tree.map(lambda p, g: p - curves.train_loss[0] * g, start.params, gradient)
    same(run.params, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_every_method_trains_at_its_default_rate(tiny):
    for method in METHODS:
        _, curves = train(tiny, method.make(method.default), KEY, 2)
        assert curves.train_loss[1] < curves.train_loss[0], method
