"""Schedule-free learning against the paper, in NumPy, and against optax."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from gradtx.interop import from_optax
from gradtx.testing import LAWS, check_transformation

from .following import followed
from .problem import ALIKE, CURVATURE, assert_close, gradient, problem
from .row import paraboloid

STEPS = 50
# Rounding of 2^-53 an operation, some ten operations a step, 50 steps: 1e-13, and the gradient feeds it back.
RTOL = 1e-12
LINE = gradtx.linear_schedule(0.0, 0.1, 10)
SMOOTH: Any = {"b1": 0.8, "b2": 0.95, "eps": 1e-3}


def free_path(x: Any, noise: Any, rates: Any, weights: Any, b1: float) -> Any:
    """Defazio et al., 2024, with gradient descent: y and x after each step."""
    z, y, total, ys, xs = x, x, 0.0, [], []
    for n, rate, weight in zip(noise, rates, weights, strict=True):
        z = z - rate * (CURVATURE * y + n)
        total += weight
        c = weight / total if total else 0.0
        x = (1 - c) * x + c * z
        y = (1 - b1) * z + b1 * x
        ys.append(y)
        xs.append(x)
    return np.stack(ys), np.stack(xs)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("keep_x", [False, True], ids=["from y", "kept"])
@pytest.mark.parametrize(("q", "r"), [(2.0, 0.0), (1.5, 2.0), (0.0, 0.5)])
def test_schedule_free_equals_the_paper(q, r, keep_x):
    """With a warm-up that begins at 0, where no weight is there to divide by."""
    params, noise = problem(STEPS, leaves=ALIKE)
    rates = np.minimum(np.arange(STEPS), 10) / 100
    weights = np.arange(1.0, STEPS + 1) ** r * rates**q
    tx = gradtx.schedule_free(gradtx.sgd(LINE), LINE, 0.8, q, r=r, keep_x=keep_x)
    path, points, _ = followed(tx, params, noise)
    for name in ALIKE:
        ys, xs = free_path(params[name], noise[name], rates, weights, 0.8)
        np.testing.assert_allclose(path[name], ys, rtol=1e-11)  # leaves of large gradients pass through 0
        np.testing.assert_allclose(points[name], xs, rtol=1e-11)
    assert q == 0 or points["big"][0].tolist() == pytest.approx(params["big"].tolist(), rel=1e-15)


def optax_free(tx: Any, params: Any, noise: Any) -> Any:
    """optax's parameters and evaluation points after each step."""

    def step(carry: Any, noise: Any) -> Any:
        params, state = carry
        updates, state = tx.update(gradient(params, noise), state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), (params, optax.contrib.schedule_free_eval_params(state, params))

    return jax.lax.scan(step, (params, tx.init(params)), noise)[1]


@pytest.mark.usefixtures("x64")
def test_schedule_free_equals_optax_at_a_constant_rate():
    params, noise = problem(STEPS)
    known: Any = {"b1": 0.8, "weight_lr_power": 1.5}
    for ours, theirs in (
        (
            gradtx.schedule_free(gradtx.adam(0.05, 0.0, 0.95, 1e-3), 0.05, **known),
            optax.contrib.schedule_free(optax.adam(0.05, 0.0, 0.95, 1e-3), 0.05, **known),
        ),
        (
            gradtx.schedule_free_sgd(0.05, weight_decay=0.1, **known),
            optax.contrib.schedule_free_sgd(0.05, weight_decay=0.1, **known),
        ),
        (
            gradtx.schedule_free_adamw(0.05, b2=0.95, eps=1e-3, weight_decay=0.1, **known),
            optax.contrib.schedule_free_adamw(0.05, b2=0.95, eps=1e-3, weight_decay=0.1, **known),
        ),
    ):
        path, points, _ = followed(ours, params, noise)
        with jax.numpy_dtype_promotion("standard"):
            other = jax.jit(optax_free, static_argnums=0)(theirs, params, noise)
        assert_close((path, points), other, RTOL)


@pytest.mark.usefixtures("x64")
def test_schedule_free_reads_the_rate_of_the_step():
    """optax gives an iterate the weight of the next step's rate (https://github.com/google-deepmind/optax/issues/1744)."""
    params, noise = problem(20, leaves=ALIKE)
    line = gradtx.linear_schedule(0.02, 0.3, 15)
    rates = np.array([float(line(t)) for t in range(21)])
    path, points, _ = followed(gradtx.schedule_free(gradtx.sgd(line), line, 0.8), params, noise)
    with jax.numpy_dtype_promotion("standard"):
        theirs = optax.contrib.schedule_free(optax.sgd(line), line, 0.8)
        other = jax.jit(optax_free, static_argnums=0)(theirs, params, noise)
    for name in ALIKE:
        right = free_path(params[name], noise[name], rates[:20], rates[:20] ** 2, 0.8)
        shifted = free_path(params[name], noise[name], rates[:20], rates[1:] ** 2, 0.8)
        np.testing.assert_allclose((path[name], points[name]), right, rtol=1e-11)
        np.testing.assert_allclose((other[0][name], other[1][name]), shifted, rtol=1e-11)
        assert not np.allclose(right, shifted, rtol=1e-4)


@pytest.mark.usefixtures("x64")
def test_schedule_free_without_interpolation_is_polyak_averaging():
    params, noise = problem(STEPS, leaves=ALIKE)
    free = gradtx.schedule_free(gradtx.adam(LINE, **SMOOTH), LINE, b1=0.0, weight_lr_power=0.0, r=1.0, keep_x=True)
    averaged = gradtx.polyak_average(gradtx.adam(LINE, **SMOOTH), 1.0)
    assert_close(followed(free, params, noise)[:2], followed(averaged, params, noise)[:2], RTOL)


@pytest.mark.usefixtures("x64")
def test_the_average_of_a_changed_b1_is_that_of_the_parameters():
    """The parameters were made with the old one, which is in the state."""
    params, noise = problem(10, leaves=ALIKE)
    tx = gradtx.schedule_free(gradtx.sgd(0.05), 0.05, 0.8)
    path, points, state = followed(tx, params, noise)
    last, point = (jax.tree.map(lambda leaf: leaf[-1], tree) for tree in (path, points))
    assert_close(tx.replace(b1=0.3).eval_params(last, state), point, RTOL)
    kept = followed(tx.replace(keep_x=True), params, noise)[2]
    after: list[Any] = []
    cases: Any = ((tx.replace(b1=0.3), state), (tx.replace(b1=0.3, keep_x=True), kept))
    for changed, known in cases:
        updates, new = changed.update(gradient(last, point), known, last)
        now = gradtx.apply_updates(last, updates)
        after.append((now, changed.eval_params(now, new)))
    assert_close(after[0], after[1], RTOL)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("laws", "dtype"),
    [(["pure"], np.float64), ([law for law in LAWS if law != "pure"], np.float32)],
    ids=["pure", "others"],
)
def test_schedule_free_obeys_the_laws_around_a_line_search(laws, dtype):
    """Which has its gradients at y and moves z: differences that a rounding of y is large beside."""
    tx = gradtx.schedule_free(gradtx.lbfgs(memory_size=2), 0.05)
    check_transformation(tx, extra=paraboloid, sign="flips", laws=laws, dtype=dtype)


@pytest.mark.usefixtures("x64")
def test_a_state_of_optax_goes_on():
    """Its fields are ours; what its base optimizer does not count is told."""
    params, noise = problem(20, leaves=ALIKE)
    first, then = (jax.tree.map(lambda leaf, part=part: leaf[part], noise) for part in (slice(12), slice(12, None)))
    known: Any = {"b1": 0.8, "b2": 0.95, "eps": 1e-3, "weight_decay": 0.1}
    theirs, ours = optax.contrib.schedule_free_adamw(0.05, **known), gradtx.schedule_free_adamw(0.05, **known)
    state = theirs.init(params)
    with jax.numpy_dtype_promotion("standard"):
        for t in range(12):
            noise_now = jax.tree.map(lambda leaf, t=t: leaf[t], first)
            updates, state = theirs.update(gradient(params, noise_now), state, params)
            params = optax.apply_updates(params, updates)
    adopted = from_optax(ours, state, params, count=12)
    assert isinstance(adopted, gradtx.ScheduleFreeState)
    assert int(adopted.step_count) == 13

    def step(carry: Any, noise: Any) -> Any:
        params, state = carry
        updates, state = ours.update(gradient(params, noise), state, params)
        params = gradtx.apply_updates(params, updates)
        return (params, state), params

    whole, _, _ = followed(ours, *problem(20, leaves=ALIKE))
    _, path = jax.lax.scan(step, (params, adopted), then)
    assert_close(path, jax.tree.map(lambda leaf: leaf[12:], whole), RTOL)


def test_schedule_free_in_half_precision_keeps_a_count_of_its_weights():
    """In bfloat16, as optax has it, 256 + 1 is 256; and a kept average is not rounded as the parameters."""
    params = jnp.ones(2, jnp.bfloat16)
    tx = gradtx.schedule_free(gradtx.sgd(1e-3), 1.0, weight_lr_power=0.0, keep_x=True)

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(jnp.ones_like(params), state, params)
        return (gradtx.apply_updates(params, updates), state), None

    (params, state), _ = jax.lax.scan(step, (params, tx.init(params)), length=600)
    assert isinstance(state, gradtx.ScheduleFreeWithXState)
    assert float(state.weight_sum) == 600
    np.testing.assert_allclose(state.z, 0.4, rtol=1e-4)
    np.testing.assert_allclose(state.x, 1 - 1e-3 * 601 / 2, rtol=1e-4)
    np.testing.assert_allclose(params.astype(np.float32), 0.1 * state.z + 0.9 * state.x, rtol=2**-8)


def test_schedule_free_eval_params():
    params, tx = jnp.ones(2), gradtx.schedule_free_sgd(0.1)
    updates, state = tx.update(params, tx.init(params), params)
    params = gradtx.apply_updates(params, updates)
    np.testing.assert_array_equal(gradtx.schedule_free_eval_params(state, params), tx.eval_params(params, state))
    inside = gradtx.chain(gradtx.clip(1.0), tx)
    with pytest.raises(TypeError, match=r"got tuple. Where schedule_free is inside .* tx.eval_params\(params, state\)"):
        gradtx.schedule_free_eval_params(inside.init(params), params)
    with pytest.raises(TypeError, match="takes a ScheduleFreeState, got AverageState"):
        gradtx.schedule_free_eval_params(gradtx.average(tx).init(params), params)


def test_before_the_first_checkpoint_lawa_is_at_the_newest_average() -> None:
    inner = gradtx.schedule_free(gradtx.sgd(0.1), 0.1)
    tx = gradtx.lawa(inner, 2, 5)
    params, state = jnp.ones(3), tx.init(jnp.ones(3))
    for _ in range(3):
        updates, state = tx.update(params, state, params)
        params = gradtx.apply_updates(params, updates)
    np.testing.assert_array_equal(tx.eval_params(params, state), inner.eval_params(params, state.inner_state))
    assert not np.allclose(tx.eval_params(params, state), params)
