r"""Multiply updates by a factor that depends on the parameter: by rule, or by the depth of its layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, TypeAlias

import jax.numpy as jnp
from jax.typing import ArrayLike

from .._core.contract import EmptyState, GradientTransformation, Stateless
from .._core.fields import Range
from .._core.paths import Path
from .._core.schedule import ScalarOrSchedule, value_at
from .._core.values import show
from .._maths import safe_increment
from .._rules import as_rule, first_match, names_of
from .._trees.checks import check_rank
from .._trees.map import map_leaves, scaled
from .._trees.precision import scalar, step_dtype
from .._trees.select import merged, only
from .._types import Count, Number, OptState, Params, PyTree, Updates

Factor: TypeAlias = Annotated[ScalarOrSchedule, "data", Range("a finite number >= 0", low=0.0)]
LayerDecay: TypeAlias = Annotated[Number, "data", Range("in (0, 1]", low=0.0, high=1.0, low_open=True, high_open=False)]


class ScaleByRuleState(NamedTuple):
    """State of `scale_by_rule`, for constant factors too, so that there is one structure."""

    count: Count
    """Number of updates."""


class scale_by_rule(GradientTransformation):
    r"""Multiply each update by the factor of the first rule that matches its parameter: $u_t = s_{r}(t)\,g_t$.

        gradtx.chain(gradtx.adamw(1e-3), gradtx.scale_by_rule({"head/*": 10.0, "*": 1.0}))

    Behind an optimizer it multiplies the learning rate; the factors are data, so that they can be swept. Behind
    `adamw` it multiplies the weight decay as well, as a rate does.

    State: `count`, int32. Units: as the updates. Keeps their sign.

    Args:
        factors: A number >= 0 or a schedule for each rule, in order of precedence. Rules are as in `partition`.

    Raises:
        TypeError: if a key is no rule.
        ValueError: if a factor is negative; from `init`, if no rule matches a parameter: all such are listed.
    """

    factors: tuple[Factor, ...]
    rules: Annotated[tuple[Any, ...], "static"]

    def __init__(self, factors: Mapping[Any, Any]) -> None:
        if not isinstance(factors, Mapping):
            raise TypeError(f"scale_by_rule takes a dict of factors by rule, got {factors!r}")
        self._set_fields(factors=tuple(factors.values()), rules=tuple(factors))

    def __check_init__(self) -> None:
        if not self.rules or len(self.rules) != len(self.factors):
            raise ValueError(
                f"scale_by_rule needs a factor for each rule, and one rule: got {len(self.factors)} factors for "
                f"{len(self.rules)} rules"
            )
        for rule in self.rules:
            as_rule("scale_by_rule", rule)

    def init(self, params: Params) -> ScaleByRuleState:
        first_match("scale_by_rule", self.rules, params)
        return ScaleByRuleState(jnp.zeros([], jnp.int32))

    def update(
        self, updates: Updates, state: ScaleByRuleState, params: Params | None = None
    ) -> tuple[Updates, ScaleByRuleState]:
        dtype = step_dtype(updates)
        factors = [value_at(name, factor, state.count, dtype) for name, factor in self._items().items()]
        groups = first_match("scale_by_rule", self.rules, updates if params is None else params)
        return _multiplied(updates, groups, factors), ScaleByRuleState(safe_increment(state.count))

    def _scheduled(self, state: OptState) -> list[tuple[Path, ArrayLike]]:
        dtype = jnp.result_type(float)
        return [((name,), value_at(name, factor, state.count, dtype)) for name, factor in self._items().items()]

    def _items(self) -> dict[str, Any]:
        return dict(zip(names_of(self.rules), self.factors, strict=True))

    def _with_items(self, changes: Mapping[str, Any]) -> Any:
        return type(self)._make({**self._values(), "factors": tuple({**self._items(), **changes}.values())})

    def _divided(self, params: Params) -> Iterator[tuple[str, str, Params]]:
        """The parameters of each rule, for `describe`."""
        groups = first_match("scale_by_rule", self.rules, params)
        for i, (name, factor) in enumerate(self._items().items()):
            yield name, f"times {show(factor)}", only("params", params, groups, i)

    def _shown(self) -> list[str]:
        pairs = zip(self.rules, self.factors, strict=True)
        return [f"{{{', '.join(f'{rule!r}: {show(factor)}' for rule, factor in pairs)}}}"]


class layerwise_decay(Stateless):
    r"""Multiply updates by a factor that decays from the last layer to the first.

    $$u_t = \delta^{n-1-i}\,g_t \quad\text{for layer } i = 0, \dots, n-1$$

        layers = ["embed/*", *(f"blocks/{i}/*" for i in range(12)), "head/*"]
        gradtx.chain(gradtx.adamw(1e-3), gradtx.layerwise_decay(0.75, layers))

    The last layer has the factor 1. For fine-tuning: what early layers have learned is moved less.

    State: `EmptyState()`. Units: as the updates. Keeps their sign.

    Args:
        decay: delta, in (0, 1].
        layers: A rule for each layer, from the input to the output, as in `partition`; the first that matches a
            parameter is its layer. `by_path("embed/*", "pos_embed")` makes one layer of two places.

    Raises:
        TypeError: if a layer is no rule.
        ValueError: if `decay` is outside (0, 1]; from `init`, if no rule matches a parameter: all such are listed.

    Source: Clark et al., 2020 (ELECTRA); Bao et al., 2021 (BEiT).
    """

    decay: LayerDecay
    layers: Annotated[Sequence[Any], "static"]

    def __check_init__(self) -> None:
        if not self.layers or not isinstance(self.layers, tuple):
            raise ValueError(f"layerwise_decay needs a rule for each layer, got {self.layers!r}")
        for rule in self.layers:
            as_rule("layerwise_decay", rule)

    def init(self, params: Params) -> EmptyState:
        """`EmptyState()`."""
        first_match("layerwise_decay", self.layers, params)
        return EmptyState()

    def update(self, updates: Updates, state: EmptyState, params: Params | None = None) -> tuple[Updates, EmptyState]:
        decay, last = scalar(self.decay, step_dtype(updates)), len(self.layers) - 1
        check_rank("decay", decay)
        groups = first_match("layerwise_decay", self.layers, updates if params is None else params)
        return _multiplied(updates, groups, [decay ** (last - i) for i in range(len(self.layers))]), state

    def _divided(self, params: Params) -> Iterator[tuple[str, str, Params]]:
        """The parameters of each layer, for `describe`."""
        groups = first_match("layerwise_decay", self.layers, params)
        for i, name in enumerate(names_of(self.layers)):
            power = len(self.layers) - 1 - i
            yield name, f"times {show(self.decay)}**{power}", only("params", params, groups, i)


def _multiplied(updates: Updates, groups: PyTree, factors: Sequence[ArrayLike]) -> Updates:
    """Each update times the factor whose position its group is."""
    parts = {
        i: map_leaves(scaled, {"updates": only("updates", updates, groups, i)}, factor=factor)
        for i, factor in enumerate(factors)
    }
    return merged(parts, groups)
