"""The algebra is public: Adam and its relatives out of smaller parts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradtx
from gradtx import Decay, GradientTransformation, NonNegative, OptState, Params, Updates

from .problem import assert_close, problem, train

pytestmark = pytest.mark.usefixtures("x64")

STEPS = 50
# Two ways to round the same ten operations; fed back through the gradient for 50 steps.
RTOL = 1e-12


class adam_from_averages(GradientTransformation):
    """The corrected average of gradients over the root of the corrected average of their squares."""

    b1: Decay
    b2: Decay
    eps: NonNegative

    def averages(self) -> tuple[gradtx.chain, gradtx.chain]:
        """Of gradients, and of their squares."""
        return (
            gradtx.chain(gradtx.ema(self.b1, debias=False), gradtx.bias_correction(self.b1)),
            gradtx.chain(gradtx.ema(self.b2, debias=False), gradtx.bias_correction(self.b2)),
        )

    def init(self, params: Params) -> OptState:
        mean, square = self.averages()
        return mean.init(params), square.init(params)

    def update(self, updates: Updates, state: OptState, params: Params | None = None) -> tuple[Updates, OptState]:
        mean, square = self.averages()
        mu, first = mean.update(updates, state[0])
        nu, second = square.update(jax.tree.map(jnp.square, updates), state[1])
        return jax.tree.map(lambda m, v: m / (jnp.sqrt(v) + self.eps), mu, nu), (first, second)


def same_path(a, b, rtol=RTOL):
    params, noise = problem(STEPS)
    ours, _ = train(a, params, noise)
    other, _ = train(b, params, noise)
    assert_close(ours, other, rtol)


def test_adam_is_two_corrected_averages():
    descend = gradtx.scale_by_learning_rate(0.05)
    same_path(gradtx.chain(adam_from_averages(0.9, 0.99, 1e-3), descend), gradtx.adam(0.05, 0.9, 0.99, 1e-3))


def test_adam_without_first_moment_is_corrected_rms():
    rms = gradtx.scale_by_rms(0.99, 1e-3, eps_in_sqrt=False, bias_correction=True)
    same_path(gradtx.chain(rms, gradtx.scale_by_learning_rate(0.05)), gradtx.adam(0.05, b1=0.0, b2=0.99, eps=1e-3))


def test_adam_is_adamw_without_decay():
    same_path(gradtx.adamw(0.05, weight_decay=0.0), gradtx.adam(0.05), rtol=0)


def test_adam_is_a_chain_of_its_parts():
    same_path(gradtx.chain(gradtx.scale_by_adam(), gradtx.scale_by_learning_rate(0.05)), gradtx.adam(0.05), rtol=0)


def test_bias_correction_completes_a_raw_average():
    descend = gradtx.scale_by_learning_rate(0.05)
    raw = gradtx.chain(gradtx.ema(0.9, debias=False), gradtx.bias_correction(0.9), descend)
    same_path(raw, gradtx.chain(gradtx.ema(0.9), descend))


def test_an_average_is_a_scaled_sum():
    """(1 - decay) times the heavy ball's buffer is the raw average."""
    rate = 0.05
    average = gradtx.chain(gradtx.ema(0.9, debias=False), gradtx.scale_by_learning_rate(rate))
    same_path(average, gradtx.sgd(rate * (1 - 0.9), momentum=0.9))


def test_momentum_of_0_is_plain_descent():
    same_path(gradtx.sgd(0.05, momentum=0.0), gradtx.sgd(0.05), rtol=0)
    same_path(gradtx.sgd(0.05, momentum=0.0, nesterov=True), gradtx.sgd(0.05), rtol=0)
    same_path(gradtx.nag(0.05, momentum=0.0), gradtx.sgd(0.05))


def test_adagrad_is_the_sum_that_rms_averages():
    """With decay -> rms of a constant gradient g is |g|; the sum after t steps is t g^2."""
    g = {"w": jnp.full((3,), 0.5)}
    tx = gradtx.scale_by_rss(initial_accumulator_value=0.0, eps=0.0)
    state = tx.init(g)
    for t in range(1, 10):
        updates, state = tx.update(g, state)
        np.testing.assert_allclose(updates["w"], 1 / np.sqrt(t), rtol=1e-15)


@pytest.mark.parametrize("names", [("a", "b"), ("clip", "rate")])
def test_named_chain_is_chain(names):
    stages = gradtx.clip_by_global_norm(2.0), gradtx.adam(0.05)
    same_path(gradtx.named_chain(*zip(names, stages, strict=True)), gradtx.chain(*stages), rtol=0)


def test_chains_nest():
    a, b, c = gradtx.clip(0.5), gradtx.ema(0.9), gradtx.scale_by_learning_rate(0.05)
    same_path(gradtx.chain(gradtx.chain(a, b), c), gradtx.chain(a, gradtx.chain(b, c)), rtol=0)
    same_path(gradtx.chain(gradtx.identity(), a, b, c), gradtx.chain(a, b, c), rtol=0)
