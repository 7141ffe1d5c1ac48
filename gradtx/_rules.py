"""Rules that say which parameters something applies to: data that a configuration can save."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

from ._core.data import PyTreeNode
from ._types import Params, PyTree

Rule: TypeAlias = str | re.Pattern[str] | Callable[[Any], Any]
"""A pattern of `by_path`, or a function from parameters to a tree of bools like them (the classes here are such)."""


class by_rank(PyTreeNode):
    """Parameters with at least `min_rank` axes: 2 for kernels and not biases, scales or other vectors.

    >>> import jax.numpy as jnp, gradtx
    >>> gradtx.by_rank(2)({"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)})
    {'bias': False, 'kernel': True}

    Args:
        min_rank: The least number of axes.
    """

    min_rank: int

    def __call__(self, params: Params) -> PyTree:
        """A bool for each parameter."""
        return jax.tree.map(lambda leaf: np.ndim(leaf) >= self.min_rank, params)


class by_path(PyTreeNode):
    """Parameters whose path matches one of some patterns: `by_path("*/kernel", re.compile("^head/"))`.

    A path is its keys, names and positions, joined by `/`: `encoder/layers/0/kernel`.

    >>> import jax.numpy as jnp, gradtx
    >>> gradtx.by_path("*kernel")({"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)})
    {'bias': False, 'kernel': True}

    Args:
        patterns: A `str` is a pattern as of file names, with `*`, `?` and `[...]`, of the whole path; a `*` matches
            `/` too, and matching minds the case. A compiled regular expression may match anywhere in the path; `^`
            and `$` are its ends.
    """

    patterns: tuple[str | re.Pattern[str], ...]

    def __init__(self, *patterns: str | re.Pattern[str]) -> None:
        self._set_fields(patterns=patterns)

    def __check_init__(self) -> None:
        for pattern in self.patterns:
            if not isinstance(pattern, (str, re.Pattern)) or (
                isinstance(pattern, re.Pattern) and not isinstance(pattern.pattern, str)
            ):
                raise TypeError(
                    "by_path: a pattern must be a str like '*/kernel' or a compiled regular expression of one, got "
                    f"{pattern!r}"
                )

    def __call__(self, params: Params) -> PyTree:
        """A bool for each parameter."""
        return jax.tree.map_with_path(lambda path, _: self.matches(path_name(path)), params)

    def matches(self, name: str) -> bool:
        """Whether one of the patterns matches a path."""
        return any(
            fnmatch.fnmatchcase(name, pattern) if isinstance(pattern, str) else pattern.search(name) is not None
            for pattern in self.patterns
        )

    def _shown(self) -> list[str]:
        return [repr(pattern) for pattern in self.patterns]


class by_rule(PyTreeNode):
    """Parameters of which a function of path and leaf says so: `by_rule(lambda path, leaf: leaf.size < 4096)`.

    Args:
        predicate: A function `(path, leaf) -> bool`; the path is as in `by_path`, the leaf an array, a tracer or a
            `ShapeDtypeStruct`, of which it may ask shape and dtype.
    """

    predicate: Callable[[str, Any], bool]

    def __check_init__(self) -> None:
        if not callable(self.predicate):
            raise TypeError(f"by_rule takes a function (path, leaf) -> bool, got {self.predicate!r}")

    def __call__(self, params: Params) -> PyTree:
        """A bool for each parameter."""
        return jax.tree.map_with_path(lambda path, leaf: bool(self.predicate(path_name(path), leaf)), params)


def path_name(path: Any) -> str:
    """A path of JAX's as rules see it: `encoder/layers/0/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def first_match(owner: str, rules: Sequence[object], params: Params, default: int | None = None) -> PyTree:
    """For each parameter the position of the first rule that matches it.

    Args:
        owner: What messages begin with.
        rules: In order of precedence.
        params: The parameters, or a tree of their structure and shapes.
        default: The position for what no rule matches.

    Raises:
        ValueError: if no rule matches a parameter and there is no default; all such parameters are listed.
    """
    chosen = [jax.tree.leaves(as_rule(owner, rule)(params)) for rule in rules]
    paths, structure = jax.tree.flatten_with_path(params)
    for rule, answers in zip(rules, chosen, strict=True):
        if len(answers) != len(paths):
            raise ValueError(f"{owner}: the rule {rule!r} gave {len(answers)} answers for {len(paths)} parameters")
    rows = zip(*chosen, strict=True) if chosen else [()] * len(paths)
    found = [next((i for i, matches in enumerate(row) if matches), default) for row in rows]
    missed = [path_name(path) for (path, _), position in zip(paths, found, strict=True) if position is None]
    if missed:
        raise ValueError(
            f"{owner}: no rule matches {', '.join(missed)}; the rules are {', '.join(map(repr, rules)) or 'none'}. "
            "Add one for them, or '*' as the last, which matches all"
        )
    return structure.unflatten(found)


def as_rule(owner: str, rule: object) -> Callable[[Any], Any]:
    """A rule as a function from parameters to bools. Raises TypeError for what is none."""
    if isinstance(rule, (str, re.Pattern)):
        return by_path(rule)
    if not callable(rule) or isinstance(rule, type):
        raise TypeError(f"{owner}: a rule is a pattern like '*/kernel', gradtx.by_rank(2) or a function; got {rule!r}")
    return rule
