"""A module of Flax, split and merged, is the function one would write by hand; the networks are the published ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.models import Classifier, lenet5, mlp, net_2c2d, net_3c3d, resnet18, resnet_6n2, softmax_regression
from experiments.models.normalization import BatchNorm

IMAGES = jnp.asarray(np.random.RandomState(0).uniform(size=(7, 4, 4, 1)), jnp.float32)

# Parameters as published: LeCun et al. 1998 (with a full second convolution); DeepOBS; pytorch-cifar; He et al. 2015
# (.27 and 1.7 million for ResNet-20 and -110).
PUBLISHED = [
    pytest.param(lambda: lenet5(), (28, 28, 1), 61_706, id="lenet5"),
    # Two numbers for each of 6 + 16 + 120 + 84 channels more.
    pytest.param(lambda: lenet5(normalized=True), (28, 28, 1), 61_706 + 2 * 226, id="lenet5-normalized"),
    pytest.param(lambda: net_2c2d(), (28, 28, 1), 3_274_634, id="2c2d"),
    pytest.param(lambda: net_3c3d(), (32, 32, 3), 895_210, id="3c3d"),
    pytest.param(lambda: resnet18(), (32, 32, 3), 11_173_962, id="resnet18"),
    pytest.param(lambda: resnet_6n2(20), (32, 32, 3), 269_722, id="resnet20"),
    pytest.param(lambda: resnet_6n2(110), (32, 32, 3), 1_727_962, id="resnet110", marks=pytest.mark.slow),
]
# What is trained: the same, smaller; with the rate, and steps that are more than enough.
NETWORKS = [
    pytest.param(lambda: mlp(16, (5,), 10), (4, 4, 1), 0.3, 100, id="mlp"),
    pytest.param(lambda: lenet5(), (28, 28, 1), 0.1, 30, id="lenet5"),
    pytest.param(lambda: net_2c2d(), (28, 28, 1), 0.02, 30, id="2c2d"),
    pytest.param(lambda: net_3c3d(), (32, 32, 3), 0.1, 80, id="3c3d"),
    pytest.param(lambda: resnet18(4), (32, 32, 3), 0.1, 30, id="resnet18"),
    pytest.param(lambda: resnet18(4, dtype="bfloat16"), (32, 32, 3), 0.1, 30, id="resnet18-bfloat16"),
    pytest.param(lambda: resnet_6n2(8, 8), (16, 16, 3), 0.1, 40, id="resnet8"),
]


def some_images(shape: tuple[int, ...], n: int = 8) -> jax.Array:
    return jnp.asarray(np.random.RandomState(0).normal(size=(n, *shape)), jnp.float32)


def same_tree(a, b) -> bool:
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, a, b)))


def test_mlp_is_two_affine_maps_with_relu_between():
    model = mlp(16, (5,), 3)
    params, stats = model.init(jax.random.key(0))
    first, second = (jax.tree.map(np.asarray, params["layers"][i]) for i in (0, 1))
    hidden = np.maximum(np.asarray(IMAGES).reshape(7, 16) @ first["kernel"] + first["bias"], 0)
    logits, _ = model.apply(params, stats, IMAGES)
    np.testing.assert_allclose(logits, hidden @ second["kernel"] + second["bias"], rtol=1e-5)


def test_softmax_regression_is_one():
    params, stats = softmax_regression(16, 3).init(jax.random.key(0))
    assert jax.tree.map(np.shape, params) == {"layers": {0: {"bias": (3,), "kernel": (16, 3)}}}
    assert jax.tree.leaves(stats) == []


def test_the_key_decides_the_parameters():
    model = softmax_regression(16, 3)
    first, again, other = (model.init(jax.random.key(i)).params["layers"][0]["kernel"] for i in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("make", [lambda: mlp(16, (5,), 3), lenet5, net_2c2d, net_3c3d, resnet18])
def test_equal_models_share_compiled_programs(make):
    assert make() == make()
    assert hash(make()) == hash(make())
    assert repr(make()) == repr(make())
    assert " at 0x" not in repr(make())


def test_models_differ_by_what_makes_them():
    models = [
        *(mlp(16, (5,), 3), mlp(16, (6,), 3), lenet5(), lenet5(5), lenet5(normalized=True), net_2c2d(), net_3c3d()),
        *(resnet18(), resnet18(16), resnet18(dtype="bfloat16"), Classifier(net_3c3d().build)),
        *(resnet_6n2(20), resnet_6n2(110), resnet_6n2(20, 8), resnet_6n2(20, dtype="bfloat16")),
    ]
    assert len(set(models)) == len({repr(model) for model in models}) == len(models)


@pytest.mark.slow
def test_shortcuts_of_resnet_6n2_have_no_parameters():
    """Where the convolutions give nothing, every second pixel is carried on, and the new channels are 0."""
    module = resnet_6n2(8, 2).build(nnx.Rngs(0))
    block = module.blocks[1]
    block.second.norm.scale[...] = jnp.zeros(4)
    x = jnp.asarray(np.random.RandomState(0).uniform(size=(2, 8, 8, 2)), jnp.float32)
    out = block(x, training=False)
    assert out.shape == (2, 4, 4, 4)
    np.testing.assert_array_equal(out[..., :2], x[:, ::2, ::2])
    assert not out[..., 2:].any()


@pytest.mark.parametrize("depth", [2, 18, 109, -4])
def test_a_depth_that_is_not_6n_and_2(depth):
    with pytest.raises(ValueError, match=f"expected a depth of 6n [+] 2, such as 20 or 110, got {depth}"):
        resnet_6n2(depth)


@pytest.mark.parametrize(("make", "shape", "count"), PUBLISHED)
def test_sizes_are_as_published(make, shape, count):
    model = make()
    variables = jax.eval_shape(model.init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables.params)) == count
    images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    logits, stats = jax.eval_shape(lambda v, images: model.apply(*v, images, training=True), variables, images)
    assert (logits.shape, logits.dtype) == ((2, 10), jnp.float32)
    assert jax.tree.map(np.shape, stats) == jax.tree.map(np.shape, variables.stats)


@pytest.mark.slow
@pytest.mark.parametrize(("make", "shape", "rate", "steps"), NETWORKS)
def test_a_small_batch_is_learned_by_heart(make, shape, rate, steps):
    model, images, labels = make(), some_images(shape), jnp.arange(8) % 10

    def loss(params, stats):
        logits, stats = model.apply(params, stats, images, training=True)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)), stats

    @jax.jit
    def train(params, stats):
        def step(carry, _):
            (value, stats), gradient = jax.value_and_grad(loss, has_aux=True)(*carry)
            return (jax.tree.map(lambda p, g: p - rate * g, carry[0], gradient), stats), value

        return jax.lax.scan(step, (params, stats), length=steps)

    (params, _), losses = train(*model.init(jax.random.key(0)))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert losses[-1] < losses[0] / 10


@pytest.mark.slow
def test_running_statistics_change_in_training_only():
    model = resnet18(4)
    params, stats = model.init(jax.random.key(0))
    images = some_images((32, 32, 3))
    trained, after = jax.jit(lambda p, s: model.apply(p, s, images, training=True))(params, stats)
    evaluate = jax.jit(lambda p, s: model.apply(p, s, images))
    evaluated, kept = evaluate(params, stats)
    assert same_tree(kept, stats)
    assert not any(jax.tree.leaves(jax.tree.map(np.array_equal, after, stats)))
    assert not np.allclose(trained, evaluated)
    assert same_tree(evaluate(params, after)[1], after)


@pytest.mark.parametrize(("axis", "shape"), [(-1, (5, 4, 3, 2)), (0, (2, 4, 3, 5)), (-1, (30, 2))])
def test_batch_normalisation_knows_where_the_channels_are(axis, shape):
    norm = BatchNorm(2, axis=axis)
    norm.scale[...], norm.bias[...] = jnp.asarray([2.0, 3.0]), jnp.asarray([-1.0, 1.0])
    x = 3 * some_images(shape[1:], shape[0]) + 5
    out = norm(x, training=True)
    assert out.shape == shape
    for channel in range(2):
        values, normed = (np.take(np.asarray(each, np.float64), channel, axis) for each in (x, out))
        expected = (2 + channel) * (values - values.mean()) / np.sqrt(values.var() + 1e-5) + 2 * channel - 1
        np.testing.assert_allclose(normed, expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(norm.mean[...][channel], 0.1 * values.mean(), rtol=1e-5)
        np.testing.assert_allclose(norm.var[...][channel], 0.9 + 0.1 * values.var(), rtol=1e-5)


@pytest.mark.slow
def test_running_statistics_approach_those_of_the_images():
    model = resnet18(4)
    params, stats = model.init(jax.random.key(0))
    images = some_images((32, 32, 3))
    after = jax.jit(lambda p, s: model.apply(p, s, images, training=True))(params, stats)[1]
    fixed = jax.lax.conv_general_dilated(
        images, params["stem"]["conv"]["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(after["stem"]["norm"]["mean"], 0.1 * fixed.mean((0, 1, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(after["stem"]["norm"]["var"], 0.9 + 0.1 * fixed.var((0, 1, 2)), rtol=1e-5)


@pytest.mark.slow
def test_bfloat16_computes_nearly_the_same():
    full, half = resnet18(4), resnet18(4, dtype="bfloat16")
    variables = half.init(jax.random.key(0))
    assert same_tree(variables, full.init(jax.random.key(0)))
    images = some_images((32, 32, 3))
    logits, stats = jax.jit(lambda params, stats: half.apply(params, stats, images, training=True))(*variables)
    expected, _ = jax.jit(lambda params, stats: full.apply(params, stats, images, training=True))(*variables)
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, stats, logits))} == {jnp.dtype("float32")}
    # bfloat16 keeps 8 bits; 18 layers of them.
    assert 1e-4 < float(jnp.abs(logits - expected).max() / jnp.abs(expected).max()) < 0.1


@pytest.mark.slow
def test_many_parameter_sets_one_after_the_other():
    model, images = lenet5(), some_images((28, 28, 1), 2)

    def logits(variables):
        return model.apply(variables.params, variables.stats, images)[0]

    def gradient(variables):
        return jax.grad(lambda params: logits(variables._replace(params=params)).sum())(variables.params)

    many = jax.jit(jax.vmap(model.init))(jax.random.split(jax.random.key(0), 3))
    looped = jax.jit(lambda many: jax.lax.map(lambda v: (logits(v), gradient(v)), many))(many)
    direct = jax.jit(lambda one: (logits(one), gradient(one)))
    for i in range(3):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], many)
        expected, found = direct(one), jax.tree.map(lambda leaf, i=i: leaf[i], looped)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected)


@pytest.mark.slow
def test_the_penalty_is_half_the_squares_of_kernels():
    model = net_3c3d()
    params = model.init(jax.random.key(0)).params
    kernels = [layer["kernel"] for part in ("convs", "layers") for layer in params[part].values()]
    assert len(kernels) == 6
    expected = 0.001 * sum(np.sum(np.asarray(kernel, np.float64) ** 2) for kernel in kernels)
    assert float(model.penalty(params)) == pytest.approx(expected, rel=1e-5)
    gradient = jax.jit(jax.grad(model.penalty))(params)
    np.testing.assert_allclose(gradient["convs"][0]["kernel"], 0.002 * params["convs"][0]["kernel"], rtol=1e-5)
    assert not gradient["convs"][0]["bias"].any()
    assert net_2c2d().penalty(params) == 0


@pytest.mark.slow
def test_deepobs_initialises_so():
    params = net_2c2d().init(jax.random.key(0)).params
    kernel = np.asarray(params["layers"][0]["kernel"])
    assert np.abs(kernel).max() <= 0.1
    # Truncated at two standard deviations, a normal distribution keeps .8796 of its own.
    assert kernel.std() == pytest.approx(0.05 * 0.8796, rel=1e-3)
    assert (np.asarray(params["convs"][0]["bias"]) == np.float32(0.05)).all()
    params = net_3c3d().init(jax.random.key(0)).params
    for kernel, fan in ((params["convs"][1]["kernel"], 9 * (64 + 96)), (params["layers"][0]["kernel"], 1152 + 512)):
        assert np.asarray(kernel).std() == pytest.approx(np.sqrt(2 / fan), rel=0.02)
    assert not params["convs"][0]["bias"].any()
