"""First steps, golden iterates, invariances and the limit cycle of the study's optimizers."""

import jax.numpy as jnp
import numpy as np
import pytest

import gradtx

from .study import BOWL, BOWL_START, SADDLE, SADDLE_START, value, walk

pytestmark = pytest.mark.usefixtures("x64")


def adagrad(h, acc=0.0, eps=1e-8):
    """As the paper: eps outside, from 0."""
    return gradtx.adagrad(h, acc, eps, eps_in_sqrt=False)


def rmsprop(h, eps=1e-8):
    """Eps outside."""
    return gradtx.rmsprop(h, 0.9, eps, eps_in_sqrt=False)


GOLDEN = {
    "descent": (gradtx.sgd(0.01), [(6.86, 4), (6.7228, 3.2), (6.588344, 2.56)]),
    "heavy ball": (gradtx.sgd(0.01, momentum=0.9), [(6.86, 4), (6.5968, 2.3), (6.227984, 0.31)]),
    "nag": (gradtx.nag(0.01, 0.9), [(6.86, 4), (6.59932, 2.48), (6.23741384, 0.8896)]),
    "adagrad": (adagrad(1.0), [(6, 4), (5.349208628, 3.375304953), (4.847359067, 2.908991768)]),
    "adadelta": (
        gradtx.adadelta(1.0, 0.9, 1e-6),
        [(6.996837722, 4.996837722), (6.993593989, 4.993594266)],
    ),
    "rmsprop": (rmsprop(0.1), [(6.683772235, 4.683772234), (6.45944518, 4.461584606)]),
    "adam": (gradtx.adam(0.1), [(6.9, 4.9), (6.800040092, 4.800057757), (6.700147706, 4.700213291)]),
}
GRADIENT = np.array(BOWL) * BOWL_START


@pytest.mark.parametrize("name", GOLDEN)
def test_first_iterates(name):
    tx, expected = GOLDEN[name]
    path = walk(tx, 3)
    for point, known in zip(path, expected, strict=False):
        # Printed with nine decimals; Adagrad's (6, 4) is so up to its eps over the gradient, 7e-10.
        np.testing.assert_allclose(point, known, rtol=0, atol=8e-10)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_first_step_from_a_zero_state(size):
    g = jnp.asarray(size * GRADIENT * (1, -1))

    def first(tx):
        return tx.update(g, tx.init(g), g)[0]

    sign = np.sign(g)
    # eps / |g| is what eps = 1e-12 takes away.
    rtol = 1e-12 / np.min(np.abs(g)) + 1e-15
    np.testing.assert_allclose(first(adagrad(0.3, eps=1e-12)), -0.3 * sign, rtol=rtol)
    np.testing.assert_allclose(first(gradtx.adam(0.3, eps=1e-12)), -0.3 * sign, rtol=rtol)
    np.testing.assert_allclose(first(rmsprop(0.3, 1e-12)), -0.3 * np.sqrt(10) * sign, rtol=4 * rtol)
    # eps is small against (1 - rho) g^2 but not nothing.
    eps = 1e-8
    np.testing.assert_allclose(
        first(gradtx.adadelta(1.0, 0.9, eps)), -np.sqrt(eps / 0.1) * sign, rtol=eps / np.min(0.1 * g**2)
    )


@pytest.mark.parametrize("factor", [2.0**-20, 1e-3, 1e3])
@pytest.mark.parametrize("make", [gradtx.adam, adagrad, rmsprop], ids=["adam", "adagrad", "rmsprop"])
def test_scale_of_the_loss_does_not_matter(make, factor):
    tx = make(0.1).replace(eps=0.0)
    path, scaled = walk(tx, 50), walk(tx, 50, (factor * BOWL[0], factor * BOWL[1]))
    # A power of two changes no rounding but that of the square root's argument; other factors round each gradient.
    np.testing.assert_allclose(scaled, path, rtol=0, atol=1e-12 * 7)


def test_descent_is_not_scale_invariant():
    assert np.max(np.abs(walk(gradtx.sgd(0.01), 50) - walk(gradtx.sgd(0.01), 50, (1.0, 10.0)))) > 1


def test_rmsprop_ends_in_a_limit_cycle():
    values = value(BOWL, walk(rmsprop(1.0), 400))
    # Of chaotic size from step 20 on, where f is about the square of a rounding error.
    assert values[19] < 1e-15
    assert 1e-2 < np.max(values[99:]) < 50
    # The cycle has the size of the rate: f is about its square.
    small = value(BOWL, walk(rmsprop(0.1), 400))
    assert np.max(small[200:]) / np.max(values[200:]) == pytest.approx(0.01, rel=0.9)
    assert value(BOWL, walk(gradtx.sgd(0.05), 400))[-1] < 1e-30


def test_rmsprop_limit_cycle_figures():
    values = value(BOWL, walk(rmsprop(1.0), 100))
    assert values[19] == pytest.approx(1.9e-21, rel=0.05)
    assert values[99] == pytest.approx(4.17, rel=0.01)


def test_adagrad_start_value_on_the_saddle():
    def first_dy(acc):
        path = walk(adagrad(1.0, acc), 1, SADDLE, SADDLE_START)
        return abs(path[0, 1] - SADDLE_START[1])

    assert first_dy(0.0) == pytest.approx(1.0, abs=1e-4)
    assert first_dy(0.1) == pytest.approx(0.0063, abs=5e-5)


def test_adam_eps_is_outside_the_corrected_root():
    """The paper's convention: .0990; Keras's gives .0240, eps inside the root 1e-4 and less."""
    g = jnp.asarray(1e-6)
    updates, _ = gradtx.adam(0.1).update(g, gradtx.adam(0.1).init(g), g)
    assert -updates == pytest.approx(0.1 * 1e-6 / (1e-6 + 1e-8), rel=1e-12)
    assert -updates == pytest.approx(0.0990, abs=5e-5)


def test_adadelta_on_the_bowl_needs_a_large_eps():
    assert value(BOWL, walk(gradtx.adadelta(1.0, 0.9, 1e-6), 50)[-1]) == pytest.approx(278, abs=0.5)
    assert value(BOWL, walk(gradtx.adadelta(1.0, 0.9, 0.1), 50)[-1]) < 1e-20
