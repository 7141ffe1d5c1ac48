"""A module of Flax, split and merged, is the function one would write by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.models import mlp, softmax_regression

IMAGES = jnp.asarray(np.random.RandomState(0).uniform(size=(7, 4, 4, 1)), jnp.float32)


def test_mlp_is_two_affine_maps_with_relu_between():
    model = mlp(16, (5,), 3)
    params = model.init(jax.random.key(0))
    first, second = (jax.tree.map(np.asarray, params["layers"][i]) for i in (0, 1))
    hidden = np.maximum(np.asarray(IMAGES).reshape(7, 16) @ first["kernel"] + first["bias"], 0)
    np.testing.assert_allclose(model.apply(params, IMAGES), hidden @ second["kernel"] + second["bias"], rtol=1e-5)


def test_softmax_regression_is_one():
    model = softmax_regression(16, 3)
    assert jax.tree.map(np.shape, model.init(jax.random.key(0))) == {"layers": {0: {"bias": (3,), "kernel": (16, 3)}}}


def test_the_key_decides_the_parameters():
    model = softmax_regression(16, 3)
    first, again, other = (model.init(jax.random.key(i))["layers"][0]["kernel"] for i in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_equal_models_share_compiled_programs():
    assert mlp(16, (5,), 3) == mlp(16, (5,), 3)
    assert hash(mlp(16, (5,), 3)) == hash(mlp(16, (5,), 3))
    assert mlp(16, (5,), 3) != mlp(16, (6,), 3)
