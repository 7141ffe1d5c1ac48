r"""Measurements of the updates at a place in a chain, kept in the state for a log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._core.contract import EmptyState, GradientTransformation
from .._core.data import PyTreeNode, roots
from .._core.fields import Decay, DType
from .._core.values import show
from .._rules import is_box
from .._trees.precision import widen
from .._trees.vectors import completed
from .._types import OptState, Params, PyTree, Updates
from .trace import ema


class Measure(PyTreeNode):
    """Something to measure of the updates: a function of them, or an average of such a function."""

    describes = "a function of the updates, gradtx.measure_with_ema(...), or a transformation"

    def init(self, params: Params) -> OptState:
        """What the measure remembers."""
        return EmptyState()

    def update(
        self, updates: Updates, state: OptState, params: Params | None = None, **extra: object
    ) -> tuple[PyTree, OptState]:
        """The measurement, and what to remember."""
        raise NotImplementedError(f"{type(self).__name__} has no method `update(self, updates, state, params=None)`")

    @classmethod
    def coerce(cls, value: object) -> Measure | None:
        """A function, or a transformation, as a measure; `None` for what is neither."""
        pair = value if isinstance(value, GradientTransformation) else GradientTransformation.coerce(value)
        if pair is not None:
            return _Transformed(pair)
        return _Plain(value) if callable(value) and not isinstance(value, (type, PyTreeNode)) else None


roots.append(Measure)


class _Plain(Measure):
    """A function of the updates."""

    measure: Callable

    def update(
        self, updates: Updates, state: OptState, params: Params | None = None, **extra: object
    ) -> tuple[PyTree, OptState]:
        return self.measure(updates), state


class _Transformed(Measure):
    """What a transformation makes of the updates."""

    transform: GradientTransformation

    def init(self, params: Params) -> OptState:
        return self.transform.init(params)

    def update(
        self, updates: Updates, state: OptState, params: Params | None = None, **extra: object
    ) -> tuple[PyTree, OptState]:
        return self.transform.update(updates, state, params, **extra)


class measure_with_ema(Measure):
    r"""A decaying average of a measurement, for `monitor`: $m_t = \rho m_{t-1} + (1-\rho) f(g_t)$.

    A measurement that is a bool counts as 0 or 1, and its average is how often it was true of late.

    State: that of `ema`, of the measurement's shape.

    Args:
        measure: f, a function of the updates that returns an array, or a tree of them.
        decay: rho, in [0, 1). Per step.
        debias: Whether to divide by the weight that the average has gathered.
        accumulator_dtype: The dtype of the average, in place of the measurement's.

    Raises:
        ValueError: if `decay` is outside [0, 1).
    """

    measure: Callable
    decay: Decay
    debias: bool = True
    accumulator_dtype: DType = None

    @property
    def _average(self) -> ema:
        return ema(self.decay, self.debias, self.accumulator_dtype)

    def _measured(self, updates: Updates) -> PyTree:
        def as_float(entry: ArrayLike) -> jax.Array:
            array = jnp.asarray(entry)
            inexact = jnp.issubdtype(array.dtype, jnp.inexact)
            return array if inexact else array.astype(jnp.result_type(float))

        return jax.tree.map(as_float, self.measure(updates))

    def init(self, params: Params) -> OptState:
        return self._average.init(self._measured(params))

    def update(
        self, updates: Updates, state: OptState, params: Params | None = None, **extra: object
    ) -> tuple[PyTree, OptState]:
        return self._average.update(self._measured(updates), state)


class SnapshotState(NamedTuple):
    """State of `snapshot`."""

    measurement: dict[str, PyTree]
    """The last measurement, by its name; 0 before the first update."""

    def _report(self) -> dict[str, Any]:
        return _scalars(self.measurement)


class MonitorState(NamedTuple):
    """State of `monitor`."""

    measurements: dict[str, PyTree]
    """The last measurements, by their names; 0 before the first update."""
    measure_states: tuple[OptState, ...]
    """What each measure remembers."""

    def _report(self) -> dict[str, Any]:
        return _scalars(self.measurements)


class monitor(GradientTransformation):
    """Measure the updates, and pass them on as they are.

        gradtx.chain(
            gradtx.monitor({
                "norm": gradtx.global_norm,
                "clipped": gradtx.measure_with_ema(lambda u: gradtx.global_norm(u) > 1.0, decay=0.9),
            }),
            gradtx.clip_by_global_norm(1.0),
            gradtx.adam(1e-3),
        )

    `gradtx.report(state)` returns each measurement that is one array, as it is; it leaves out trees of several.
    Half-precision updates are measured in float32.

    State: `measurements` and `measure_states`. Units: of what is measured.

    Args:
        measures: By name, a function of the updates, a `measure_with_ema`, or a transformation, whose updates are then
            the measurement.

    Raises:
        TypeError: if a measure is none of these.
        ValueError: from `update`, if a measurement has another structure, shape or dtype than at `init`.

    Differs: in optax the state's structure changes at the first update, which a `scan` refuses.
    """

    names: tuple[str, ...]
    measures: tuple[Measure, ...]

    def __init__(self, measures: Mapping[str, Any]) -> None:
        if not isinstance(measures, Mapping):
            raise TypeError(f"monitor takes measures by name, {{'norm': gradtx.global_norm}}; got {measures!r}")
        self._set_fields(names=tuple(measures), measures=tuple(measures.values()))

    def init(self, params: Params) -> MonitorState:
        wide = widen(params)
        states = tuple(measure.init(wide) for measure in self.measures)
        pairs = zip(self.names, self.measures, states, strict=True)
        return MonitorState(
            {name: _zeros(measure.update(wide, state, wide)[0]) for name, measure, state in pairs}, states
        )

    def update(
        self, updates: Updates, state: MonitorState, params: Params | None = None, **extra: object
    ) -> tuple[Updates, MonitorState]:
        wide, known, new = widen(updates), widen(params), {}
        states = []
        for name, measure, old in zip(self.names, self.measures, state.measure_states, strict=True):
            measured, after = measure.update(wide, old, known, **extra)
            new[name] = _kept("monitor", name, measured, state.measurements[name])
            states.append(after)
        return updates, MonitorState(new, tuple(states))

    def _shown(self) -> list[str]:
        shown = (
            m.measure if isinstance(m, _Plain) else m.transform if isinstance(m, _Transformed) else m
            for m in self.measures
        )
        return [f"{{{', '.join(f'{name!r}: {show(each)}' for name, each in zip(self.names, shown, strict=True))}}}"]


class snapshot(GradientTransformation):
    """Measure the updates once per step, under a name, and pass them on as they are.

    State: `measurement`. Units: of what is measured.

    Args:
        measure_name: What the measurement is called in the state and by `gradtx.report`.
        measure: A function of the updates that returns an array, or a tree of them.

    Raises:
        ValueError: from `update`, if the measurement has another structure, shape or dtype than at `init`.
    """

    measure_name: str
    measure: Callable

    def init(self, params: Params) -> SnapshotState:
        return SnapshotState({self.measure_name: _zeros(self.measure(widen(params)))})

    def update(
        self, updates: Updates, state: SnapshotState, params: Params | None = None
    ) -> tuple[Updates, SnapshotState]:
        old = state.measurement[self.measure_name]
        new = _kept("snapshot", self.measure_name, self.measure(widen(updates)), old)
        return updates, SnapshotState({self.measure_name: new})


def _zeros(measurement: PyTree) -> PyTree:
    # With a dtype, which makes it a strong one; and `zeros_like`, which keeps the sharding.
    return jax.tree.map(lambda leaf: jnp.zeros_like(leaf, dtype=jnp.result_type(leaf)), measurement)


def _kept(owner: str, name: str, measurement: PyTree, old: PyTree) -> PyTree:
    """A measurement as an entry of the state: arrays of its own, of the same kinds as before."""
    if jax.tree.structure(measurement) != jax.tree.structure(old):
        measurement = completed(measurement, old)  # updates that are `None` leave what was measured of them
    now, before = (jax.tree.map(lambda leaf: (jnp.shape(leaf), jnp.result_type(leaf)), t) for t in (measurement, old))
    if now != before:
        raise ValueError(f"{owner}: the measurement `{name}` is {now} at this update, and was {before} at init")
    return jax.tree.map(lambda leaf: jnp.array(leaf, dtype=jnp.result_type(leaf), copy=True), measurement)


def _scalars(measurements: dict[str, PyTree]) -> dict[str, Any]:
    # `nnx.Optimizer` keeps each array of a state in a variable.
    return {n: value for n, value in measurements.items() if is_box(value) or jax.tree_util.all_leaves([value])}
