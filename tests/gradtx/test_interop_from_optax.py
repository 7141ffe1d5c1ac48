"""States of optax brought into gradtx: training goes on as it would have with optax."""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

import gradtx
from gradtx.interop import from_optax

from .problem import SEED, assert_close, gradient
from .table import BY_NAME, MASK, OPTIMIZERS, OptaxNag, each_part

BEFORE, AFTER = 3, 20


def problem(steps: int, dtype: Any = np.float64) -> tuple[Any, Any]:
    """Parameters, and the noise of each step. All leaves have one shape, so that few programs are compiled."""
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    params = {name: rng.normal(size=3).astype(dtype) for name in MASK}
    return params, {name: rng.normal(size=(steps, 3)).astype(dtype) for name in MASK}


def bare(state: Any) -> Any:
    """What Orbax restores without a target: a NamedTuple as a dict, a tuple as a list, an empty one as None."""
    if hasattr(state, "_fields"):
        return {name: bare(child) for name, child in state._asdict().items()} or None
    if isinstance(state, dict):
        return {name: bare(child) for name, child in state.items()}
    if isinstance(state, (tuple, list)):
        return [bare(child) for child in state] or None
    return state


def with_orbax(state: Any, path: Any) -> Any:
    """Saved and restored by Orbax, without a target."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path / "state", state)
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(path / "state")


def train(tx: Any, params: Any, state: Any, noise: Any, begin: int, end: int) -> tuple[Any, Any]:
    """Steps `begin` to `end`."""
    with jax.numpy_dtype_promotion("standard"):
        for t in range(begin, end):
            grads = gradient(params, jax.tree.map(lambda n, t=t: n[t], noise))
            updates, state = tx.update(grads, state, params)
            params = optax.apply_updates(params, updates)
    return params, state


def assert_goes_on(ours: Any, theirs: Any, params: Any, noise: Any, rtol: float, form: Any = bare) -> None:
    """`ours`, with the state of `theirs`, trains as `theirs` does."""
    params, state = train(theirs, params, theirs.init(params), noise, 0, BEFORE)
    restored = form(state)
    brought = from_optax(ours, restored)
    assert_like(brought, ours.init(params))
    steps = len(noise["scalar"])
    expected, _ = train(theirs, params, state, noise, BEFORE, steps)
    got, _ = train(ours, params, brought, noise, BEFORE, steps)
    assert_close(got, expected, rtol)


def assert_like(state: Any, other: Any) -> None:
    """One structure, and shapes, dtypes and weak types: `update` does not trace anew."""
    assert jax.tree.structure(state) == jax.tree.structure(other)
    assert [jax.typeof(leaf) for leaf in jax.tree.leaves(state)] == [
        jax.typeof(leaf) for leaf in jax.tree.leaves(other)
    ]


with_peer = [case for case in OPTIMIZERS if case.peer not in (None, OptaxNag)]


def falling(count: Any) -> Any:
    return 0.05 / (1 + jnp.asarray(count, float)) ** 0.5


def assert_is_own_state(ours: Any, theirs: Any) -> None:
    """What comes from optax is the state that `ours` has after the same steps."""
    params, noise = problem(3)
    _, state = train(theirs, params, theirs.init(params), noise, 0, 3)
    _, expected = train(ours, params, ours.init(params), noise, 0, 3)
    for restored in (state, bare(state)):
        brought = from_optax(ours, restored, params, count=3)
        assert_like(brought, expected)
        assert_close(brought, expected, 1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", with_peer, ids=lambda case: case.name)
def test_state_of_an_optimizer_is_our_own(case):
    assert_is_own_state(case.make(), case.make_peer())


@pytest.mark.usefixtures("x64")
@each_part
def test_state_of_a_part_is_our_own(part):
    assert_is_own_state(part.make(), part.make_peer())


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["sgd-momentum", "rmsprop-momentum", "adamw-masked"])
@pytest.mark.parametrize("rate", [0.05, falling], ids=["constant", "schedule"])
def test_training_goes_on(name, rate):
    case = BY_NAME[name]
    assert_goes_on(case.make(rate), case.make_peer(rate), *problem(BEFORE + 4), 1e-12)


@pytest.mark.parametrize("rate", [0.05, falling], ids=["constant", "schedule"])
@pytest.mark.parametrize("double", [False, True], ids=["float32", "float64"])
def test_adam_from_an_orbax_checkpoint(rate, double, tmp_path):
    with jax.enable_x64(double):
        dtype, rtol = (np.float64, 1e-12) if double else (np.float32, 3e-6)
        params, noise = problem(BEFORE + AFTER, dtype)
        # In float32 1 - b2^t has a relative error of 2^-24 / (1 - b2^t): 1e-5 at first for the default b2 of 0.999.
        ours, theirs = gradtx.adam(rate, b2=0.95, eps=1e-4), optax.adam(rate, b2=0.95, eps=1e-4)
        assert_goes_on(ours, theirs, params, noise, rtol, lambda state: with_orbax(state, tmp_path))


def test_training_on_without_the_state_differs():
    """The comparison above can fail."""
    params, noise = problem(BEFORE + 4)
    theirs, forgetful = optax.adam(0.05), lambda state: gradtx.adam(0.05).init(params)
    with pytest.raises(AssertionError, match="Not equal to tolerance rtol=0"):
        assert_goes_on(gradtx.adam(0.05), theirs, params, noise, 1e-2, forgetful)


@pytest.mark.parametrize(
    "tx",
    [
        optax.adamw(falling, mask={"w": True, "b": False}),
        optax.sgd(0.1),
        optax.named_chain(("ema", optax.ema(0.9)), ("adam", optax.adam(0.1))),
        optax.inject_hyperparams(optax.adam)(learning_rate=0.1),
    ],
    ids=["masked", "empty", "named", "injected"],
)
def test_bare_is_what_orbax_restores(tx, tmp_path):
    state = tx.init({"w": jnp.ones(3), "b": (jnp.ones(2), None)})
    expected, got = bare(state), with_orbax(state, tmp_path)
    chex.assert_trees_all_equal(got, expected)


OUTER = {
    "nested": (
        gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adam(0.05)),
        optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.05)),
    ),
    "named": (
        gradtx.named_chain(("ema", gradtx.ema(0.9)), ("rate", gradtx.scale_by_learning_rate(falling))),
        optax.named_chain(("ema", optax.ema(0.9)), ("rate", optax.scale_by_learning_rate(falling))),
    ),
    "injected": (gradtx.adam(falling), optax.inject_hyperparams(optax.adam)(learning_rate=falling)),
    "injected part": (gradtx.scale_by_adam(0.8), optax.inject_hyperparams(optax.scale_by_adam)(b1=0.8)),
    "injected, no count inside": (
        gradtx.sgd(falling, 0.9),
        optax.inject_hyperparams(optax.sgd)(learning_rate=falling, momentum=0.9),
    ),
    "foreign inside": (
        gradtx.chain(optax.scale_by_lion(), optax.masked(optax.trace(0.9), True), gradtx.scale_by_learning_rate(0.1)),
        optax.chain(optax.scale_by_lion(), optax.masked(optax.trace(0.9), True), optax.scale_by_learning_rate(0.1)),
    ),
    "schedules of two": (
        gradtx.adamw(falling, weight_decay=falling),
        optax.adamw(falling, weight_decay=falling),
    ),
    "a constant rate becomes a schedule": (gradtx.adam(falling), optax.adam(falling)),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", OUTER)
def test_compositions_go_on(name):
    ours, theirs = OUTER[name]
    assert_goes_on(ours, theirs, *problem(BEFORE + 4), 1e-12)


PARAMS = {"w": jnp.ones(3), "b": jnp.ones(2)}


def optax_state(tx: Any, steps: int = 3, params: Any = None) -> Any:
    """After some updates with gradients of 1."""
    params = PARAMS if params is None else params
    state = tx.init(params)
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(steps):
            _, state = tx.update(params, state, params)
    return state


def counts(state: Any) -> list[int]:
    """Every count in it."""
    return [int(leaf) for path, leaf in jax.tree.leaves_with_path(state) if jax.tree_util.keystr(path)[-6:] == ".count"]


def test_count_comes_from_another_count():
    state = from_optax(gradtx.adamw(falling), optax_state(optax.adamw(0.1)))
    assert counts(state) == [3, 3, 3]


def test_count_of_a_constant_rate_is_0_or_as_given():
    state = optax_state(optax.sgd(0.1, 0.9))
    assert counts(from_optax(gradtx.sgd(0.1, 0.9), state)) == [0]
    assert counts(from_optax(gradtx.sgd(0.1, 0.9), state, count=7)) == [7]
    assert counts(from_optax(gradtx.sgd(falling, 0.9), state, count=7)) == [7]


@gradtx.transformation
def warm(rate: gradtx.Scalar) -> gradtx.GradientTransformation:
    """A recipe whose schedule is not among its arguments."""
    return gradtx.sgd(gradtx.linear_schedule(0.0, rate, 10))


@gradtx.transformation
def plain(rate: gradtx.Scalar) -> gradtx.GradientTransformation:
    """A recipe without a schedule."""
    return gradtx.sgd(rate)


@gradtx.transformation
def opaque(rate: gradtx.Scalar) -> gradtx.Transform:
    """A recipe that does not show what is in it."""
    return gradtx.sgd(rate).transform()


@pytest.mark.parametrize(
    "tx", [gradtx.sgd(falling), gradtx.chain(gradtx.sgd(falling)), warm(0.1), opaque(0.1)], ids=repr
)
def test_count_that_a_schedule_needs_is_asked_for(tx):
    restored = [None, None] if len(tx.init(PARAMS)) == 2 else [[None, None]]
    with pytest.raises(ValueError, match=r"needed for a schedule .* keeps none for a constant rate.*count=\.\.\."):
        from_optax(tx, restored)
    assert counts(from_optax(tx, restored, count=4)) == [4]


def test_count_in_a_recipe_without_a_schedule_is_0():
    assert counts(from_optax(plain(0.1), [None, None])) == [0]


def test_counts_that_differ_are_asked_about():
    restored = [{"count": 2, "ema": PARAMS}, {"count": 5, "ema": PARAMS}, None]
    tx = gradtx.chain(gradtx.ema(0.9), gradtx.ema(0.9), gradtx.scale_by_learning_rate(0.1))
    with pytest.raises(ValueError, match=r"several counts, \[2, 5\]"):
        from_optax(tx, restored)
    assert counts(from_optax(tx, restored, count=5)) == [2, 5, 5]


def test_half_precision_becomes_float32():
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), PARAMS)
    state = optax_state(optax.adam(0.1), params=params)
    assert state[0].mu["w"].dtype == jnp.bfloat16
    for brought in (from_optax(gradtx.adam(0.1), state), from_optax(gradtx.adam(0.1), bare(state), params)):
        assert_like(brought, gradtx.adam(0.1).init(params))
        assert brought[0].nu["w"].dtype == jnp.float32


def test_complex_second_moments_become_real():
    params = {"w": jnp.ones(3, jnp.complex64)}
    for steps in (0, 3):  # optax begins them complex
        state = optax_state(optax.adam(0.1), steps, params)
        for brought in (from_optax(gradtx.adam(0.1), bare(state)), from_optax(gradtx.adam(0.1), state, params)):
            assert_like(brought, gradtx.adam(0.1).init(params))
            assert brought[0].nu["w"].dtype == jnp.float32


@pytest.mark.usefixtures("x64")
def test_dtype_of_an_accumulator_narrower_than_the_params():
    params = {"w": jnp.ones(3, jnp.float64)}
    tx = gradtx.adam(0.1, mu_dtype="float32")
    brought = from_optax(tx, bare(optax_state(optax.adam(0.1, mu_dtype="float32"), params=params)))
    assert_like(brought, tx.init(params))


def test_containers_come_back_from_params():
    params = {"layers": (jnp.ones(3), None, [jnp.ones(2)])}
    restored = bare(optax_state(optax.adam(0.1), params=params))
    tx = gradtx.adam(0.1)
    brought = from_optax(tx, restored, jax.eval_shape(lambda: params))
    assert_like(brought, tx.init(params))
    tx.update(params, brought, params)
    with pytest.raises(ValueError, match="different containers"):
        tx.update(params, from_optax(tx, restored), params)


def test_params_are_read_off_the_largest_moment():
    mask = {"w": True, "b": False}
    theirs = optax.chain(optax.masked(optax.ema(0.9), mask), optax.adam(0.1))
    ours = gradtx.chain(optax.masked(optax.ema(0.9), mask), gradtx.adam(0.1))
    assert_like(from_optax(ours, bare(optax_state(theirs))), ours.init(PARAMS))


def test_numpy_leaves_are_copied():
    buffer = np.ones(4096, np.float32)
    state = from_optax(gradtx.momentum(0.9), {"trace": {"w": buffer}})
    assert isinstance(state.trace["w"], jax.Array)
    buffer[:] = 7.0
    assert float(state.trace["w"][0]) == 1.0


def test_the_state_can_be_donated():
    state = from_optax(gradtx.adamw(0.1), bare(optax_state(optax.adamw(0.1))))
    jax.jit(gradtx.adamw(0.1).update, donate_argnums=1)(PARAMS, state, PARAMS)


def test_a_state_of_ours_that_lost_its_classes():
    for tx in (gradtx.adamw(falling), gradtx.rmsprop(0.1, momentum=0.9), gradtx.named_chain(("a", gradtx.adam(0.1)))):
        state = tx.init(PARAMS)
        assert_like(from_optax(tx, bare(state)), state)


def test_params_are_needed_for_a_mask_on_a_state_without_moments():
    tx = gradtx.chain(gradtx.add_decayed_weights(0.1, {"w": True, "b": False}), gradtx.scale_by_learning_rate(0.1))
    with pytest.raises(ValueError, match=r"cannot be read off this state.*from_optax\(tx, restored, params\)"):
        from_optax(tx, [{"inner_state": None}, None])
    assert counts(from_optax(tx, [{"inner_state": None}, None], PARAMS)) == [0, 0]


class ForeignState(NamedTuple):
    """Like Adam's, of another method."""

    count: Any
    mu: Any
    nu: Any


ADAM = bare(optax_state(optax.adam(0.1)))


@pytest.mark.parametrize(
    ("tx", "restored", "error", "words"),
    [
        (gradtx.adam(0.1), optax_state(optax.sgd(0.1, 0.9)), ValueError, "has a TraceState at `0`, .*ScaleByAdamState"),
        (gradtx.adam(0.1), [{"trace": PARAMS}, None], ValueError, r"nothing at `0\.mu\.b`.*float32\[2\].*0\.trace"),
        (gradtx.adam(0.1), [None, None], ValueError, r"nothing at `0\.mu`.*no arrays at all"),
        (gradtx.adam(0.1), [ADAM[0]["mu"], None], ValueError, r"nothing at `0\.mu`"),
        (gradtx.adam(0.1), ADAM[0], ValueError, r"nothing at `0\.mu\.b`.*It has `count`, `mu\.b`"),
        (gradtx.adam(0.1), [ADAM], ValueError, r"nothing at `0\.mu\.b`"),
        (gradtx.scale_by_adam(), ADAM, ValueError, "nothing at `mu.b`"),
        (gradtx.sgd(0.1), ADAM, ValueError, r"has `0\.count`, `0\.mu\.b`.*no place"),
        (gradtx.sgd(0.1), optax_state(optax.sgd(0.1, 0.9)), ValueError, r"`0\.trace\.b`.*sgd has no place"),
        (gradtx.scale(0.1), optax_state(optax.scale_by_schedule(falling)), ValueError, "`count`.*no place"),
        (gradtx.adam(0.1), bare(optax_state(optax.amsgrad(0.1))), ValueError, r"`0\.nu_max\.b`"),
        (gradtx.adam(0.1), optax_state(optax.adabelief(0.1)), ValueError, "has a ScaleByBeliefState at `0`"),
        (gradtx.scale_by_adam(), ForeignState(0, PARAMS, PARAMS), ValueError, "ForeignState at its root"),
        (gradtx.adam(0.1), optax.apply_if_finite(optax.adam(0.1), 3).init(PARAMS), ValueError, "nothing at"),
        (gradtx.adam(0.1), [{**ADAM[0], "nu": {"w": jnp.ones(3)}}, None], ValueError, r"nothing at `0\.nu\.b`"),
        (
            gradtx.adam(0.1),
            [{**ADAM[0], "nu": {**PARAMS, "w": jnp.ones(4)}}, None],
            ValueError,
            r"`0\.nu\.w` has shape \(4,\), expected \(3,\)",
        ),
        (gradtx.adam(0.1), [{**ADAM[0], "count": jnp.ones(2, int)}, None], ValueError, r"`0\.count` has shape \(2,\)"),
        (gradtx.adam(0.1), [{**ADAM[0], "count": 1.5}, None], TypeError, r"`0\.count` is float32\[\], expected int32"),
        (gradtx.adam(0.1), [{**ADAM[0], "count": "3"}, None], TypeError, "must be an array, got '3'"),
        (
            gradtx.adam(0.1),
            [{**ADAM[0], "nu": {**PARAMS, "w": jnp.ones(3, int)}}, None],
            TypeError,
            r"`0\.nu\.w` is int32\[3\], expected float32",
        ),
        (
            gradtx.scale_by_rss(),
            {"sum_of_squares": {"w": jnp.full(3, 1j)}},
            TypeError,
            r"is complex64\[3\], expected float32",
        ),
        (gradtx.adam(0.1), "adam", ValueError, "It has its root"),
        (gradtx.adam(0.1), None, ValueError, "no arrays at all"),
        (gradtx.nag(0.1), [{"trace": PARAMS}, None], ValueError, r"gradtx.sgd\(.* nesterov=True\)"),
    ],
)
def test_a_state_that_does_not_fit(tx, restored, error, words):
    with pytest.raises(error, match=words):
        from_optax(tx, restored)


def test_params_that_do_not_fit():
    with pytest.raises(ValueError, match=r"nothing at `0\.mu\.bias`"):
        from_optax(gradtx.adam(0.1), ADAM, {"w": jnp.ones(3), "bias": jnp.ones(2)})
