"""Training is what it says, by NumPy, and what it reports is where it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx
from experiments.data import Examples, load
from experiments.models import softmax_regression
from experiments.train import Problem, advance, batches, begin, evaluate, initial_params, mean_loss, train

STEPS = 10
KEY = jax.random.key(0)


def problem(examples: int, batch_size: int) -> Problem:
    digits = load("digits").subset(examples)
    return Problem(softmax_regression(64, 10), batch_size, digits.train, digits.validation)


@pytest.fixture(scope="module")
def full_batch() -> Problem:
    return problem(200, 200)


def oracle(problem: Problem, learning_rate: float, decay: float, look_ahead: bool):
    """Gradient descent with momentum on softmax regression, in float64: losses at the gradient points, and W, b."""
    x = np.asarray(problem.train.images, np.float64).reshape(len(problem.train.labels), -1)
    x = np.concatenate([x, np.ones((len(x), 1))], 1)  # the last row of the weights is the bias
    y = np.eye(10)[np.asarray(problem.train.labels)]
    layer = initial_params(problem, KEY)["layers"][0]
    w = np.concatenate([layer["kernel"], layer["bias"][None]]).astype(np.float64)
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
        (gradtx.sgd(0.5), 0.0, False),
        (gradtx.sgd(0.5, momentum=0.9), 0.9, False),
        (gradtx.nag(0.5, 0.9), 0.9, True),
    ],
    ids=["gd", "heavy ball", "nag"],
)
def test_full_batch_training_is_the_textbook_one(full_batch, tx, decay, look_ahead):
    losses, kernel, bias = oracle(full_batch, 0.5, decay, look_ahead)
    run, curves = train(full_batch, tx, KEY, STEPS)
    # float32: each of 10 steps adds a rounding of about 1e-7 of the largest terms.
    np.testing.assert_allclose(curves.train_loss, losses, rtol=1e-5)
    np.testing.assert_allclose(run.params["layers"][0]["kernel"], kernel, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(run.params["layers"][0]["bias"], bias, rtol=1e-4, atol=1e-5)


def test_both_forms_of_nesterov_are_evaluated_at_one_point():
    """`nag` differs in where it differentiates, `sgd(nesterov=True)` in where it is evaluated."""
    small = problem(200, 50)
    _, printed = train(small, gradtx.nag(0.1, 0.9), KEY, 3)
    run, reformulated = train(small, gradtx.sgd(0.1, momentum=0.9, nesterov=True), KEY, 3)
    np.testing.assert_allclose(printed.train_loss, reformulated.train_loss, rtol=1e-4)
    np.testing.assert_allclose(printed.validation_loss, reformulated.validation_loss, rtol=1e-4)
    at_params, _ = evaluate(small.model, run.params, small.validation)
    assert abs(at_params - reformulated.validation_loss[-1]) > 1e-3


def test_the_reported_validation_figures(full_batch):
    run, curves = train(full_batch, gradtx.adam(0.01), KEY, 2)
    logits = full_batch.model.apply(run.params, full_batch.validation.images)
    right = np.asarray(logits).argmax(-1) == np.asarray(full_batch.validation.labels)
    assert curves.validation_accuracy[-1] == pytest.approx(right.mean())
    loss = mean_loss(full_batch.model, run.params, full_batch.validation)
    assert curves.validation_loss[-1] == pytest.approx(float(loss))


def test_an_epoch_sees_each_example_once_in_an_order_of_its_own():
    order = np.asarray(batches(problem(200, 50), KEY, jnp.asarray(0), 3)).reshape(3, 200)
    for epoch in order:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(200))
    assert not np.array_equal(order[0], order[1])
    other = np.asarray(batches(problem(200, 50), jax.random.key(1), jnp.asarray(0), 1))
    assert not np.array_equal(order[0], other.ravel())


def test_what_does_not_fill_a_batch_is_left_out():
    order = np.asarray(batches(problem(200, 60), KEY, jnp.asarray(0), 2))
    assert order.shape == (2, 3, 60)
    assert len(np.unique(order[0])) == 180


def test_short_calls_and_one_long_call_are_the_same_run():
    small, tx = problem(200, 50), gradtx.adam(0.01)
    whole, curves = jax.jit(train, static_argnames="epochs")(small, tx, KEY, 4)
    run, parts = begin(tx, initial_params(small, KEY)), []
    go_on = jax.jit(advance)
    for first in (0, 2):
        run, part = go_on(small, tx, run, batches(small, KEY, jnp.asarray(first), 2))
        parts.append(part.train_loss)
    np.testing.assert_allclose(np.concatenate(parts), curves.train_loss, rtol=1e-6)
    np.testing.assert_allclose(run.params["layers"][0]["kernel"], whole.params["layers"][0]["kernel"], rtol=1e-5)


def test_the_loss_is_passed_to_transformations_that_want_it():
    @gradtx.transformation
    def scale_by_value() -> gradtx.Transform:
        def update(updates, state, params=None, *, value):
            return jax.tree.map(lambda u: -value * u, updates), state

        return gradtx.Transform(lambda params: (), update)

    full = problem(200, 200)
    run, curves = train(full, scale_by_value(), KEY, 1)
    start = initial_params(full, KEY)
    examples = Examples(full.train.images, full.train.labels)
    gradient = jax.grad(mean_loss, argnums=1)(full.model, start, examples)
    expected = start["layers"][0]["kernel"] - curves.train_loss[0] * gradient["layers"][0]["kernel"]
    np.testing.assert_allclose(run.params["layers"][0]["kernel"], expected, rtol=1e-4, atol=1e-6)
