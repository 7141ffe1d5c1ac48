"""Groups of parameters, each with a transformation of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import KW_ONLY
from typing import Annotated, Any, NamedTuple, TypeAlias

import jax

from .._core.contract import GradientTransformation
from .._core.paths import Path
from .._rules import as_rule, first_match, names_of
from .._trees.select import merged
from .._types import OptState, Params, PyTree, Updates
from .parts import Part

Labels: TypeAlias = Annotated[PyTree | Callable[[Any], Any] | None, "static"]
"""A tree of labels like the parameters or a prefix of it, or a function from parameters to one."""


class PartitionState(NamedTuple):
    """State of `partition`."""

    inner_states: dict[str, OptState]
    """The groups' states by name: each as for a tree with its own leaves only."""


class partition(GradientTransformation):
    r"""Give each group of parameters a transformation of its own.

        gradtx.partition({"*bias": gradtx.sgd(0.1), "embed/*": gradtx.freeze(), "*": gradtx.adamw(1e-3)})

    Without `param_labels` the keys are rules, and a parameter belongs to the first one that matches it. With them they
    are labels, as in optax. `gradtx.describe(tx, params)` prints which leaf goes where; a group may turn out empty.

    A group sees `None` in place of the others' leaves. So it has no state for them, and what looks across leaves (a
    global norm, a line search) sees the group alone. Extra arguments reach every group whole, with these exceptions:
    `grad` has the group's leaves; functions of the parameters (`value_fn`, `obj_fn`, `outputs_fn`, `grad_fn`) get the
    group's, completed by the current values of all others. A line search thus minimises along the group's own update,
    and knows nothing of the moves that other groups make in the same step.

    `tx["*bias"]` is the transformation of a group, and `tx.replace({"*bias.learning_rate": 0.2})` changes a number in
    it. `gradient_params` and `eval_params` of groups apply to their leaves.

    State: `PartitionState`, a dict of the groups' states. A name is the label, or the pattern; a number follows where
    two keys would have one name. Frozen parameters have none.
    Half precision is each group's own: `chain` widens, `partition` does not.

    Args:
        transforms: A transformation for each key, in order of precedence. As rules, keys are patterns of the path
            (`"*/kernel"`, or a compiled regular expression: see `by_path`), `by_rank(2)`, `by_path(...)`,
            `by_rule(...)`, or functions from parameters to a tree of bools.
        param_labels: A label for each parameter: a tree like the parameters or a prefix of it, or a function that
            makes one of the parameters (of the updates, where `update` gets no parameters).
        mask_compatible_extra_args: Whether any extra argument with the updates' structure has the group's leaves only,
            and not `grad` alone.

    Raises:
        TypeError: if a key is no rule, where there are no labels.
        ValueError: if there is no group; from `init`, if no rule matches a parameter, or its label is none of the keys.
            All such are listed.

    Differs from optax: rules as keys, and what is said above of extra arguments; optax hands them on uncut, so that
    `lbfgs` in a group fails. `None` marks absent leaves, and not a `MaskedNode`.
    """

    transforms: tuple[GradientTransformation, ...]
    groups: Annotated[tuple[Any, ...], "static"]
    param_labels: Labels = None
    _: KW_ONLY
    mask_compatible_extra_args: bool = False

    def __init__(
        self,
        transforms: Mapping[Any, Any],
        param_labels: PyTree | Callable[[Any], Any] | None = None,
        *,
        mask_compatible_extra_args: bool = False,
    ) -> None:
        if not isinstance(transforms, Mapping):
            raise TypeError(f"partition takes a dict of transformations by rule or label, got {transforms!r}")
        # JAX sorts the keys of a dict, and their order is that of precedence.
        self._set_fields(
            transforms=tuple(transforms.values()),
            groups=tuple(transforms),
            param_labels=param_labels,
            mask_compatible_extra_args=mask_compatible_extra_args,
        )

    def __check_init__(self) -> None:
        if not self.groups or len(self.groups) != len(self.transforms):
            raise ValueError(
                f"partition needs at least one group, and a rule or label for each: got {len(self.groups)} for "
                f"{len(self.transforms)} transformations"
            )
        if self.param_labels is None:
            for rule in self.groups:
                as_rule("partition", rule)

    def init(self, params: Params) -> PartitionState:
        states = {name: tx.init(part.of("params", params)) for name, tx, part in self._parts(params)}
        return PartitionState(states)

    def update(
        self, updates: Updates, state: PartitionState, params: Params | None = None, **extra: object
    ) -> tuple[Updates, PartitionState]:
        inner = self._unpacked(state)
        parts = self._parts(updates if params is None else params)
        made, states = {}, {}
        for name, tx, part in parts:
            made[part.label], states[name] = part.update(tx, updates, inner[name], params, extra)
        return merged(made, parts[0][2].labels), PartitionState(states)

    def _parts(self, tree: PyTree) -> list[tuple[str, GradientTransformation, Part]]:
        """Every group: its name, its transformation, and its leaves, by their positions as labels."""
        labels = self._positions(tree)
        return [
            (name, tx, Part(labels, i, self.mask_compatible_extra_args))
            for i, (name, tx) in enumerate(self._items().items())
        ]

    def _positions(self, tree: PyTree) -> PyTree:
        """For each leaf, which of the groups it belongs to."""
        if not jax.tree.leaves(tree):  # none: `optax.tree_map_params` has such a tree of its own
            return tree
        if self.param_labels is None:
            return first_match("partition", self.groups, tree)
        given = self.param_labels
        if callable(given) and not _holds_labels(given, self.groups):
            given = given(tree)
        return _found(given, self.groups, tree)

    def _unpacked(self, state: PartitionState) -> dict[str, OptState]:
        names = names_of(self.groups)
        if not isinstance(state.inner_states, Mapping) or set(state.inner_states) != set(names):
            raise TypeError(
                f"partition expected states for the groups {list(names)}, got {list(state.inner_states)}. Make it with "
                "tx.init(params)"
            )
        return dict(state.inner_states)

    def _delegate(self, method: str, params: Params, state: OptState) -> Params:
        if not any(tx._defines(method) for tx in self.transforms):
            return params
        inner, parts = self._unpacked(state), self._parts(params)
        points = {part.label: part.point(method, tx, params, inner[name]) for name, tx, part in parts}
        return merged(points, parts[0][2].labels)

    def _divided(self, params: Params) -> Iterator[tuple[str, GradientTransformation, Params]]:
        """Each group with its leaves, for `describe`."""
        for name, tx, part in self._parts(params):
            yield name, tx, part.of("params", params)

    def _inside(self, state: OptState) -> list[tuple[Path, GradientTransformation, Any]]:
        inner = {} if state is None else self._unpacked(state)
        return [((name,), tx, inner.get(name)) for name, tx in self._items().items()]

    def _items(self) -> dict[str, Any]:
        return dict(zip(names_of(self.groups), self.transforms, strict=True))

    def _with_items(self, changes: Mapping[str, Any]) -> Any:
        items = {**self._items(), **changes}
        return type(self)._make({**self._values(), "transforms": tuple(items.values())})

    def __getitem__(self, key: Any) -> GradientTransformation:
        """The transformation of a group, by its label or rule, or by its name in the state."""
        items = self._items()
        if key in self.groups:
            return self.transforms[self.groups.index(key)]
        if key in items:
            return items[key]
        raise KeyError(f"partition has no group {key!r}; it has {', '.join(map(repr, self.groups))}")

    def _shown(self) -> list[str]:
        groups = ", ".join(f"{key!r}: {tx!r}" for key, tx in zip(self.groups, self.transforms, strict=True))
        return [f"{{{groups}}}", *super()._shown()[2:]]


multi_transform = partition
"""optax's older name of it."""


def _holds_labels(tree: object, groups: tuple[Any, ...]) -> bool:
    """Whether it is a tree of labels. A module of them can be called, and is not meant to be."""
    return any(_place(leaf, groups) is not None for leaf in jax.tree.leaves(tree))


def _place(label: object, groups: tuple[Any, ...]) -> int | None:
    # An array compares with a label to an array.
    return groups.index(label) if not hasattr(label, "shape") and label in groups else None


def _found(labels: PyTree, groups: tuple[Any, ...], tree: PyTree) -> PyTree:
    """The groups' positions for a tree of labels or a prefix of one."""
    try:
        spread = jax.tree.map(lambda label, part: jax.tree.map(lambda _: label, part), labels, tree)
    except ValueError as error:
        raise ValueError(
            f"partition: the labels do not fit the tree: expected labels like {jax.tree.structure(tree)} or a prefix "
            f"of it, got {labels!r} ({error})"
        ) from None
    wrong = [(path, label) for path, label in jax.tree.leaves_with_path(spread) if _place(label, groups) is None]
    if wrong:
        listed = ", ".join(f"{label!r} at params{jax.tree_util.keystr(path)}" for path, label in wrong)
        raise ValueError(
            f"partition: no transformation has the label {listed}; there is one for each of "
            f"{', '.join(map(repr, groups))}"
        )
    return jax.tree.map(lambda label: _place(label, groups), spread)
