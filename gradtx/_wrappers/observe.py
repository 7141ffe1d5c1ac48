r"""Scalars for a log: norms of gradients, updates and parameters, their ratios, and what hyperparameters were."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._core.contract import GradientTransformation, Stateless
from .._core.fields import Positive
from .._core.paths import shortest_names
from .._manual_axes import vary_with
from .._maths import abs_sq, safe_divisor, safe_increment, safe_sqrt
from .._rules import Rule, as_rule, first_match
from .._trees.checks import aligned, check_rank
from .._trees.precision import in_precision, step_dtype
from .._types import Count, Number, OptState, Params, Updates

_NOBODY = -1
"""The group of parameters that are in none."""


class Norms(NamedTuple):
    """Norms over a group of parameters."""

    grad: jax.Array
    """That of the updates that came in."""
    update: jax.Array
    """That of the updates that went out."""
    param: jax.Array
    """That of the parameters before the step; NaN where `update` was not given them."""

    def named(self, prefix: str = "") -> dict[str, jax.Array]:
        """The norms and their ratios, by name."""
        return {
            f"{prefix}grad_norm": self.grad,
            f"{prefix}update_norm": self.update,
            f"{prefix}param_norm": self.param,
            f"{prefix}update_ratio": self.update / safe_divisor(self.param),
            f"{prefix}effective_rate": self.update / safe_divisor(self.grad),
        }


class Measured(NamedTuple):
    """What a measurement changes of the state."""

    times: Count
    """Number of measurements."""
    skipped: Count
    """Number of updates among them that were 0 though the gradient was not."""
    shortened: Count | None
    """Number of those that came out shorter than they went in; `None` unless what is observed is stateless."""
    total: Norms
    """Norms over all parameters."""
    groups: dict[str, Norms]
    """Norms over each group."""

    @property
    def shares(self) -> dict[str, jax.Array]:
        """The counts as shares of all measurements."""
        times = jnp.maximum(jnp.asarray(self.times), 1).astype(self.total.grad.dtype)
        counts = {"skip_fraction": self.skipped, "clip_fraction": self.shortened}
        return {name: jnp.asarray(n).astype(times.dtype) / times for name, n in counts.items() if n is not None}


class ObserveState(NamedTuple):
    """State of `observe`."""

    inner_state: OptState
    """State of what is observed."""
    count: Count
    """Number of updates."""
    measured: Measured
    """Norms and counts."""
    hyperparams: dict[str, jax.Array]
    """What the last update used of each hyperparameter that may be a schedule."""

    def _report(self) -> dict[str, Any]:
        scalars = {**self.measured.total.named(), **self.hyperparams, **self.measured.shares}
        for group, norms in self.measured.groups.items():
            scalars |= norms.named(f"{group}.")
        return scalars


@functools.partial(jax.jit, static_argnames="dtype")
def _sums_of_squares(leaves: tuple[Any, ...], dtype: np.dtype) -> jax.Array:
    """One sum for each leaf of a parameter; 0 for one that is `None`."""

    def total(leaf: jax.Array | None) -> jax.Array:
        if leaf is None:
            return jnp.zeros([], dtype)
        squares = abs_sq(leaf.astype(in_precision(np.dtype(leaf.dtype), dtype)))
        # First over all axes but the last: XLA adds rows to each other in vectors, and the entries of one row it adds
        # one by one, which takes twice as long on a CPU.
        return jnp.sum(jnp.sum(squares, axis=tuple(range(squares.ndim - 1))))

    return jnp.stack([total(leaf) for leaf in leaves])


@functools.partial(jax.jit, static_argnames=("groups", "has_params"))
def _measure(before: Measured, rows: tuple[Any, ...], groups: tuple[int, ...], has_params: bool) -> Measured:
    dtype = np.dtype(before.total.grad.dtype)
    sums = [_sums_of_squares(row, dtype) for row in rows]

    def norms(some: list[jax.Array]) -> Norms:
        grad, update, param = safe_sqrt(sum(some, start=jnp.zeros([3], dtype)))
        return Norms(grad, update, param if has_params else jnp.full([], np.nan, dtype))

    def counted(count: Count | None, happened: jax.Array) -> Any:
        return None if count is None else jnp.where(happened, safe_increment(count), count)

    total = norms(sums)
    of_groups = {
        name: norms([each for each, group in zip(sums, groups, strict=True) if group == i])
        for i, name in enumerate(before.groups)
    }
    after = Measured(
        safe_increment(before.times),
        counted(before.skipped, (total.update == 0) & (total.grad != 0)),
        counted(before.shortened, total.update < total.grad),
        total,
        of_groups,
    )
    return vary_with(after, before)


@functools.partial(jax.jit, static_argnames=("groups", "has_params"))
def _measure_if_due(
    count: Count, every: Number, before: Measured, rows: tuple[Any, ...], groups: tuple[int, ...], has_params: bool
) -> Measured:
    every = jnp.maximum(jnp.round(jnp.asarray(every)), 1)
    due = jnp.asarray(count).astype(every.dtype) % every == 0
    return jax.lax.cond(due, lambda: _measure(before, rows, groups, has_params), lambda: before)


class observe(GradientTransformation):
    r"""Keep scalars for a log of what a transformation does, without changing what it does.

    `gradtx.report(state)` returns, as arrays of rank 0:

    - `grad_norm`, `update_norm`, `param_norm`: $\lVert g_t\rVert$ of what came in, $\lVert u_t\rVert$ of what went
      out, $\lVert\theta_{t-1}\rVert$;
    - `update_ratio`, $\lVert u_t\rVert / \lVert\theta_{t-1}\rVert$, and `effective_rate`,
      $\lVert u_t\rVert / \lVert g_t\rVert$;
    - each of these for each group, with its name in front: `head.grad_norm`;
    - what the last update used of each hyperparameter that may be a schedule, as `current` names it: `learning_rate`;
    - `skip_fraction`, the share of steps so far whose updates were 0 though the gradient was not, and, around a
      transformation without a state, `clip_fraction`, the share whose updates were shorter than what came in:
      `chain(observe(clip_by_global_norm(1.0)), adam(1e-3))`.

    The state has these scalars and no history: its structure never changes, and `scan` and `vmap` stack it. A
    measurement reads gradients, updates and parameters once more: on a CPU a good part of the time of a step of Adam,
    which `every` spares.

    State: scalars, and the state of `inner`. Units: norms have those of what they are of. Norms are infinite above the
    root of the largest float (2e19 in float32).

    Args:
        inner: What to observe; extra arguments reach it whole.
        every: Steps from one measurement of norms to the next; a report then is of the last one.
        groups: Names of groups, each with a rule for its parameters as in `partition`: `{"head": "head/*"}`. A
            parameter is in the first group whose rule matches it, or in none. Its norms are in the total, too.

    Raises:
        ValueError: if `every` is not positive.
        TypeError: if `groups` is no mapping from names to rules.
    """

    inner: GradientTransformation
    every: Positive
    group_names: tuple[str, ...]
    group_rules: Annotated[tuple[Any, ...], "static"]

    def __init__(self, inner: object, every: Number = 1.0, groups: Mapping[str, Rule] | None = None) -> None:
        if not isinstance(groups, (Mapping, type(None))) or not all(isinstance(name, str) for name in groups or ()):
            raise TypeError(f"observe: groups are names with rules, {{'head': 'head/*'}}; got {groups!r}")
        names, rules = tuple(groups or ()), tuple((groups or {}).values())
        for rule in rules:
            as_rule("observe", rule)
        self._set_fields(inner=inner, every=every, group_names=names, group_rules=rules)

    def init(self, params: Params) -> ObserveState:
        dtype, inner_state = step_dtype(params), self.inner.init(params)

        def count() -> jax.Array:
            return jnp.zeros([], jnp.int32)

        def norms() -> Norms:
            return Norms(*(jnp.zeros([], dtype) for _ in Norms._fields))

        shortened = count() if isinstance(self.inner, Stateless) else None
        measured = Measured(count(), count(), shortened, norms(), {name: norms() for name in self.group_names})
        # Inside `jax.shard_map` norms vary over devices as the parameters do.
        measured = vary_with(measured, params)
        return ObserveState(inner_state, count(), measured, self._hyperparams(inner_state, dtype))

    def update(
        self, updates: Updates, state: ObserveState, params: Params | None = None, **extra: object
    ) -> tuple[Updates, ObserveState]:
        new, inner_state = self.inner.update(updates, state.inner_state, params, **extra)
        known = updates if params is None else params
        _, rows, _ = aligned(("updates", "the new updates", "params"), (updates, new, known), 0)
        labels = iter(jax.tree.leaves(first_match("observe", self.group_rules, known, _NOBODY)))
        groups = tuple(_NOBODY if row[2] is None else next(labels) for row in rows)
        with_rows = (state.measured, tuple(rows), groups, params is not None)
        check_rank("every", self.every)
        # The most frequent case, whose program needs no branch.
        always = type(self.every) is float and self.every <= 1
        measured = _measure(*with_rows) if always else _measure_if_due(state.count, self.every, *with_rows)
        hyperparams = self._hyperparams(state.inner_state, np.dtype(measured.total.grad.dtype))
        return new, ObserveState(inner_state, safe_increment(state.count), measured, hyperparams)

    def _shown(self) -> list[str]:
        shown = super()._shown()[:2]
        groups = dict(zip(self.group_names, self.group_rules, strict=True))
        return [*shown, f"groups={groups!r}"] if groups else shown

    def _hyperparams(self, inner_state: OptState, dtype: np.dtype) -> dict[str, jax.Array]:
        reports = self.inner._scheduled(inner_state)
        names = shortest_names([path for path, _ in reports])
        return {name: jnp.array(value, dtype) for name, (_, value) in zip(names, reports, strict=True)}
