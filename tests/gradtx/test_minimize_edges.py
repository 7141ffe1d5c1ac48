"""`minimize` where objectives, units and calls are out of the ordinary."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import gradtx
from gradtx import Reason, lbfgs, minimize

from .minima import gulf, rosenbrock, wood

BACKTRACKING = gradtx.scale_by_backtracking_linesearch(30, store_grad=True)
METHODS = {
    "lbfgs": lbfgs(),
    "newton_cg": gradtx.newton_cg(),
    "newton": gradtx.newton(linesearch=BACKTRACKING),
    "sgd": gradtx.sgd(0.3),
    "adam": gradtx.adam(0.3),
}


def outside(value: float) -> Any:
    """A bowl around 3 that has another value where the first parameter is negative."""
    return lambda x: jnp.where(x[0] < 0, value, jnp.sum((x - 3) ** 2))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", METHODS)
def test_a_value_that_is_not_finite_is_no_minimum(name: str, value: float) -> None:
    """Although the gradient is 0 there."""
    found = minimize(outside(value), jnp.asarray([-1.0, 0.0]), METHODS[name], max_steps=50)
    assert Reason(int(found.reason)) == Reason.NOT_FINITE
    assert found.steps == 0


def test_walking_into_what_is_not_finite() -> None:
    found = minimize(
        lambda x: jnp.where(x[0] < 0, jnp.nan, x[0] + 0.01 * jnp.sum(x**2)), jnp.asarray([1.0, 0.0]), gradtx.sgd(0.3)
    )
    assert Reason(int(found.reason)) == Reason.NOT_FINITE
    assert jnp.isnan(found.value)


@pytest.mark.parametrize(
    ("function", "options", "reason"),
    [
        # Each verdict with all those that it outranks.
        (lambda x: jnp.sum(x * x), {"max_steps": 0}, Reason.MAX_STEPS),
        (lambda x: -jnp.sum(x), {"max_steps": 1}, Reason.UNBOUNDED),
        (lambda x: jnp.sum(jnp.abs(x - 0.3)), {"max_steps": 30}, Reason.FAILED),
        (lambda x: jnp.sum(0 * x), {"max_steps": 0}, Reason.CONVERGED),
        (lambda x: jnp.sum(0 * x) + jnp.inf, {"max_steps": 0}, Reason.NOT_FINITE),
        (lambda x: jnp.sum(x) * jnp.nan, {"max_steps": 0, "tol": jnp.inf}, Reason.NOT_FINITE),
    ],
)
def test_the_order_of_verdicts(function: Any, options: Any, reason: Reason) -> None:
    found = minimize(function, jnp.asarray([1.0, 2.0]), lbfgs(), **options)
    assert Reason(int(found.reason)) == reason


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_the_parameters_unit_does_not_matter() -> None:
    """Rosenbrock of x / c, as many evaluations for any c; scipy's L-BFGS-B takes 56 to 71, and fails from 1e10 on."""
    units = 10.0 ** np.array([-15, -12, -8, -4, 0, 4, 8, 12, 15])

    def found(unit: jax.Array) -> gradtx.MinimizeResult:
        start = unit * jnp.asarray([-1.2, 1.0, -1.2, 1.0])
        return minimize(lambda x: rosenbrock(x / unit), start, lbfgs(), tol=1e-5 / unit)

    ends = jax.jit(jax.vmap(found))(jnp.asarray(units))
    assert (ends.reason == Reason.CONVERGED).all()
    np.testing.assert_allclose(ends.params / units[:, None], 1, atol=1e-4)
    assert max(ends.evaluations) <= 56


FAR = {
    "a fit of amplitude and decay": (
        lambda p: jnp.mean((p[0] / 3e7 * jnp.exp(-TIMES / p[1]) - jnp.exp(-TIMES / 1.5)) ** 2),
        [2e7, 1.0],
        1e-12,
        [3e7, 1.5],
    ),
    "a parabola from far away": (lambda x: jnp.sum((x - 3) ** 2), [1e13], 1e-5, [3.0]),
    "a wide parabola from 0": (lambda x: jnp.sum((x / 1e9 - 1) ** 2), [0.0], 1e-12, [1e9]),
    "a wide parabola from 1": (lambda x: jnp.sum((x / 1e9 - 1) ** 2), [1.0], 1e-12, [1e9]),
    "a start next to 0": (lambda x: jnp.sum((x - 1) ** 2), [1e-12, -1e-12], 1e-5, [1.0, 1.0]),
}
TIMES = np.linspace(0, 5, 20)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", FAR)
def test_far_from_the_minimum(name: str) -> None:
    function, start, tol, minimum = FAR[name]
    found = minimize(function, jnp.asarray(start), lbfgs(), tol=tol)
    assert Reason(int(found.reason)) == Reason.CONVERGED
    np.testing.assert_allclose(found.params, minimum, rtol=1e-3)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("strategy", ["keep", "one"])
@pytest.mark.parametrize("most", [3, 4, 5])
def test_a_step_that_decreases_is_one(most: int, strategy: Any) -> None:
    """However few evaluations a search may make, and whether or not it has found an interval."""
    search = gradtx.scale_by_zoom_linesearch(most, initial_guess_strategy=strategy)
    found = minimize(rosenbrock, jnp.asarray([-1.2, 1.0]), lbfgs(linesearch=search))
    assert Reason(int(found.reason)) == Reason.CONVERGED


@pytest.mark.parametrize("function", [lambda x: -jnp.sum(x), lambda x: -jnp.sum(x**2)], ids=["plane", "hill"])
def test_unbounded_is_said_where_nothing_flattens(function: Any) -> None:
    found = minimize(function, jnp.asarray([1.0, 2.0]), lbfgs())
    assert Reason(int(found.reason)) == Reason.UNBOUNDED


@pytest.mark.parametrize("search", [None, BACKTRACKING, gradtx.scale_by_zoom_linesearch(20)], ids=str)
def test_a_parameter_without_a_gradient_is_left_alone(search: Any) -> None:
    tx = lbfgs(0.1 if search is None else None, linesearch=search)

    def bowl(p: Any) -> jax.Array:
        return jnp.sum((p["a"] - 1) ** 2) + jnp.sum((p["b"] - 3) ** 2 * jnp.asarray([1.0, 5.0, 9.0]))

    params: Any = {"a": jnp.zeros(2), "b": jnp.zeros(3)}
    state = tx.init(params)
    held = {name: getattr(state[0], name)["a"] for name in ("params", "updates", "diff_params_memory")}
    step = jax.jit(lambda g, s, p, v: tx.update(g, s, p, value=v, grad=g, value_fn=bowl))
    for _ in range(6):
        value, grads = jax.value_and_grad(bowl)(params)
        updates, new = step({**grads, "a": None}, state, params, value)
        assert updates["a"] is None
        assert jax.tree.structure(new) == jax.tree.structure(state)
        params, state = gradtx.apply_updates(params, updates), new
    np.testing.assert_array_equal(params["a"], 0)
    for name, leaf in held.items():
        np.testing.assert_array_equal(getattr(state[0], name)["a"], leaf)
    assert bowl(params) < 0.7 * bowl({"a": jnp.zeros(2), "b": jnp.zeros(3)})


class Calls:
    """An objective that can be changed, and cannot be hashed."""

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __init__(self, target: float) -> None:
        self.target = jnp.full(2, target)

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.sum((x - self.target) ** 2)

    def loss(self, x: jax.Array) -> jax.Array:
        return self(x)


@dataclasses.dataclass
class Module:
    target: Any

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.sum((x - self.target) ** 2)


def test_an_objective_is_what_it_is_now() -> None:
    """And not what it was when it was seen first."""
    data: Any = np.zeros(2, np.float32)
    calls, module = Calls(0.0), Module(np.zeros(2, np.float32))
    objectives = {
        "closure": lambda x: jnp.sum((x - data) ** 2),
        "callable": calls,
        "bound method": calls.loss,
        "dataclass": module,
    }
    for target in (0.0, 5.0, -2.0):
        data[:] = target
        calls.target, module.target = jnp.full(2, target), np.full(2, target, np.float32)
        for name, objective in objectives.items():
            found = minimize(objective, jnp.ones(2), lbfgs())
            np.testing.assert_allclose(found.params, target, atol=1e-4, err_msg=name)


@pytest.mark.slow
def test_what_a_function_inside_has_closed_over_belongs_to_the_objective() -> None:
    """It stays inside a traced function, whose text does not show it."""
    for target in (3.0, 7.0):
        data = jnp.full(3, target)
        inner = jax.jit(lambda x, data=data: jnp.sum((x - data) ** 2))
        closed = jax.jit(lambda x, data=data: x - data)
        objectives = {
            "jitted": inner,
            "around a jitted one": lambda x, inner=inner: 1.0 * inner(x),
            "in two parts": gradtx.CompositeLoss(closed, lambda out: jnp.sum(out**2)),
        }
        for name, objective in objectives.items():
            np.testing.assert_allclose(minimize(objective, jnp.zeros(3), lbfgs()).params, target, 1e-5, err_msg=name)


def test_callbacks_and_meshes_belong_to_a_program() -> None:
    class Called:
        def __init__(self, value: float) -> None:
            self.value = np.float32(value)

        def __call__(self, x: Any) -> Any:
            return self.value

        def __repr__(self) -> str:
            return "Called()"

    for value in (1.0, 2.0):
        called, kind = Called(value), jax.ShapeDtypeStruct((), np.float32)

        def objective(x: jax.Array, called: Any = called, kind: Any = kind) -> jax.Array:
            return jnp.sum((x - jax.lax.stop_gradient(jax.pure_callback(called, kind, 0.0))) ** 2)

        found = minimize(objective, jnp.zeros(2), gradtx.sgd(0.4), max_steps=30)
        np.testing.assert_allclose(found.params, value, rtol=1e-4)
    for devices in (jax.devices()[:2], jax.devices()[2:4]):
        mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,), devices=devices)
        spread = NamedSharding(mesh, PartitionSpec("d"))
        x, target = jax.device_put((jnp.zeros(4), jnp.ones(4)), NamedSharding(mesh, PartitionSpec()))

        def apart(x: jax.Array, target: jax.Array, spread: Any = spread) -> jax.Array:
            return jnp.sum((x - jax.lax.with_sharding_constraint(target, spread)) ** 2)

        np.testing.assert_allclose(minimize(apart, x, lbfgs(), args=(target,)).params, 1.0, rtol=1e-5)


def test_equal_objectives_share_a_program() -> None:
    def compilations() -> int:
        before = len(seen)
        minimize(lambda x: jnp.sum(jax.nn.softplus(x) - 0.3 * x), jnp.ones(3), tx)
        return len(seen) - before

    seen: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: seen.append(event) if event.endswith("backend_compile_duration") else None
    )
    tx = lbfgs()
    assert compilations() > 0
    assert [compilations() for _ in range(3)] == [0, 0, 0]


def test_rules_for_derivatives_belong_to_a_program() -> None:
    @jax.custom_jvp
    def identity(x: jax.Array) -> jax.Array:
        return x

    slopes = []
    for sign in (1.0, -1.0):
        identity.defjvp(lambda primals, tangents, sign=sign: (primals[0], sign * tangents[0]))
        found = minimize(lambda x: jnp.sum(identity(x)), jnp.ones(2), gradtx.sgd(0.1), max_steps=1)
        slopes.append(float(found.grad[0]))
    assert slopes == [1.0, -1.0]


def test_rules_by_args_belong_to_a_program() -> None:
    def slope(factor: float) -> jax.Array:
        @jax.custom_jvp
        def turned(a: jax.Array) -> jax.Array:
            return a

        turned.defjvp(lambda primals, tangents: (turned(primals[0]), factor * tangents[0]))

        def objective(x: jax.Array, a: jax.Array) -> jax.Array:
            return jnp.sum((x - turned(a)) ** 2)

        return jax.grad(lambda a: minimize(objective, jnp.zeros(2), lbfgs(), args=(a,)).params[0])(1.0)

    assert [float(slope(factor)) for factor in (1.0, 5.0)] == [1.0, 5.0]


def test_rules_with_constants_of_their_own() -> None:
    height = jnp.zeros(3)
    for target in (1.0, 2.0):

        @jax.custom_vjp
        def bowl(x: jax.Array) -> jax.Array:
            return jnp.sum(x * x) + jnp.sum(height)

        center = jnp.full(3, target)
        bowl.defvjp(lambda x: (jnp.sum(x * x), x), lambda x, g, center=center: (g * (x - center),))
        found = minimize(bowl, jnp.full(3, 5.0), gradtx.sgd(0.1))
        np.testing.assert_allclose(found.params, target, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_each_device_minimises_its_own(name: str) -> None:
    mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    starts, targets = jnp.ones((4, 3)), jnp.arange(4.0)

    def found(x: jax.Array, target: jax.Array) -> gradtx.MinimizeResult:
        scale = jnp.asarray([1.0, 3.0, 10.0])
        tx = METHODS[name] if name != "sgd" else gradtx.sgd(0.01)
        return minimize(lambda x: jnp.sum(scale * jnp.cosh(x - target)), x, tx, tol=1e-3, max_steps=50)

    def own(x: jax.Array, target: jax.Array) -> Any:
        end = found(x[0], target[0])
        return end.params[None], end.steps[None]

    spec = PartitionSpec("d")
    params, steps = jax.jit(jax.shard_map(own, mesh=mesh, in_specs=spec, out_specs=spec))(starts, targets)
    alone = jax.jit(jax.vmap(found))(starts, targets)
    np.testing.assert_array_equal(steps, alone.steps)
    np.testing.assert_allclose(params, alone.params, atol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("function", "start", "most"),
    # Steps of scipy's trust-ncg. Where directions of negative curvature are not followed, it takes 2,770 and 166.
    [(gulf, [5.0, 2.5, 0.15], 38), (wood, [-3.0, -1.0, -3.0, -1.0], 108)],
)
def test_negative_curvature_is_left_quickly(function: Any, start: list[float], most: int) -> None:
    found = minimize(function, jnp.asarray(start), gradtx.newton_cg())
    assert Reason(int(found.reason)) == Reason.CONVERGED
    assert found.steps <= most


@pytest.mark.usefixtures("x64")
def test_a_hill_s_own_scale_says_how_far() -> None:
    """Where the gradient's length does not: from a hill's flank of curvature -2e10."""
    found = minimize(lambda x: 1e10 * jnp.sum(x**4 - x**2), jnp.asarray([0.1]), gradtx.newton_cg())
    assert Reason(int(found.reason)) == Reason.CONVERGED
    np.testing.assert_allclose(found.params, np.sqrt(0.5), rtol=1e-6)
    found = minimize(lambda x: jnp.sum((1e6 - jnp.exp(x)) ** 2), jnp.zeros(1), gradtx.newton_cg(), tol=1e-2)
    np.testing.assert_allclose(found.params, np.log(1e6), rtol=1e-9)
