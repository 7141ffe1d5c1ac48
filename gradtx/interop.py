"""To optax and from it, and from one's own checkpoints to a transformation that is wrapped in another way.

The other way needs nothing: `gradtx.chain` takes optax's transformations, and a learning rate optax's schedules.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ._core.contract import GradientTransformation, Recipe
from ._core.data import PyTreeNode, public_name
from ._core.schedule import Schedule
from ._states.adopt import adopt as adopt
from ._states.places import Words, at, children, describe, fit, listing
from ._transforms.scale import ScaleByLearningRateState, ScaleByScheduleState
from ._transforms.weight_decay import AddDecayedWeightsState
from ._types import OptState, Params, PyTree, Updates

if TYPE_CHECKING:
    import optax

# These keep a count that only a schedule reads; optax keeps it for a schedule alone.
_SCHEDULED = (ScaleByLearningRateState, ScaleByScheduleState, AddDecayedWeightsState)
# These have fields that optax's have not.
_KEEPS_MORE = ("LinesearchState", "LBFGSState")


# What differentiates at params, in place of a method that does not.
_INSTEAD = {
    "nag": "Use gradtx.sgd(learning_rate, momentum, nesterov=True): it is Nesterov's method with the gradient at "
    "params",
    "sam": "Use gradtx.sam(..., opaque_mode=True): it makes the step in one call, with the extra argument grad_fn",
}


@dataclasses.dataclass(frozen=True)
class _Init:
    """`tx.init`, equal where `tx` is: `jit` and `nnx` compare the functions of an optax pair."""

    tx: GradientTransformation

    def __call__(self, params: Params) -> OptState:
        return self.tx.init(params)


@dataclasses.dataclass(frozen=True)
class _Update:
    """`tx.update`, likewise."""

    tx: GradientTransformation

    def __call__(
        self, updates: Updates, state: OptState, params: Params | None = None, **extra: object
    ) -> tuple[Updates, OptState]:
        return self.tx.update(updates, state, params, **extra)


def as_optax(tx: GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """`tx` as optax's own type, for code that asks for it, and for extra arguments.

    Most code takes `tx` as it is. `optax.chain` and the like drop the extra arguments (`value=loss`) of what is not
    of their type; with this they come through.

    Raises:
        ValueError: if `tx` differentiates at another point than `params` (`nag`), which optax does not provide for.
        TypeError: if `tx` is not gradtx's.
    """
    import optax

    _refuse_look_ahead(tx, "as_optax", "a loop that does not ask for that point")
    return optax.GradientTransformationExtraArgs(_Init(tx), _Update(tx))


def _refuse_look_ahead(tx: GradientTransformation, owner: str, where: str) -> None:
    if not isinstance(tx, GradientTransformation):
        raise TypeError(f"{owner} takes a gradtx transformation, got {tx!r}")
    inside = tx._definer("gradient_params")
    if inside:
        instead = _INSTEAD.get(inside, "Use a loop of your own, which differentiates there")
        raise ValueError(
            f"{owner}: {tx!r} needs its gradient at tx.gradient_params(params, state). With {where} it would be "
            f"another method, silently. {instead}"
        )


def from_optax(tx: GradientTransformation, restored: OptState, params: Params, *, count: int | None = None) -> OptState:
    """The state of an optax optimizer as the state of `tx`, the same optimizer of gradtx.

        restored = orbax.checkpoint.StandardCheckpointer().restore(path)     # of optax.adam: [{count, mu, nu}, None]
        state = gradtx.interop.from_optax(tx, restored, params)

    Training goes on as it would with optax, except for rounding. Arrays get the dtypes that `tx.init` gives them
    (float32 accumulators for half precision). Those that have them already are shared with `restored`, not copied.
    `optax.masked` and `optax.inject_hyperparams` are looked through; the hyperparameters are those of `tx`.

    What optax does not keep is a count where the learning rate (or weight decay) is a number. It is taken from
    another count in the state; where there is none, it is `count`, or 0 if `tx` has no schedule that would read it.

    Args:
        tx: With the stages of the optax optimizer, in its order.
        restored: An optax state, or what is left of one without its classes: lists, dicts and `None`. A state of
            `tx` itself that lost its classes will do as well.
        params: The parameters: arrays or `ShapeDtypeStruct`s, in the containers that `tx.update` will see them in.
        count: How many updates there were, for the places where optax does not keep it.

    Raises:
        ValueError: if the state does not fit: the path is named, what was expected and what came; if a count is
            needed and not known; or if a stage keeps more than optax's (L-BFGS, line searches).
        TypeError: if a leaf is of another kind of number.
    """
    _refuse_look_ahead(tx, "from_optax", "the state of optax.sgd, whose velocity does not hold the learning rate,")
    specs, structure = jax.tree.flatten(jax.eval_shape(tx.init, params))
    places = list(_visit(structure.unflatten(range(len(specs))), keep=True))
    _compare_types(places, restored)
    wanted = {words: node for words, node in places if isinstance(node, int)}
    look_through = not any("hyperparams" in words for words in wanted)
    source = _leaves(restored, keep=not look_through)

    source |= _gathered(wanted, source)
    missing = [words for words in wanted if words not in source]
    for words in missing:
        _refuse_what_keeps_more(places, source, words)
        if words[-1:] != ("count",):
            raise ValueError(
                f"from_optax: the optax state has nothing at {at(words)}, where {type(tx).__name__} keeps "
                f"{describe(specs[wanted[words]])}. {_HINT} It has {listing(source)}"
            )
    surplus = {words: leaf for words, leaf in source.items() if words not in wanted}
    if surplus:
        raise ValueError(
            f"from_optax: the optax state has {listing(surplus)}, for which {type(tx).__name__} has no place. {_HINT}"
        )
    if missing:
        value = _missing_count(tx, restored, count, missing[0])
        # An array for each: a state to be donated must not hold one buffer twice.
        source.update({words: np.int32(value) for words in missing})
    leaves = {i: fit("from_optax", source[words], specs[i], words) for words, i in wanted.items()}
    return structure.unflatten([leaves[i] for i in range(len(specs))])


_HINT = "Is it the state of another optimizer, or are its stages in another order?"


def _gathered(wanted: dict[Words, Any], source: dict[Words, Any]) -> dict[Words, Any]:
    """What `MultiStepsState` has beyond optax's: it weighs every micro-batch alike, and `updated` can be told."""
    found: dict[Words, Any] = {}
    for *path, name in filter(None, wanted):
        fields = {field: (*path, field) for field in ("mini_step", "gradient_step", "total_weight", "updated")}
        is_one = set(fields.values()) <= wanted.keys() and fields["mini_step"] in source
        if is_one and name in ("total_weight", "updated") and (*path, name) not in source:
            mini, steps = (np.asarray(source[fields[field]]) for field in ("mini_step", "gradient_step"))
            found[*path, name] = mini.astype(float) if name == "total_weight" else (mini == 0) & (steps > 0)
    return found


def _refuse_what_keeps_more(places: list[tuple[Words, Any]], source: dict[Words, Any], missing: Words) -> None:
    """Raise ValueError for a place in a stage whose state has optax's fields and more."""
    for words, node in places:
        begins = missing[: len(words)] == words and any(other[: len(words)] == words for other in source)
        if begins and type(node).__name__.endswith(_KEEPS_MORE):
            raise ValueError(
                f"from_optax: the {type(node).__name__} at {at(words)} keeps more than optax's, which has nothing at "
                f"{at(missing)}: it cannot go on from there. Take the state of that stage from tx.init(params), and "
                "bring in those of the others one by one"
            )


def _visit(node: object, words: Words = (), *, keep: bool) -> Iterator[tuple[Words, Any]]:
    """Every container and every leaf with its place; wrappers that keep nothing of their own are looked through.

    `keep`: Not through `inject_hyperparams`, whose numbers are wanted.
    """
    held = children(node)
    inner = dict(held).get("inner_state", node)
    if inner is not node and (len(held) == 1 or (not keep and "hyperparams" in dict(held))):
        yield from _visit(inner, words, keep=keep)
        return
    if held:
        yield words, node
    for name, child in held:
        yield from _visit(child, (*words, name), keep=keep)
    if not held:  # a leaf, None, or a node of somebody's own
        for path, leaf in jax.tree.leaves_with_path(node):
            keys = (next(getattr(key, a) for a in ("idx", "key", "name") if hasattr(key, a)) for key in path)
            yield (*words, *map(str, keys)), leaf


def _leaves(tree: PyTree, *, keep: bool) -> dict[Words, Any]:
    return {words: node for words, node in _visit(tree, keep=keep) if not children(node)}


def _compare_types(places: list[tuple[Words, Any]], restored: OptState) -> None:
    """Two optimizers may keep fields of the same names; where classes are known, they have to have one name."""
    theirs = {words: type(node) for words, node in _visit(restored, keep=False) if hasattr(node, "_fields")}
    for words, node in places:
        came = theirs.get(words, type(node))
        if hasattr(node, "_fields") and not isinstance(node, _SCHEDULED) and came.__name__ != type(node).__name__:
            raise ValueError(
                f"from_optax: the optax state has a {came.__name__} at {at(words)}, where tx keeps a "
                f"{type(node).__name__}. {_HINT}"
            )


def _missing_count(tx: GradientTransformation, restored: OptState, count: int | None, words: Words) -> int:
    """How many updates there were: as given, as another count has it, or 0 where nothing reads it."""
    leaves = _leaves(restored, keep=True).items()
    known = {int(leaf) for words, leaf in leaves if words[-1:] == ("count",) and np.ndim(leaf) == 0}
    if count is None and len(known) != 1 and (known or not _is_constant(tx)):
        reason = f"it has several counts, {sorted(known)}" if known else "optax keeps none for a constant rate"
        raise ValueError(
            f"from_optax: the number of updates at {at(words)} is needed for a schedule and cannot be read off the "
            f"optax state ({reason}). Give it: from_optax(tx, restored, params, count=...)"
        )
    return count if count is not None else next(iter(known), 0)


def _is_constant(node: object) -> bool:
    """Whether no schedule can be in `node`: no field holds one, and no class of somebody's own may hide one."""
    if isinstance(node, Schedule):
        return False
    if not isinstance(node, PyTreeNode):
        return True
    if isinstance(node, Recipe):
        return _is_constant(node._parts())
    if isinstance(node, GradientTransformation) and not public_name(type(node)).startswith("gradtx."):
        return False
    inside = jax.tree.leaves(node._values(), is_leaf=lambda part: isinstance(part, PyTreeNode))
    return all(map(_is_constant, inside))
