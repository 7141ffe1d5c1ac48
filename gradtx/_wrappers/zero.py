"""State sharded over the data axis (ZeRO, stage 1), where the parameters are replicated over it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import AxisType, NamedSharding, PartitionSpec, reshard

from .._core.contract import GradientTransformation
from .._core.fields import AtLeastOne, Convert
from .._core.paths import Path
from .._states.specs import AnyMesh, inferred, known_spec, leaf_specs, mesh_axes, mesh_of, zeros_inside
from .._types import OptState, Params, PyTree, Updates


def _checked_specs(value: Any) -> Any:
    for path, spec in jax.tree.leaves_with_path(value):
        if not isinstance(spec, PartitionSpec):
            raise TypeError(f"{jax.tree_util.keystr(path) or 'it'} must be a PartitionSpec, got {spec!r}")
    return value


Specs: TypeAlias = Annotated[PyTree | None, "static", Convert(_checked_specs)]
"""A tree of `PartitionSpec`s like the parameters, or a prefix of it."""


class Rule(NamedTuple):
    """Along which of its axes a leaf is cut."""

    axis: str
    min_size: int
    sizes: dict[str, int]
    """Of the mesh's axes."""
    is_explicit: bool

    def __call__(self, shape: tuple[int, ...], spec: PartitionSpec) -> PartitionSpec:
        """The spec with the axis in it, or as it is where none can be."""
        entries = [*spec, *[None] * (len(shape) - len(spec))]
        names = [mesh_axes(entry) for entry in entries]
        if np.prod(shape) < self.min_size or any(self.axis in each for each in names):
            return spec
        parts = [int(np.prod([self.sizes.get(name, 1) for name in each])) for each in names]
        fits = [k for k, size in enumerate(shape) if size and size % (parts[k] * self.sizes[self.axis]) == 0]
        if not fits:
            return spec
        # What is cut already is cut again only where nothing else can be.
        best = max(fits, key=lambda k: (not names[k], shape[k], -k))
        entries[best] = (*names[best], self.axis) if names[best] else self.axis
        return PartitionSpec(*entries)

    def state(self, leaf: Any, spec: PartitionSpec) -> PartitionSpec:
        """Of a leaf of the state, whose spec follows from that of its parameter."""
        # Explicit types have to fit: means of rows that are cut where their matrix is not could not meet it.
        own = not self.is_explicit and not jnp.issubdtype(leaf.dtype, jax.dtypes.extended)
        return self(leaf.shape, spec) if own else spec


@dataclasses.dataclass(frozen=True)
class _Layout:
    """The rule on a mesh, and what is known of how the parameters lie on it."""

    rule: Rule
    mesh: AnyMesh
    given: PyTree

    @property
    def is_explicit(self) -> bool:
        """Whether shardings are types."""
        return self.rule.is_explicit

    def known(self, tree: PyTree) -> list[PartitionSpec]:
        """How the leaves of a tree like the parameters lie, apart from the rule."""
        if self.is_explicit:
            return list(map(known_spec, jax.tree.leaves(tree)))
        if self.given is not None:
            return leaf_specs("zero", self.given, tree)
        return [PartitionSpec()] * len(jax.tree.leaves(tree))

    def cut(self, tree: PyTree) -> list[PartitionSpec]:
        """How they lie by the rule."""
        return [self.rule(np.shape(x), spec) for x, spec in zip(jax.tree.leaves(tree), self.known(tree), strict=True)]

    def shard(self, tree: PyTree) -> PyTree:
        """Each leaf by the rule."""
        if not self.is_explicit and self.given is None:
            self._refuse_unknown(tree)
        return self._placed(tree, self.cut(tree))

    def gather(self, tree: PyTree, like: PyTree) -> PyTree:
        """Each leaf as that of a tree which has not been cut."""
        whole = dict(zip(_places(like), self.known(like), strict=True))
        return self._placed(tree, [whole[place] for place in _places(tree)])

    def state(self, state: OptState, specs: Sequence[PartitionSpec]) -> OptState:
        """A state, each leaf by its spec."""
        return self._placed(state, specs)

    def _placed(self, tree: PyTree, specs: Sequence[PartitionSpec]) -> PyTree:
        leaves, structure = jax.tree.flatten(tree)
        return structure.unflatten([self._put(leaf, spec) for leaf, spec in zip(leaves, specs, strict=True)])

    def _put(self, leaf: Any, spec: PartitionSpec) -> jax.Array:
        # A leaf that stays whole is told so, too: the compiler would shard it as it likes.
        if np.ndim(leaf) == 0 or (self.is_explicit and _padded(known_spec(leaf), leaf) == _padded(spec, leaf)):
            return leaf
        in_context = not jax.sharding.get_abstract_mesh().empty
        target = spec if in_context else NamedSharding(self.mesh, spec)
        return reshard(leaf, target) if self.is_explicit else jax.lax.with_sharding_constraint(leaf, target)

    def _refuse_unknown(self, tree: PyTree) -> None:
        """Raise ValueError where parameters lie, or may lie, as a compiled update cannot see."""
        hint = (
            "which a compiled update cannot see on automatic axes. Say how they lie: "
            f"zero(..., axis={self.rule.axis!r}, specs=...), with PartitionSpecs like the parameters, or "
            "PartitionSpec() if they are whole on every device"
        )
        others = [name for name, size in self.rule.sizes.items() if size > 1 and name != self.rule.axis]
        if others:
            raise ValueError(f"zero: parameters may be sharded over {', '.join(others)}, {hint}")
        for path, leaf in jax.tree.leaves_with_path(tree):
            if isinstance(leaf, jax.Array) and not isinstance(leaf, Tracer) and any(known_spec(leaf)):
                raise ValueError(f"zero: {jax.tree_util.keystr(path)} has the spec {known_spec(leaf)}, {hint}")


def _padded(spec: PartitionSpec, leaf: Any) -> tuple[Any, ...]:
    return (*spec, *[None] * (np.ndim(leaf) - len(spec)))


class zero(GradientTransformation):
    """Shard the state of a transformation over the data axis of a mesh, along which the parameters are replicated.

    Data-parallel training computes one and the same update on every device. Here each computes its part: gradients and
    parameters are cut over `axis`, the inner transformation updates its part of the state, and updates are gathered.
    The compiler then makes one reduce-scatter and one all-gather of what was one all-reduce, which is as much traffic,
    and the state takes 1/n of the memory. The numbers are those of the inner transformation: sums over a tree (a global
    norm, an inner product) remain sums over all of it.

    A leaf is cut along its longest axis that n devices divide, of those that are not sharded yet, else along one that
    is and can be divided further. What has fewer than `min_size` entries, or no such axis, stays as it is;
    `state_specs` shows what lies where. Leaves of the state follow their parameters.

    The mesh is that on which the arrays lie, else the one in context (`jax.set_mesh`). Without one, as on a laptop,
    `zero(tx)` is `tx`.

    State: the inner one itself, so that checkpoints with and without `zero` are the same.

    Args:
        inner: What to update with. What is outside of `zero` (`average(zero(tx))`) has its own state whole.
        axis: The mesh axis along which the batch is sharded; automatic or explicit.
        min_size: Leaves with fewer entries stay whole: a message a leaf costs more than they take.
        specs: `PartitionSpec`s of the parameters, like them or a prefix. They are needed where a mesh of automatic axes
            has others than `axis`, since a compiled function cannot see how parameters are sharded over them. On an
            explicit axis they are in the types, and these are not read.

    Raises:
        ValueError: if there is a `zero` inside; if the mesh has no such axis, or it is manual (in `jax.shard_map`); or
            if parameters are sharded, or may be, in a way that has to be given as `specs`.
        TypeError: if a leaf of `specs` is not a `PartitionSpec`.

    Source: Rajbhandari et al., 2020 (ZeRO, stage 1); Xu et al., 2020 (arXiv:2004.13336).
    """

    inner: GradientTransformation
    axis: str = "data"
    min_size: AtLeastOne = 4096
    specs: Specs = None

    def __check_init__(self) -> None:
        if any(zeros_inside(self.inner, None)):
            raise ValueError(
                f"zero: {type(self.inner).__name__} has a zero inside, which shards its state; leave one out"
            )

    def init(self, params: Params) -> OptState:
        """The inner state, each leaf on its part of the devices."""
        layout = self._layout(params)
        if layout is None:
            return self.inner.init(params)
        state = self.inner.init(layout.shard(params))
        return layout.state(state, self._specs_of(layout, state, params))

    def update(
        self, updates: Updates, state: OptState, params: Params | None = None, **extra: object
    ) -> tuple[Updates, OptState]:
        """The inner update of the parts, gathered."""
        layout = self._layout((updates, params, state))
        if layout is None:
            return self.inner.update(updates, state, params, **extra)
        like = updates if params is None else params
        given = {name: _cut_extra(layout, value, like) for name, value in extra.items()}
        parts = layout.shard(updates), None if params is None else layout.shard(params)
        new, inner_state = self.inner.update(parts[0], state, parts[1], **given)
        if layout.is_explicit:  # shardings are types, which a state that is carried keeps
            specs = [known_spec(leaf) for leaf in jax.tree.leaves(state)]
        else:
            specs = self._specs_of(layout, state, like)
        return layout.gather(new, updates), layout.state(inner_state, specs)

    def _inside(self, state: object) -> list[tuple[Path, GradientTransformation, Any]]:
        return [(("inner",), self.inner, state)]

    def _delegate(self, method: str, params: Params, state: OptState) -> Params:
        layout = self._layout((params, state)) if self.inner._defines(method) else None
        if layout is None:
            return getattr(self.inner, method)(params, state)
        return layout.gather(getattr(self.inner, method)(layout.shard(params), state), params)

    def _rule(self, mesh: AnyMesh | None) -> Rule | None:
        """The rule on a mesh; None where there is nothing to cut."""
        if mesh is None:
            return None
        sizes = dict(mesh.shape)
        if self.axis not in sizes:
            raise ValueError(
                f"zero: the mesh has no axis {self.axis!r} to shard the state over; it has {', '.join(sizes)}. Give "
                "one: zero(tx, axis=...)"
            )
        kind = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))[self.axis]
        if kind is AxisType.Manual:
            raise ValueError(
                f"zero: the axis {self.axis!r} is manual here, in jax.shard_map, where each device has numbers of its "
                "own. Call init and update outside of it"
            )
        return Rule(self.axis, self.min_size, sizes, kind is AxisType.Explicit) if sizes[self.axis] > 1 else None

    def _layout(self, trees: PyTree) -> _Layout | None:
        mesh = mesh_of(trees)
        rule = self._rule(mesh)
        return None if mesh is None or rule is None else _Layout(rule, mesh, self.specs)

    def _specs_of(self, layout: _Layout, state: OptState, params: Params) -> list[PartitionSpec]:
        """How the state is to lie, by the parameters as they are cut."""
        expected, specs = inferred(self.inner, params, layout.cut(params), layout.mesh)
        kinds = [(jax.tree.structure(tree), [x.shape for x in jax.tree.leaves(tree)]) for tree in (expected, state)]
        leaves = jax.tree.leaves(state)
        if kinds[0] != kinds[1]:  # some have no gradient now, and there are no parameters to ask
            specs = [PartitionSpec()] * len(leaves)
        return [layout.rule.state(leaf, spec) for leaf, spec in zip(leaves, specs, strict=True)]


@dataclasses.dataclass(frozen=True)
class _OfWholeParams:
    """A function of the parameters (an objective), which are gathered for it. Equal where the function is."""

    function: Callable[..., Any]
    layout: _Layout = dataclasses.field(compare=False)
    like: Params = dataclasses.field(compare=False)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        structure = jax.tree.structure(self.like)
        args = tuple(
            self.layout.gather(arg, self.like) if jax.tree.structure(arg) == structure else arg for arg in args
        )
        return self.function(*args, **kwargs)


def _cut_extra(layout: _Layout, value: Any, like: Params) -> Any:
    """An extra argument for the inner transformation, which sees parameters that are cut."""
    if callable(value):
        return _OfWholeParams(value, layout, like)
    shapes = [(jax.tree.structure(tree), list(map(np.shape, jax.tree.leaves(tree)))) for tree in (value, like)]
    return layout.shard(value) if shapes[0] == shapes[1] else value


def _places(tree: PyTree) -> list[Any]:
    return [path for path, _ in jax.tree.leaves_with_path(tree)]
