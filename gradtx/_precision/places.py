"""Which leaves of a state a rule means, and states with some leaves encoded."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._core.contract import GradientTransformation
from .._core.paths import Path
from .._rules import Rule, as_rule, by_path, path_name
from .._types import OptState, PyTree

Encode = Callable[[jax.Array], Any]


def is_encoded(node: object) -> bool:
    """Whether a node of a state is an encoded leaf: a NamedTuple that decodes itself."""
    return isinstance(node, tuple) and callable(getattr(node, "decode", None))


def decoded(state: OptState) -> OptState:
    """The state with encoded leaves decoded. A tree of that structure whose leaves are not arrays stays as it is."""
    return jax.tree.map(
        lambda node: node.decode() if is_encoded(node) and hasattr(node[0], "dtype") else node,
        state,
        is_leaf=is_encoded,
    )


def encoded_as(state: OptState, like: OptState) -> OptState:
    """A state without encoded leaves, encoded in the places where `like` is."""
    codes, structure = jax.tree.flatten(like, is_leaf=is_encoded)
    leaves = jax.tree.leaves(state)
    return structure.unflatten(
        code.another(leaf) if is_encoded(code) else leaf for code, leaf in zip(codes, leaves, strict=True)
    )


def encoded(state: OptState, codecs: Sequence[Encode | None], old: tuple[OptState, OptState] | None = None) -> OptState:
    """The state with some leaves encoded.

    Args:
        state: What the transformation returned. A leaf that a codec inside of it has encoded counts as one.
        codecs: One for each leaf, or `None`.
        old: The state before, encoded, and decoded. A leaf that is still the one that was decoded was left alone (it
            has no gradient), and so is its code.
    """
    leaves, structure = jax.tree.flatten(state, is_leaf=is_encoded)
    before: list[Any] = [None] * len(leaves)
    if old is None:
        # A new state is mostly zeros, and XLA would work their code out, entry by entry, while it compiles.
        leaves = [
            leaf if codec is None else jax.lax.optimization_barrier(leaf)
            for leaf, codec in zip(leaves, codecs, strict=True)
        ]
    else:
        rows = (jax.tree.leaves(old[0], is_leaf=is_encoded), jax.tree.leaves(old[1]))
        # Around another codec `old` is decoded already; then there is no code to keep.
        before = [
            code if leaf is was and is_encoded(code) else None for code, was, leaf in zip(*rows, leaves, strict=True)
        ]
    return structure.unflatten(
        leaf if codec is None else codec(leaf) if code is None else code
        for leaf, codec, code in zip(leaves, codecs, before, strict=True)
    )


def chosen(owner: str, rules: tuple[tuple[Rule, np.dtype | None], ...], state: OptState) -> list[np.dtype | None]:
    """For each leaf of a state the dtype of the first rule that matches it; `None` where there is none.

    Only floating leaves with an axis have one: counts, keys and scalars stay as they are, and so does what a codec
    inside has encoded.
    """
    paths = jax.tree.leaves_with_path(_of_leaf_shapes(state))
    answers = [_matches(owner, rule, _of_leaf_shapes(state), [path for path, _ in paths]) for rule, _ in rules]
    found = []
    for i, leaf in enumerate(jax.tree.leaves(state, is_leaf=is_encoded)):
        dtype = next((dtype for (_, dtype), matches in zip(rules, answers, strict=True) if matches[i]), None)
        has_one = not is_encoded(leaf) and jnp.issubdtype(jnp.result_type(leaf), jnp.floating) and np.ndim(leaf) > 0
        found.append(dtype if has_one else None)
    return found


def _of_leaf_shapes(state: OptState) -> OptState:
    """The state with an array of the leaf's shape in place of each encoded leaf."""
    return jax.tree.map(lambda node: node[0] if is_encoded(node) else node, state, is_leaf=is_encoded)


def _matches(owner: str, rule: Rule, state: OptState, paths: list[Any]) -> list[bool]:
    rule = as_rule(owner, rule)
    if not isinstance(rule, by_path):
        return [bool(matches) for matches in jax.tree.leaves(rule(state))]
    return [any(_one(pattern, path) for pattern in rule.patterns) for path in paths]


def _one(pattern: str | re.Pattern[str], path: Any) -> bool:
    """Whether a pattern matches the path of a leaf, or of a node above it."""
    whole = "/" + path_name(path)
    if isinstance(pattern, re.Pattern):
        return pattern.search(whole) is not None
    above = [whole[:i] for i in range(1, len(whole)) if whole[i] == "/"]
    return any(fnmatch.fnmatchcase(name, pattern) for name in (whole, *above))


def as_rules(take: Callable[[Any], np.dtype | None]) -> Callable[[Any], Any]:
    """A converter of a dtype, or of rules with a dtype each, to pairs of a rule and a dtype.

    Args:
        take: Makes a dtype of what is given for one, or raises TypeError.
    """

    def convert(value: Any) -> tuple[tuple[Any, np.dtype | None], ...]:
        if isinstance(value, Mapping):
            value = tuple(value.items())
        if not isinstance(value, (tuple, list)):
            return (("*", take(value)),)
        for pair in value:
            if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                raise TypeError(f"expected a dtype, or a dict of rules like {{'*/mu': 'bfloat16'}}, got {value!r}")
        for rule, _ in value:
            as_rule("rules of dtypes", rule)
        return tuple((rule, take(dtype)) for rule, dtype in value)

    return convert


def parts_inside(inner: GradientTransformation, state: Any) -> list[tuple[Path, GradientTransformation, Any]]:
    """What a wrapper's `_inside` returns, where `state.inner_state` has encoded leaves."""
    return [(("inner",), inner, None if state is None else decoded(state.inner_state))]


def kinds(state: PyTree) -> list[jax.ShapeDtypeStruct]:
    """Shape and dtype of each leaf; of an encoded one those of its codes."""
    leaves = jax.tree.leaves(_of_leaf_shapes(state))
    return [jax.ShapeDtypeStruct(np.shape(leaf), jnp.result_type(leaf)) for leaf in leaves]
