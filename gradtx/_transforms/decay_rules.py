"""A weight decay for each group of parameters, by rules that a configuration can save."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from .._core.data import PyTreeNode
from .._core.fields import Range, Static, read
from .._core.schedule import ScalarOrSchedule
from .._rules import as_rule, first_match
from .._types import Params, PyTree

RANGE = Range("a finite number >= 0", low=0.0)
Decay: TypeAlias = Annotated[ScalarOrSchedule, "data", RANGE]


class DecayRules(PyTreeNode):
    """A dict `{rule: weight_decay}` in its order: a parameter has that of the first rule which matches it.

    JAX sorts the keys of a dict, and the order of rules has a meaning; so they are static here and the numbers data.
    """

    describes = "a dict of weight decays by rule"

    rules: tuple[Static, ...]
    values: tuple[Decay, ...]

    @classmethod
    def coerce(cls, value: object) -> DecayRules | None:
        """A mapping as rules; `None` for anything else."""
        if not isinstance(value, Mapping):
            return None
        spec = read(Decay)
        return cls(tuple(value), tuple(spec.take(v, f"`weight_decay`[{rule!r}]", True) for rule, v in value.items()))

    def __check_init__(self) -> None:
        for rule in self.rules:
            as_rule("weight_decay", rule)
        names = [_name(rule) for rule in self.rules]
        if len(names) != len(self.values) or len(set(names)) < len(names):
            raise ValueError(f"weight_decay: expected a value for each of several different rules, got {self!r}")

    def labels(self, params: Params) -> PyTree:
        """For each parameter the position of its rule. Raises ValueError for one that no rule matches."""
        return first_match("weight_decay", self.rules, params)

    def _items(self) -> dict[str, Any]:
        return dict(zip(map(_name, self.rules), self.values, strict=True))

    def _with_items(self, changes: Mapping[str, Any]) -> DecayRules:
        return self._make({"rules": self.rules, "values": tuple({**self._items(), **changes}.values())})

    def __repr__(self) -> str:
        return repr(dict(zip(self.rules, self.values, strict=False)))


def _name(rule: Any) -> str:
    """What a path of `replace` calls a rule."""
    return rule.pattern if isinstance(rule, re.Pattern) else rule if isinstance(rule, str) else repr(rule)
