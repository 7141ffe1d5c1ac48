"""Some of the parameters: a transformation for them alone, or none at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import KW_ONLY
from typing import NamedTuple

import jax

from .._core.contract import EmptyState, GradientTransformation, Recipe, Stateless
from .._core.data import PyTreeNode
from .._transforms.masks import Mask, chosen
from .._transforms.scale import set_to_zero
from .._trees.select import merged
from .._types import OptState, Params, PyTree, Updates
from .partition import partition
from .parts import Part


class MaskedState(NamedTuple):
    """State of `masked`."""

    inner_state: OptState
    """The state of what is inside, as for a tree with the selected leaves only."""


class masked(GradientTransformation):
    """Transform some of the updates, and let the others pass unchanged.

    What is inside sees `None` in place of other leaves, as a group of `partition` does: no state for them, norms and
    line searches see the selected leaves alone, and extra arguments are as there. To hold parameters still use
    `freeze` or a group of `partition`: what passes here is a gradient still, and moves parameters uphill.

    State: `MaskedState`, of the selected leaves.

    Args:
        inner: The transformation.
        mask: Which leaves: a tree of bools like the parameters or a prefix of it, a rule (`"*/kernel"`, `by_rank(2)`),
            or a function from parameters to bools.
        mask_compatible_extra_args: As in `partition`.

    Raises:
        TypeError: if `mask` is `None`, or holds anything but bools.
        ValueError: from `init`, if it does not fit the tree.
    """

    inner: GradientTransformation
    mask: Mask
    _: KW_ONLY
    mask_compatible_extra_args: bool = False

    def __check_init__(self) -> None:
        _check_given("masked", "mask", self.mask)

    def init(self, params: Params) -> MaskedState:
        return MaskedState(self.inner.init(self._part(params).of("params", params)))

    def update(
        self, updates: Updates, state: MaskedState, params: Params | None = None, **extra: object
    ) -> tuple[Updates, MaskedState]:
        part = self._part(updates if params is None else params)
        made, inner_state = part.update(self.inner, updates, state.inner_state, params, extra)
        return _completed(made, "updates", updates, part), MaskedState(inner_state)

    def _part(self, tree: PyTree) -> Part:
        return Part(chosen(self.mask, tree), True, self.mask_compatible_extra_args)

    def _delegate(self, method: str, params: Params, state: OptState) -> Params:
        if not self.inner._defines(method):
            return params
        part = self._part(params)
        return _completed(part.point(method, self.inner, params, state.inner_state), "params", params, part)

    def _divided(self, params: Params) -> Iterator[tuple[str, GradientTransformation, Params]]:
        """What is inside with its leaves, for `describe`."""
        yield _named(self.mask), self.inner, self._part(params).of("params", params)


class freeze(Stateless):
    """Set the updates of some parameters to zero, so that they keep their values; the other updates pass unchanged.

        gradtx.partition({"embed/*": gradtx.freeze(), "*": gradtx.adam(1e-3)})

    As a group of `partition`, `freeze()` freezes the whole group, and nothing is kept or computed for it. Behind an
    optimizer in a chain, that optimizer still has state for frozen parameters; `selective_transform` has none.

    State: `EmptyState()`.

    Args:
        mask: Which: one bool for all, a tree of bools like the parameters or a prefix of it, a rule (`"embed/*"`), or a
            function from parameters to bools.

    Raises:
        TypeError: if `mask` is `None`, or holds anything but bools.
        ValueError: from `update`, if it does not fit the tree.
    """

    mask: Mask = True

    def __check_init__(self) -> None:
        _check_given("freeze", "mask", self.mask)

    def update(self, updates: Updates, state: EmptyState, params: Params | None = None) -> tuple[Updates, EmptyState]:
        part = Part(chosen(self.mask, updates if params is None else params), True, False)
        zeros, _ = set_to_zero().update(part.of("updates", updates), EmptyState())
        return _completed(zeros, "updates", updates, part), state

    def _divided(self, params: Params) -> Iterator[tuple[str, str, Params]]:
        """What is frozen, for `describe`."""
        if self.mask is not True:
            yield _named(self.mask), "freeze()", Part(chosen(self.mask, params), True, False).of("params", params)


class _FreezeOrTrain(PyTreeNode):
    """Labels from a mask."""

    mask: Mask

    def __call__(self, params: Params) -> PyTree:
        return jax.tree.map(lambda frozen: "freeze" if frozen else "train", chosen(self.mask, params))


class selective_transform(Recipe):
    """Optimize what is not frozen, and hold the rest still: `partition` with the groups `train` and `freeze`.

    State: `PartitionState`; none for frozen parameters.

    Args:
        optimizer: The transformation of what is not frozen.
        freeze_mask: Which parameters are frozen: as `mask` of `freeze`.

    Raises:
        TypeError: if `freeze_mask` is `None`, or holds anything but bools.
        ValueError: from `init`, if it does not fit the tree.
    """

    optimizer: GradientTransformation
    _: KW_ONLY
    freeze_mask: Mask

    def __check_init__(self) -> None:
        _check_given("selective_transform", "freeze_mask", self.freeze_mask)

    def parts(self) -> GradientTransformation:
        return partition({"train": self.optimizer, "freeze": set_to_zero()}, _FreezeOrTrain(self.freeze_mask))


def _named(mask: object) -> str:
    return repr(mask) if isinstance(mask, PyTreeNode) else "mask"


def _check_given(owner: str, name: str, mask: object) -> None:
    if mask is None:
        raise TypeError(f"{owner}: `{name}` must be bools, a rule like '*/kernel', or a function to bools; got None")


def _completed(made: PyTree, name: str, whole: PyTree, part: Part) -> PyTree:
    """The part's leaves as they are made, and the others as they are in the whole."""
    return merged({True: made, False: part._replace(label=False).of(name, whole)}, part.labels)
