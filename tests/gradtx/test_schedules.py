"""Schedules against optax's on a grid that covers every boundary, and their derivatives in every number."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx

COUNTS = np.arange(45)


@dataclasses.dataclass(frozen=True)
class Case:
    """Both take `arguments` by the same names. `kinks`: steps at which the value or its slope jumps."""

    name: str
    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    arguments: dict[str, Any]
    kinks: tuple[int, ...] = ()


def joined(library: Any) -> Callable[..., Any]:
    """A warm-up, a plateau and a decay."""

    def make(boundaries: list[int]) -> Any:
        pieces = [
            library.linear_schedule(0.0, 0.8, 7),
            library.constant_schedule(0.7),
            library.exponential_decay(0.6, 5, 0.5),
        ]
        return library.join_schedules(pieces, boundaries)

    return make


WARMUP = {"init_value": 0.1, "peak_value": 0.9, "warmup_steps": 8, "decay_steps": 30}
DECAY = {"init_value": 0.9, "transition_steps": 6, "decay_rate": 0.7}
RAMP = {"init_value": 0.9, "end_value": 0.1, "transition_steps": 20}
CASES = (
    Case("constant", gradtx.constant_schedule, optax.constant_schedule, {"value": 0.3}),
    Case("linear", gradtx.linear_schedule, optax.linear_schedule, RAMP, (0, 20)),
    Case("linear-late", gradtx.linear_schedule, optax.linear_schedule, {**RAMP, "transition_begin": 5}, (5, 25)),
    Case("linear-no-steps", gradtx.linear_schedule, optax.linear_schedule, {**RAMP, "transition_steps": 0}, (0,)),
    Case(
        "polynomial",
        gradtx.polynomial_schedule,
        optax.polynomial_schedule,
        {**RAMP, "power": 1.7, "transition_begin": 5},
        (5, 25),
    ),
    Case("polynomial-root", gradtx.polynomial_schedule, optax.polynomial_schedule, {**RAMP, "power": 0.5}, (0, 20)),
    Case("polynomial-power-0", gradtx.polynomial_schedule, optax.polynomial_schedule, {**RAMP, "power": 0.0}, (0, 20)),
    Case("exponential", gradtx.exponential_decay, optax.exponential_decay, DECAY, (0,)),
    Case(
        "exponential-late",
        gradtx.exponential_decay,
        optax.exponential_decay,
        {**DECAY, "transition_begin": 5, "end_value": 0.2},
        (5, 30),
    ),
    Case(
        "exponential-staircase",
        gradtx.exponential_decay,
        optax.exponential_decay,
        {**DECAY, "staircase": True},
        tuple(range(0, 45, 6)),
    ),
    Case(
        "exponential-growth",
        gradtx.exponential_decay,
        optax.exponential_decay,
        {**DECAY, "decay_rate": 1.3, "end_value": 2.0},
        (0,),
    ),
    Case(
        "cosine",
        gradtx.cosine_decay_schedule,
        optax.cosine_decay_schedule,
        {"init_value": 0.9, "decay_steps": 30, "alpha": 0.1, "exponent": 1.5},
        (0, 30),
    ),
    Case("warmup_cosine", gradtx.warmup_cosine_decay_schedule, optax.warmup_cosine_decay_schedule, WARMUP, (0, 8, 30)),
    Case(
        "warmup_cosine-exponent",
        gradtx.warmup_cosine_decay_schedule,
        optax.warmup_cosine_decay_schedule,
        {**WARMUP, "end_value": 0.05, "exponent": 2.5},
        (0, 8, 30),
    ),
    Case(
        "warmup_cosine-no-warmup",
        gradtx.warmup_cosine_decay_schedule,
        optax.warmup_cosine_decay_schedule,
        {**WARMUP, "warmup_steps": 0},
        (0, 30),
    ),
    Case(
        "piecewise_constant",
        gradtx.piecewise_constant_schedule,
        optax.piecewise_constant_schedule,
        {"init_value": 0.9, "boundaries_and_scales": {20: 0.5, 10: 0.1}},
        (10, 20),
    ),
    Case("join", joined(gradtx), joined(optax), {"boundaries": [8, 20]}, (0, 7, 8, 20)),
)
each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
VARIANTS = [pytest.param(case, marks=pytest.mark.slow if "-" in case.name else ()) for case in CASES]
each_costly = pytest.mark.parametrize("case", VARIANTS, ids=lambda case: case.name)


def equal_to_optax(case: Case, rtol: float) -> None:
    ours = case.ours(**case.arguments)
    values = jax.jit(jax.vmap(ours))(COUNTS)
    with jax.numpy_dtype_promotion("standard"):
        theirs = case.theirs(**case.arguments)
        expected = np.array([theirs(jnp.asarray(count)) for count in COUNTS])
    assert values.dtype == jnp.result_type(float)
    np.testing.assert_allclose(values, expected, rtol=rtol, atol=rtol)
    np.testing.assert_allclose([ours(count) for count in (0, 10, 44)], expected[[0, 10, 44]], rtol=rtol, atol=rtol)


@each
@pytest.mark.usefixtures("x64")
def test_equals_optax_in_float64(case):
    # A cosine and a power, a few roundings of 1e-16 each.
    equal_to_optax(case, 1e-15)


@each_costly
def test_equals_optax_in_float32(case):
    # float32 rounds to 6e-8; a power multiplies that by its exponent (7 at most here).
    equal_to_optax(case, 5e-7)


@each_costly
@pytest.mark.usefixtures("x64")
def test_derivative_in_every_number_is_the_slope(case):
    """Central differences in float64, away from kinks; at the kinks the derivative is finite."""
    schedule = case.ours(**case.arguments)
    leaves, structure = jax.tree.flatten(schedule)
    leaves = np.asarray(leaves)

    def value(leaves, step):
        return structure.unflatten(list(leaves))(step)

    steps = np.arange(0, 44, 0.25)
    slopes = jax.jit(jax.vmap(jax.grad(value), (None, 0)))(leaves, steps)
    assert np.all(np.isfinite(slopes))
    smooth = np.all([np.abs(steps - kink) > 0.1 for kink in case.kinks], axis=0) if case.kinks else steps >= 0
    # A number at the edge of its range (0 steps, power 0) has a one-sided derivative only.
    inner = leaves > 0
    # Error h^2 of the difference, and 1e-16 / h of rounding: both about 1e-10.
    h = 1e-5
    at = jax.jit(jax.vmap(jax.vmap(value, (None, 0)), (0, None)))
    differences = (at(leaves + h * np.eye(len(leaves)), steps) - at(leaves - h * np.eye(len(leaves)), steps)) / (2 * h)
    np.testing.assert_allclose(slopes[smooth][:, inner], differences.T[smooth][:, inner], rtol=1e-7, atol=1e-8)


def test_derivatives_are_not_all_zero():
    """Steps are data: moving the end of a decay moves the values before it."""
    slope = jax.jit(jax.grad(lambda s: s(10)))(gradtx.cosine_decay_schedule(1.0, 30.0))
    assert slope.decay_steps > 0.01
    slope = jax.jit(jax.grad(lambda s: s(3)))(gradtx.linear_schedule(0.0, 1.0, 10.0, 1.0))
    assert slope.transition_begin == pytest.approx(-0.1)
    assert slope.transition_steps == pytest.approx(-0.02)


@each
def test_one_trace_for_all_numbers(case):
    schedule = case.ours(**case.arguments)
    traced = []

    @jax.jit
    def value(schedule, count):
        traced.append(1)
        return schedule(count)

    first = value(schedule, 12)
    second = value(jax.tree.map(lambda leaf: 0.9 * leaf, schedule), 12)
    assert len(traced) == 1
    assert np.all(np.isfinite([first, second]))


def test_value_has_the_dtype_of_a_floating_step():
    for dtype in (jnp.bfloat16, jnp.float16, jnp.float32):
        for case in CASES:
            assert jax.eval_shape(case.ours(**case.arguments), jnp.asarray(3, dtype)).dtype == dtype


def in_a_step(schedule: Any) -> Any:
    """The rate as a compiled step has it, which closes over the schedule."""
    tx = gradtx.sgd(schedule)
    ones = jnp.ones(())

    @jax.jit
    def step(count):
        state = jax.tree.map(lambda _: count, tx.init(ones))
        return -tx.update(ones, state)[0]

    return step


@each
def test_compiled_or_not_the_value_is_the_same(case):
    """XLA divides by a constant as it multiplies by its reciprocal: what is rounded then, no caller may see.

    With LLVM's optimizations all bits are the same. Without, as here, it depends on what stands around a sum of
    products which of them is fused, and so not rounded: two units in the last place.
    """
    schedule = case.ours(**case.arguments)
    compiled, argument, step = jax.jit(schedule), jax.jit(lambda s, c: s(c)), in_a_step(schedule)
    for count in map(int, COUNTS):
        values = [schedule(count), compiled(count), argument(schedule, count), step(jnp.int32(count))]
        np.testing.assert_array_max_ulp(np.asarray(values), np.full(4, values[0]), maxulp=2)


LENGTHS = (*range(1, 200), 997, 10**6, 2**24 + 1, 2**31 - 1)


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("x64", [False, True], ids=["float32", "float64"])
def test_ends_are_met_exactly(jit, x64):
    with jax.enable_x64(x64):
        maybe = jax.jit if jit else lambda function: function
        exact = np.dtype(jnp.result_type(float)).type
        for start, end in ((0.1, 0.0), (0.3, 0.07), (0.0, 0.9), (0.7, 0.7)):
            for n in LENGTHS if end in (0.0, 0.07) and not jit else (1, 41, 47, 199):
                for schedule in (gradtx.linear_schedule(start, end, n), gradtx.polynomial_schedule(start, end, 0.7, n)):
                    value = maybe(lambda count, schedule=schedule: schedule(count))
                    assert value(0) == exact(start), (schedule, value(0))
                    assert value(n) == exact(end), (schedule, value(n))
        warm = maybe(gradtx.warmup_cosine_decay_schedule(0.1, 0.7, 41, 121, 0.03))
        assert [warm(0), warm(41), warm(121)] == [exact(0.1), exact(0.7), exact(0.03)]


def test_stairs_fall_at_whole_steps():
    """A quotient rounded down was a step late at 46 of these places."""
    places = [(n, k) for n in (3, 7, 41, 47, 49, 55, 93) for k in (1, 2, 3, 6, 12)]
    at = jax.jit(lambda schedule, count: schedule(count))
    for n, k in places:
        schedule = gradtx.exponential_decay(1.0, n, 0.5, staircase=True)
        compiled = jax.jit(lambda count, schedule=schedule: schedule(count))
        for value in (schedule, compiled, lambda count, schedule=schedule: at(schedule, count)):
            assert [value(k * n - 1), value(k * n)] == [0.5 ** (k - 1), 0.5**k], (n, k)
    # Steps need not be whole: 2.5 has passed twice at 5 and not at 4.
    half = gradtx.exponential_decay(1.0, 2.5, 0.5, staircase=True)
    assert [half(count) for count in (2, 3, 4, 5, 7, 8)] == [1.0, 0.5, 0.5, 0.25, 0.25, 0.125]
    assert float(half(jnp.float32(2.5))) == 0.5


FAR = 2**24 + 1  # float32 has 2^24 and 2^24 + 2
LAST = 2**31 - 1


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_steps_are_exact_up_to_2_31(compiled):
    def values(schedule, *counts):
        function = jax.jit(lambda count: schedule(count)) if compiled else schedule
        return [float(function(count)) for count in counts]

    two = [gradtx.constant_schedule(1.0), gradtx.constant_schedule(0.5)]
    for boundary in (FAR, 2**30 + 3, LAST):
        around = (boundary - 1, boundary)
        assert values(gradtx.join_schedules(two, [boundary]), *around) == [1.0, 0.5]
        assert values(gradtx.piecewise_constant_schedule(1.0, {boundary: 0.5}), *around) == [1.0, 0.5]
        assert values(gradtx.exponential_decay(1.0, 1, 0.5, boundary - 1), *around) == [1.0, 0.5]
        stairs = gradtx.exponential_decay(1.0, boundary, 0.5, staircase=True)
        assert values(stairs, *around) == [1.0, 0.5]
    ramp = gradtx.join_schedules([gradtx.constant_schedule(0.0), gradtx.linear_schedule(0.0, 4.0, 4)], [FAR])
    assert values(ramp, *range(FAR, FAR + 6)) == [0.0, 1.0, 2.0, 3.0, 4.0, 4.0]
    joined_twice = gradtx.join_schedules([gradtx.constant_schedule(9.0), ramp], [FAR])
    assert values(joined_twice, *range(2 * FAR, 2 * FAR + 3)) == [0.0, 1.0, 2.0]
    late = gradtx.linear_schedule(0.0, 4.0, 4, FAR)
    assert values(late, *range(FAR, FAR + 5)) == [0.0, 1.0, 2.0, 3.0, 4.0]
    warm = gradtx.warmup_cosine_decay_schedule(0.0, 1.0, FAR, FAR + 2, 0.0)
    assert values(warm, FAR, FAR + 1, FAR + 2) == [1.0, pytest.approx(0.5), 0.0]


def test_boundaries_that_are_traced_are_float32():
    """An argument of a compiled function is one: from 2^24 on its boundary is rounded, its steps are not."""
    schedule = gradtx.join_schedules([gradtx.constant_schedule(0.0), gradtx.linear_schedule(0.0, 4.0, 4)], [2.0**24])
    at = jax.jit(lambda schedule, count: schedule(count))
    assert [float(at(schedule, 2**24 + k)) for k in range(5)] == [0.0, 1.0, 2.0, 3.0, 4.0]
    slope = jax.jit(jax.grad(lambda schedule: schedule(2**24 + 1)))(schedule)
    assert slope.boundaries == (-1.0,)


def test_schedule_of_a_large_count():
    for case in CASES:
        assert np.isfinite(jax.jit(case.ours(**case.arguments))(jnp.iinfo(jnp.int32).max)), case.name


def test_the_rate_of_a_step_and_current():
    tx = gradtx.sgd(gradtx.linear_schedule(1.0, 0.0, 4))
    state, seen = tx.init(jnp.zeros(())), []
    for _ in range(6):
        announced = gradtx.current(tx, state)["learning_rate"]
        update, state = tx.update(jnp.ones(()), state)
        assert update == -announced
        seen.append(float(announced))
    assert seen == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]


@pytest.mark.parametrize("count", [2**31, 2**40, np.int64(2**40)])
def test_steps_beyond_32_bits(count: Any) -> None:
    schedule = gradtx.exponential_decay(1.0, 2.0**40, 0.5)
    assert float(schedule(count)) == pytest.approx(0.5 ** (int(count) / 2**40))


def test_at_is_there_for_schedules_that_wrap_others() -> None:
    """Whichever of its two forms a schedule is written in."""

    class halved(gradtx.Schedule):
        inner: gradtx.Schedule

        def at(self, step: jax.Array) -> Any:
            return self.inner.at(step) / 2

    rates = (
        gradtx.linear_schedule(1.0, 0.0, 10),
        gradtx.exponential_decay(1.0, 10, 0.5, staircase=True),
        gradtx.cosine_decay_schedule(1.0, 10),
        gradtx.piecewise_constant_schedule(1.0, {3: 0.5}),
        gradtx.join_schedules([gradtx.linear_schedule(1.0, 0.0, 4), 0.2], [4]),
        gradtx.constant_schedule(0.3),
    )
    for rate in rates:
        for count in (0, 3, 7, 20):
            assert float(halved(rate)(count)) == pytest.approx(float(rate(count)) / 2, rel=1e-6)
