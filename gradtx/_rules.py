"""Rules that say which parameters something applies to: data that a configuration can save."""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

from ._core.data import PyTreeNode
from ._types import Params, PyTree

Rule: TypeAlias = str | re.Pattern[str] | Callable[[Any], Any]
"""A pattern of `by_path`, or a function from parameters to a tree of bools like them (the classes below make such)."""


class _OfLeaves:
    """A rule that looks at one leaf at a time."""

    def holds(self, path: str, leaf: PyTree) -> bool:
        """Whether it matches a leaf."""
        raise NotImplementedError(f"{type(self).__name__} has no method `holds(self, path, leaf)`")

    def __call__(self, params: Params) -> PyTree:
        """A bool for each parameter."""
        structure = jax.tree.structure(params)
        return structure.unflatten([self.holds(path, leaf) for path, leaf in named_leaves(params)])


class by_rank(_OfLeaves, PyTreeNode):
    """Parameters with at least `min_rank` axes: 2 for kernels and not biases, scales or other vectors.

    >>> import jax.numpy as jnp, gradtx
    >>> gradtx.by_rank(2)({"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)})
    {'bias': False, 'kernel': True}

    Args:
        min_rank: The least number of axes.
    """

    min_rank: int

    def holds(self, path: str, leaf: PyTree) -> bool:
        """Whether the leaf has at least `min_rank` axes."""
        return np.ndim(leaf) >= self.min_rank


class by_path(_OfLeaves, PyTreeNode):
    """Parameters whose path matches one of some patterns: `by_path("*/kernel", re.compile("^head/"))`.

    A path is its keys, names and positions, joined by `/`: `encoder/layers/0/kernel`. Flax's boxes (an `nnx.Param`,
    Linen's `Partitioned`) add nothing to it, so that a rule means the same for an `nnx.State` and for its pure dict.

    >>> import jax.numpy as jnp, gradtx
    >>> gradtx.by_path("*kernel")({"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)})
    {'bias': False, 'kernel': True}

    Args:
        patterns: A `str` has to match the whole path as a shell pattern (`fnmatch`), with `*`, `?` and `[...]`; a `*`
            matches `/` too, and case matters. A compiled regular expression may match anywhere in the path; `^` and
            `$` are its ends.

    Raises:
        TypeError: if a pattern is neither.
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

    def holds(self, path: str, leaf: PyTree) -> bool:
        """Whether one of the patterns matches the path."""
        return any(
            fnmatch.fnmatchcase(path, pattern) if isinstance(pattern, str) else pattern.search(path) is not None
            for pattern in self.patterns
        )

    def _shown(self) -> list[str]:
        return [repr(pattern) for pattern in self.patterns]


class by_rule(_OfLeaves, PyTreeNode):
    """Parameters that a function of path and leaf selects: `by_rule(lambda path, leaf: leaf.size < 4096)`.

    Args:
        predicate: A function `(path, leaf) -> bool`; the path is as in `by_path`; the leaf is an array, a tracer or a
            `ShapeDtypeStruct`, so look at its shape and dtype and not at its values.

    Raises:
        TypeError: if `predicate` cannot be called.
    """

    predicate: Callable[[str, Any], bool]

    def __check_init__(self) -> None:
        if not callable(self.predicate):
            raise TypeError(f"by_rule takes a function (path, leaf) -> bool, got {self.predicate!r}")

    def holds(self, path: str, leaf: PyTree) -> bool:
        """Whether the function selects the leaf."""
        return bool(self.predicate(path, leaf))


def path_name(path: Any) -> str:
    """A key path of JAX in the form that rules match: `encoder/layers/0/kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def named_leaves(params: Params) -> list[tuple[str, Any]]:
    """Each leaf with its path as rules see it, in the order of `jax.tree.leaves`."""
    found = []
    for path, node in jax.tree.leaves_with_path(params, is_leaf=is_box):
        # The first key inside a box, `value`, is the box's own.
        inside = jax.tree.leaves_with_path(node) if is_box(node) else [(((),), node)]
        found += [(path_name((*path, *keys[1:])), leaf) for keys, leaf in inside]
    return found


def is_box(node: object) -> bool:
    """Whether it is one of Flax's variables or boxes, a tree with an array inside."""
    return _boxes(type(node))


@functools.cache
def _boxes(cls: type) -> bool:
    # `nnx.Optimizer` hands variables to `init`, and to `update` what is in them. Flax need not be installed.
    return any(base.__module__.startswith("flax.") and base.__name__ in _BOXES for base in cls.__mro__)


_BOXES = ("Variable", "AxisMetadata")


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
    leaves = named_leaves(params)
    columns = [_column(owner, as_rule(owner, rule), params, leaves) for rule in rules]
    found = [next((i for i, holds in enumerate(columns) if holds(j)), default) for j in range(len(leaves))]
    missed = [path for (path, _), position in zip(leaves, found, strict=True) if position is None]
    if missed:
        raise ValueError(
            f"{owner}: no rule matches {', '.join(path or repr(path) for path in missed)}; the rules are "
            f"{', '.join(map(repr, rules)) or 'none'}. Add one for them, or '*' as the last, which matches all"
        )
    return jax.tree.structure(params).unflatten(found)


def _column(
    owner: str, rule: Callable[[Any], Any], params: Params, leaves: Sequence[tuple[str, Any]]
) -> Callable[[int], bool]:
    """A function that says whether a rule matches the leaf at a position."""
    if isinstance(rule, _OfLeaves):  # asked only for what no earlier rule has
        return lambda place: rule.holds(*leaves[place])
    answers = jax.tree.leaves(rule(params))
    if len(answers) != len(leaves):
        raise ValueError(f"{owner}: the rule {rule!r} gave {len(answers)} answers for {len(leaves)} parameters")
    return lambda place: bool(answers[place])


def as_rule(owner: str, rule: object) -> Callable[[Any], Any]:
    """A rule as a function from parameters to bools. Raises TypeError for anything else."""
    if isinstance(rule, (str, re.Pattern)):
        return by_path(rule)
    if not callable(rule) or isinstance(rule, type):
        raise TypeError(f"{owner}: a rule is a pattern like '*/kernel', gradtx.by_rank(2) or a function; got {rule!r}")
    return rule


def names_of(keys: Sequence[object]) -> tuple[str, ...]:
    """A readable name for each label or rule, unique among them: itself, or its pattern."""
    names: list[str] = []
    for key in keys:
        plain = key.pattern if isinstance(key, re.Pattern) else getattr(key, "__qualname__", None) or str(key)
        name, number = str(plain), 2
        while name in names:
            name, number = f"{plain} ({number})", number + 1
        names.append(name)
    return tuple(names)
