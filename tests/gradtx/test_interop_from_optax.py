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

from .problem import ALIKE, assert_close, assert_same_types, gradient, problem
from .row import OptaxNag, falling
from .table import BY_NAME, OPTIMIZERS, each, each_part

BEFORE, AFTER = 3, 20


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
    brought = from_optax(ours, restored, params)
    assert_same_types(brought, ours.init(params))
    steps = len(noise["scalar"])
    expected, _ = train(theirs, params, state, noise, BEFORE, steps)
    got, _ = train(ours, params, brought, noise, BEFORE, steps)
    assert_close(got, expected, rtol)


each_with_peer = each([row for row in OPTIMIZERS if row.peer not in (None, OptaxNag)])


def assert_is_own_state(ours: Any, theirs: Any) -> None:
    """What comes from optax is the state that `ours` has after the same steps."""
    params, noise = problem(3, leaves=ALIKE)
    _, state = train(theirs, params, theirs.init(params), noise, 0, 3)
    _, expected = train(ours, params, ours.init(params), noise, 0, 3)
    for restored in (state, bare(state)):
        brought = from_optax(ours, restored, params, count=3)
        assert_same_types(brought, expected)
        assert_close(brought, expected, 1e-12)


@pytest.mark.usefixtures("x64")
@each_with_peer
def test_state_of_an_optimizer_is_our_own(row):
    assert_is_own_state(row.make(), row.make_peer())


@pytest.mark.usefixtures("x64")
@each_part
def test_state_of_a_part_is_our_own(row):
    assert_is_own_state(row.make(), row.make_peer())


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["sgd-momentum", "rmsprop-momentum", "adamw-masked"])
@pytest.mark.parametrize("rate", [0.05, falling], ids=["constant", "schedule"])
def test_training_goes_on(name, rate):
    row = BY_NAME[name]
    assert_goes_on(row.make(rate), row.make_peer(rate), *problem(BEFORE + 4, leaves=ALIKE), 1e-12)


@pytest.mark.parametrize("rate", [0.05, falling], ids=["constant", "schedule"])
@pytest.mark.parametrize("double", [False, True], ids=["float32", "float64"])
def test_adam_from_an_orbax_checkpoint(rate, double, tmp_path):
    with jax.enable_x64(double):
        dtype, rtol = (np.float64, 1e-12) if double else (np.float32, 3e-6)
        params, noise = problem(BEFORE + AFTER, dtype, ALIKE)
        # In float32 1 - b2^t has a relative error of 2^-24 / (1 - b2^t): 1e-5 at first for the default b2 of 0.999.
        ours, theirs = gradtx.adam(rate, b2=0.95, eps=1e-4), optax.adam(rate, b2=0.95, eps=1e-4)
        assert_goes_on(ours, theirs, params, noise, rtol, lambda state: with_orbax(state, tmp_path))


def test_training_on_without_the_state_differs():
    """The comparison above can fail."""
    params, noise = problem(BEFORE + 4, leaves=ALIKE)
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
    assert_goes_on(ours, theirs, *problem(BEFORE + 4, leaves=ALIKE), 1e-12)


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
    state = from_optax(gradtx.adamw(falling), optax_state(optax.adamw(0.1)), PARAMS)
    assert counts(state) == [3, 3, 3]


def test_count_of_a_constant_rate_is_0_or_as_given():
    state = optax_state(optax.sgd(0.1, 0.9))
    assert counts(from_optax(gradtx.sgd(0.1, 0.9), state, PARAMS)) == [0]
    assert counts(from_optax(gradtx.sgd(0.1, 0.9), state, PARAMS, count=7)) == [7]
    assert counts(from_optax(gradtx.sgd(falling, 0.9), state, PARAMS, count=7)) == [7]


class warm(gradtx.Recipe):
    """A recipe whose schedule is not among its fields."""

    rate: gradtx.Scalar

    def parts(self) -> Any:
        return gradtx.sgd(gradtx.linear_schedule(0.0, self.rate, 10))


class plain(gradtx.Recipe):
    """A recipe without a schedule."""

    rate: gradtx.Scalar

    def parts(self) -> Any:
        return gradtx.sgd(self.rate)


class opaque(gradtx.GradientTransformation):
    """Does not show what is in it."""

    rate: gradtx.Scalar

    def init(self, params: Any) -> Any:
        return gradtx.sgd(self.rate).init(params)

    def update(self, updates: Any, state: Any, params: Any = None) -> Any:
        return gradtx.sgd(self.rate).update(updates, state, params)


@pytest.mark.parametrize(
    "tx", [gradtx.sgd(falling), gradtx.chain(gradtx.sgd(falling)), warm(0.1), opaque(0.1)], ids=repr
)
def test_count_that_a_schedule_needs_is_asked_for(tx):
    restored = [None, None] if len(tx.init(PARAMS)) == 2 else [[None, None]]
    with pytest.raises(ValueError, match=r"needed for a schedule .* keeps none for a constant rate.*count=\.\.\."):
        from_optax(tx, restored, PARAMS)
    assert counts(from_optax(tx, restored, PARAMS, count=4)) == [4]


def test_count_in_a_recipe_without_a_schedule_is_0():
    assert counts(from_optax(plain(0.1), [None, None], PARAMS)) == [0]


def test_counts_that_differ_are_asked_about():
    restored = [{"count": 2, "ema": PARAMS}, {"count": 5, "ema": PARAMS}, None]
    tx = gradtx.chain(gradtx.ema(0.9), gradtx.ema(0.9), gradtx.scale_by_learning_rate(0.1))
    with pytest.raises(ValueError, match=r"several counts, \[2, 5\]"):
        from_optax(tx, restored, PARAMS)
    assert counts(from_optax(tx, restored, PARAMS, count=5)) == [2, 5, 5]


def test_half_precision_becomes_float32():
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), PARAMS)
    state = optax_state(optax.adam(0.1), params=params)
    assert state[0].mu["w"].dtype == jnp.bfloat16
    for brought in (from_optax(gradtx.adam(0.1), state, params), from_optax(gradtx.adam(0.1), bare(state), params)):
        assert_same_types(brought, gradtx.adam(0.1).init(params))
        assert brought[0].nu["w"].dtype == jnp.float32


def test_complex_second_moments_become_real():
    params = {"w": jnp.ones(3, jnp.complex64)}
    for steps in (0, 3):  # optax begins them complex
        state = optax_state(optax.adam(0.1), steps, params)
        for brought in (from_optax(gradtx.adam(0.1), bare(state), params), from_optax(gradtx.adam(0.1), state, params)):
            assert_same_types(brought, gradtx.adam(0.1).init(params))
            assert brought[0].nu["w"].dtype == jnp.float32


@pytest.mark.usefixtures("x64")
def test_dtype_of_an_accumulator_narrower_than_the_params():
    params = {"w": jnp.ones(3, jnp.float64)}
    tx = gradtx.adam(0.1, mu_dtype="float32")
    brought = from_optax(tx, bare(optax_state(optax.adam(0.1, mu_dtype="float32"), params=params)), params)
    assert_same_types(brought, tx.init(params))


def test_containers_come_back_from_params():
    params = {"layers": (jnp.ones(3), None, [jnp.ones(2)])}
    restored = bare(optax_state(optax.adam(0.1), params=params))
    tx = gradtx.adam(0.1)
    brought = from_optax(tx, restored, jax.eval_shape(lambda: params))
    assert_same_types(brought, tx.init(params))
    tx.update(params, brought, params)


def test_a_masked_stage_beside_a_whole_one():
    mask = {"w": True, "b": False}
    theirs = optax.chain(optax.masked(optax.ema(0.9), mask), optax.adam(0.1))
    ours = gradtx.chain(optax.masked(optax.ema(0.9), mask), gradtx.adam(0.1))
    assert_same_types(from_optax(ours, bare(optax_state(theirs)), PARAMS), ours.init(PARAMS))


def test_numpy_leaves_are_copied():
    buffer = np.ones(4096, np.float32)
    state = from_optax(gradtx.trace(0.9), {"trace": {"w": buffer}}, {"w": buffer})
    assert isinstance(state.trace["w"], jax.Array)
    buffer[:] = 7.0
    assert float(state.trace["w"][0]) == 1.0


def test_the_state_can_be_donated():
    state = from_optax(gradtx.adamw(0.1), bare(optax_state(optax.adamw(0.1))), PARAMS)
    jax.jit(gradtx.adamw(0.1).update, donate_argnums=1)(PARAMS, state, PARAMS)


def test_a_state_of_ours_that_lost_its_classes():
    for tx in (gradtx.adamw(falling), gradtx.rmsprop(0.1, momentum=0.9), gradtx.named_chain(("a", gradtx.adam(0.1)))):
        state = tx.init(PARAMS)
        assert_same_types(from_optax(tx, bare(state), PARAMS), state)


def test_a_mask_on_a_state_without_moments():
    tx = gradtx.chain(gradtx.add_decayed_weights(0.1, {"w": True, "b": False}), gradtx.scale_by_learning_rate(0.1))
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
        (gradtx.adam(0.1), [None, None], ValueError, r"nothing at `0\.mu\.b`.*no arrays at all"),
        (gradtx.adam(0.1), [ADAM[0]["mu"], None], ValueError, r"nothing at `0\.mu\.b`"),
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
            {"sum_of_squares": {**PARAMS, "w": jnp.full(3, 1j)}},
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
        from_optax(tx, restored, PARAMS)


def quadratic(params: Any) -> Any:
    return jax.tree.reduce(jnp.add, jax.tree.map(lambda p: jnp.sum(p**2), params))


@pytest.mark.slow
def test_lbfgs_and_its_search_do_not_go_on():
    """Their states have more than optax's; our own, without its classes, goes on."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        theirs = optax.lbfgs(memory_size=2)
        begun, grads = theirs.init(PARAMS), jax.grad(quadratic)(PARAMS)
        extra: Any = {"value": quadratic(PARAMS), "grad": grads, "value_fn": quadratic}
        state: Any = theirs.update(grads, begun, PARAMS, **extra)[1]
    tx = gradtx.lbfgs(memory_size=2)
    own = tx.init(PARAMS)
    for stage, name in ((0, "ScaleByLBFGSState"), (2, "ScaleByZoomLinesearchState")):
        mixed: Any = list(own)
        mixed[stage] = state[stage]
        with pytest.raises(ValueError, match=rf"the {name} at `{stage}` keeps more than optax's.*tx\.init\(params\)"):
            from_optax(tx, mixed, PARAMS)
    restored = bare(tx.init(PARAMS))
    assert_same_types(from_optax(tx, restored, PARAMS), tx.init(PARAMS))


def test_params_that_do_not_fit():
    with pytest.raises(ValueError, match=r"nothing at `0\.mu\.bias`"):
        from_optax(gradtx.adam(0.1), ADAM, {"w": jnp.ones(3), "bias": jnp.ones(2)})
