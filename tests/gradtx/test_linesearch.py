"""Line searches beside optax's: arguments, states and iterates; what they print, and what they refuse."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx
from gradtx import Outcome, Reason

X64 = pytest.mark.usefixtures("x64", "standard_promotion")


def rosenbrock(x: jax.Array) -> jax.Array:
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def quadratic(x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.asarray([1.0, 10.0, 100.0]) * jnp.square(x)) / 2 - 3.0


FUNCTIONS = {"rosenbrock": (rosenbrock, [-1.2, 1.0]), "quadratic": (quadratic, [1.0, -2.0, 0.5])}


def run(lib: Any, tx: Any, function: Any, start: Any, steps: int) -> tuple[jax.Array, Any]:
    """Steps of a library's own loop, and the state after the last one."""
    value_and_grad = jax.value_and_grad(function)

    @jax.jit
    def step(x: Any, state: Any) -> Any:
        value, grad = value_and_grad(x)
        updates, state = tx.update(grad, state, x, value=value, grad=grad, value_fn=function)
        return lib.apply_updates(x, updates), state

    x, points = jnp.asarray(start), []
    state = tx.init(x)
    for _ in range(steps):
        x, state = step(x, state)
        points.append(x)
    return jnp.stack(points), state


# Arguments and states


@pytest.mark.parametrize(
    "name", ["lbfgs", "scale_by_lbfgs", "scale_by_zoom_linesearch", "scale_by_backtracking_linesearch"]
)
def test_arguments_are_optaxs_and_further_ones_are_keywords(name):
    ours = dict(inspect.signature(getattr(gradtx, name)).parameters)
    theirs = dict(inspect.signature(getattr(optax, name)).parameters)
    assert list(ours)[: len(theirs)] == list(theirs)
    for argument, parameter in theirs.items():
        if argument != "linesearch":  # an instance of each library's own
            assert ours[argument].default == parameter.default
    assert all(ours[more].kind is inspect.Parameter.KEYWORD_ONLY for more in list(ours)[len(theirs) :])


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("scale_by_lbfgs", {}),
        ("scale_by_zoom_linesearch", {"max_linesearch_steps": 5}),
        ("scale_by_backtracking_linesearch", {"max_backtracking_steps": 5}),
    ],
)
def test_states_begin_with_optaxs_fields(name, arguments):
    ours, theirs = (getattr(lib, name)(**arguments).init(jnp.ones(3)) for lib in (gradtx, optax))
    assert type(ours).__name__ == type(theirs).__name__
    assert ours._fields[: len(theirs._fields)] == theirs._fields
    if "info" in theirs._fields:
        assert type(ours.info).__name__ == type(theirs.info).__name__
        assert ours.info._fields == theirs.info._fields


@pytest.mark.slow
@pytest.mark.usefixtures("standard_promotion")
def test_optaxs_example_runs_with_the_import_changed():
    def f(x):
        return jnp.sum(x**2)

    def values(lib):
        solver, params = lib.lbfgs(), jnp.array([1.0, 2.0, 3.0])
        opt_state, found = solver.init(params), []
        value_and_grad = lib.value_and_grad_from_state(f)
        for _ in range(2):
            value, grad = value_and_grad(params, state=opt_state)
            updates, opt_state = solver.update(grad, opt_state, params, value=value, grad=grad, value_fn=f)
            params = lib.apply_updates(params, updates)
            found.append(f"{f(params):.2E}")
        return found

    assert values(gradtx) == values(optax) == ["7.52E+00", "7.46E-14"]


# Meanings


@X64
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"store_grad": True},
        {"slope_rtol": 0.3, "decrease_factor": 0.5, "increase_factor": 3.0, "max_learning_rate": 0.7},
        {"increase_factor": float("inf"), "max_learning_rate": 10.0},
        {"atol": 1e-3},
    ],
    ids=str,
)
def test_backtracking_takes_optaxs_steps(arguments, name):
    function, start = FUNCTIONS[name]
    points, counts = [], []
    for lib in (gradtx, optax):
        search = lib.scale_by_backtracking_linesearch(100, **arguments)
        x, state = run(lib, lib.chain(lib.sgd(1.0), search), function, start, 40)
        points.append(x)
        counts.append(int(state[-1].info.num_linesearch_steps))
    np.testing.assert_allclose(*points, rtol=1e-9, atol=1e-12)
    assert counts[0] == counts[1]


@pytest.mark.slow
@X64
def test_rtol_allows_a_rise_as_optaxs_does_where_the_objective_is_positive():
    """Where it is negative, optax's asks for more decrease, and ours allows a rise too."""

    def step(lib, shift):
        def function(x):
            return jnp.sum(jnp.square(x)) + shift

        tx = lib.scale_by_backtracking_linesearch(40, rtol=0.5)
        x = jnp.asarray([1.0])
        extra = {"value": function(x), "grad": 2 * x, "value_fn": function}
        return float(tx.update(jnp.asarray([-2.2]), tx.init(x), x, **extra)[0][0])

    # A step of 1 leads from 1 to -1.2, where the square is larger by .44.
    assert step(gradtx, 2.0) == step(optax, 2.0) == -2.2
    assert step(gradtx, -4.0) == -2.2


@X64
@pytest.mark.parametrize("name", FUNCTIONS)
def test_lbfgs_without_a_search_takes_optaxs_steps(name):
    """Where all curvatures along a path are positive, as on these."""
    function, start = FUNCTIONS[name]
    points = [
        run(lib, lib.lbfgs(0.1, memory_size=3, linesearch=None), function, start, 30)[0] for lib in (gradtx, optax)
    ]
    np.testing.assert_allclose(*points, rtol=1e-6)


def searched(tx: Any, function: Any, start: Any, direction: Any) -> Any:
    x = jnp.asarray(start)
    value, grad = jax.value_and_grad(function)(x)
    return tx.update(jnp.asarray(direction), tx.init(x), x, value=value, grad=grad, value_fn=function)[1]


def downhill(x: jax.Array) -> jax.Array:
    return -jnp.sum(x)


@pytest.mark.slow
@pytest.mark.usefixtures("standard_promotion")
@pytest.mark.parametrize("factor", [2.0, 3.0])
def test_steps_grow_by_the_factor_and_with_cubics_at_least_so_much(factor):
    exact, cubic = (
        gradtx.scale_by_zoom_linesearch(4, increase_factor=factor, cubic_extrapolation=more) for more in (False, True)
    )
    theirs = optax.scale_by_zoom_linesearch(4, increase_factor=factor)
    steps = [float(searched(tx, downhill, [0.0], [1.0]).learning_rate) for tx in (exact, theirs, cubic)]
    assert steps[0] == steps[1] == factor**3
    assert steps[2] > steps[0]
    # The cubic says 1.05, and without a factor it would be extrapolated to 2.1.
    state = searched(cubic.replace(max_linesearch_steps=2), lambda x: jnp.sum((x - 30) ** 2), [0.0], [1.0])
    assert float(state.learning_rate) >= factor


@pytest.mark.slow
def test_the_longest_step_is_kept():
    tx = gradtx.scale_by_zoom_linesearch(20, max_learning_rate=3.0)
    state = searched(tx, downhill, [0.0], [1.0])
    assert (float(state.learning_rate), int(state.evaluations), state.outcome) == (3.0, 2, Outcome.DECREASED)
    assert float(state.info.curvature_error) > 0 == float(state.info.decrease_error)
    assert float(searched(tx.replace(max_learning_rate=0.5), downhill, [0.0], [1.0]).learning_rate) == 0.5
    # One that is too long is shortened as ever.
    state = searched(tx, lambda x: jnp.sum(x * x), [1.0], [-10.0])
    assert (state.outcome, float(state.value)) == (Outcome.WOLFE, pytest.approx(0, abs=1e-3))


@pytest.mark.slow
def test_tolerances_and_conditions_can_be_loosened():
    def square(x):
        return jnp.sum(x * x)

    # From 1 to -1.5: the value rises by 1.25.
    zoom = gradtx.scale_by_zoom_linesearch(10)
    assert float(searched(zoom, square, [1.0], [-2.5]).learning_rate) < 1
    assert float(searched(zoom.replace(tol=10.0), square, [1.0], [-2.5]).learning_rate) == 1
    # From 1 to 0.99, where the slope is nearly what it was.
    assert float(searched(zoom, square, [1.0], [-0.01]).learning_rate) > 1
    state = searched(zoom.replace(curv_rtol=float("inf")), square, [1.0], [-0.01])
    assert (float(state.learning_rate), state.outcome, float(state.info.curvature_error)) == (1, Outcome.WOLFE, 0)

    def flat(x):  # its fall of 2e-9 is lost in float32
        return 1e3 + square(x) * 1e-9

    assert searched(zoom, flat, [1.0], [-1.0]).outcome == Outcome.WOLFE
    assert searched(zoom.replace(approx_dec_rtol=None), flat, [1.0], [-1.0]).outcome == Outcome.FAILED


def test_failure_has_positive_errors():
    steep = searched(gradtx.scale_by_zoom_linesearch(3), lambda x: jnp.sum(jnp.abs(x)), [1.0], [-1e3])
    assert steep.outcome == Outcome.FAILED
    assert steep.info.decrease_error > 0
    tx = gradtx.scale_by_backtracking_linesearch(2)
    state = searched(tx, lambda x: jnp.where(x[0] == 1, x[0], x[0] + 2), [1.0], [-1.0])
    assert (state.outcome, int(state.info.num_linesearch_steps)) == (Outcome.FAILED, 3)
    assert state.info.decrease_error > 0


@pytest.mark.slow
@pytest.mark.usefixtures("standard_promotion")
@pytest.mark.parametrize("name", ["scale_by_zoom_linesearch", "scale_by_backtracking_linesearch"])
def test_what_the_objective_names_is_handed_on(name):
    """As in optax's examples; and what it does not name is for others."""

    def fn(params, x, y):
        return optax.l2_loss(x.dot(params), y)

    params, x, y = jnp.array([1.0, 2.0, 3.0]), jnp.array([3.0, 2.0, 1.0]), jnp.array(0.0)
    found = []
    for lib in (gradtx, optax):
        tx = lib.chain(lib.sgd(1.0), getattr(lib, name)(15))
        value, grad = jax.value_and_grad(fn)(params, x, y)
        more = {"unknown": 1.0} if lib is gradtx else {}
        updates, _ = tx.update(grad, tx.init(params), params, value=value, grad=grad, value_fn=fn, x=x, y=y, **more)
        found.append(updates)
    if name == "scale_by_backtracking_linesearch":
        np.testing.assert_allclose(*found, rtol=1e-6)
    assert all(fn(params + updates, x, y) < fn(params, x, y) for updates in found)


# What is printed and refused


@pytest.mark.parametrize("make", [gradtx.scale_by_zoom_linesearch, gradtx.scale_by_backtracking_linesearch])
def test_verbose_says_how_a_search_failed_and_nothing_else(make, capfd):
    tx = make(5, verbose=True)
    searched(tx, lambda x: jnp.sum(x * x), [1.0], [-1.0])
    jax.effects_barrier()
    assert capfd.readouterr().out == ""

    def of_lane(direction):
        return searched(tx, lambda x: jnp.sum(x * x), [1.0], direction).value

    jax.jit(jax.vmap(of_lane))(jnp.asarray([[-1.0], [1.0], [-0.9]]))
    jax.effects_barrier()
    printed = capfd.readouterr().out
    assert printed.count("NO_DESCENT: the updates are no descent direction") == 1
    assert printed.startswith(type(tx).__name__)
    assert "slope along the updates 2.0" in printed


def test_outcomes_and_reasons_say_what_they_mean():
    for enumeration in (Outcome, Reason):
        assert [int(member) for member in enumeration] == list(range(len(enumeration)))
        assert all(member.message and enumeration(int(member)) is member for member in enumeration)


REFUSED = {
    "growth of nothing": (
        lambda: gradtx.scale_by_zoom_linesearch(5, increase_factor=1.0),
        "`increase_factor` must be a finite number > 1, got 1.0",
    ),
    "a longest step of 0": (
        lambda: gradtx.scale_by_zoom_linesearch(5, max_learning_rate=0.0),
        "`max_learning_rate` must be a finite number > 0, got 0.0",
    ),
    "NaN for infinity": (
        lambda: gradtx.scale_by_zoom_linesearch(5, curv_rtol=float("nan")),
        "`curv_rtol` must be a number >= 0, or infinity, got nan",
    ),
    "slopes that nobody evaluates": (
        lambda: gradtx.scale_by_backtracking_linesearch(5, approx_dec_rtol=1e-6),
        "`approx_dec_rtol` compares slopes, which only `store_grad=True` evaluates",
    ),
    "a factor that shortens": (
        lambda: gradtx.scale_by_backtracking_linesearch(5, increase_factor=0.5),
        "`increase_factor` must be a number >= 1, or infinity, got 0.5",
    ),
    "a rate below 0": (lambda: gradtx.lbfgs(-0.1), "`learning_rate` must be a finite number >= 0, got -0.1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    make, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        make()
