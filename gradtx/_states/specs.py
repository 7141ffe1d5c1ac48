"""How the state of a transformation lies on a mesh, when its parameters do."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np
from jax.core import Tracer
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from .._core.contract import GradientTransformation
from .._rules import path_name
from .._types import OptState, Params, PyTree
from .dependence import Origin, Shape, UnstableInit, origins

AnyMesh: TypeAlias = Mesh | AbstractMesh
Entry: TypeAlias = Any
"""What a `PartitionSpec` says of an axis: a mesh axis, a tuple of them, or `None`."""


def state_specs(tx: Any, params: Params, specs: PyTree = None, *, mesh: AnyMesh | None = None) -> OptState:
    """A `PartitionSpec` for each leaf of the state, so that it is sharded as its parameter.

        with jax.set_mesh(mesh):
            state = jax.jit(tx.init, out_shardings=gradtx.state_specs(tx, params))(params)

    A leaf that belongs to a parameter is sharded along those of its axes that are axes of the parameter: a moment has
    the parameter's spec, a factored one what is left of it, a memory of ten updates `P(None, *spec)`. An axis that is
    made of axes of the parameter otherwise (merged, or cut into blocks) gets their mesh axes as far as they divide it.
    Counts, keys and leaves that depend on several parameters get `P()`. What a `zero` inside shards has its axis, too.

    Nothing is guessed from names or shapes: `tx.init` is run with abstract parameters that are an entry longer here and
    there. So it works for any transformation, optax's too. Only where `init` chooses among equal axes by their size is
    the choice of a stable sort assumed, which costs communication at most where it is another.

    Args:
        tx: Any transformation, gradtx's or optax's.
        params: Arrays with shardings, or `ShapeDtypeStruct`s with them.
        specs: A tree of `PartitionSpec`s like the parameters, or a prefix of it, where they have no shardings, as in a
            compiled function under automatic axes. In place of theirs.
        mesh: Whose sizes blocks and merged axes must be divisible by; default: the parameters', or the one in context.

    Raises:
        ValueError: if `specs` do not fit the parameters, or the state cannot be told without values.
        TypeError: if a leaf of `specs` is not a `PartitionSpec`, or a parameter's sharding names no mesh axes.
    """
    coerced = _coerced("state_specs", tx)
    leaves = jax.tree.leaves(params)
    mesh = mesh_of(params) if mesh is None else mesh
    given = [known_spec(leaf) for leaf in leaves] if specs is None else leaf_specs("state_specs", specs, params)
    state, found = inferred(coerced, params, given, mesh)
    numbers = jax.tree.structure(state).unflatten(range(len(found)))
    for zero, part in zeros_inside(coerced, numbers) if any(zeros_inside(coerced, None)) else ():
        rule = zero._rule(mesh)
        if rule is not None:
            shapes = [np.shape(leaf) for leaf in leaves]
            sharded = [rule(shape, spec) for shape, spec in zip(shapes, given, strict=True)]
            _, zeroed = inferred(coerced, params, sharded, mesh)
            structs = jax.tree.leaves(state)
            for n in jax.tree.leaves(part):
                found[n] = rule.state(structs[n], zeroed[n])
    return jax.tree.structure(state).unflatten(found)


def state_structs(tx: Any, params: Params, specs: PyTree = None, *, mesh: AnyMesh | None = None) -> OptState:
    """The state as `ShapeDtypeStruct`s with shardings: what Orbax takes for a target, and `jit` for `out_shardings`.

        structs = gradtx.state_structs(tx, params)
        state = checkpointer.restore(path, structs)                                      # onto the devices of `params`
        state = jax.jit(tx.init, out_shardings=jax.tree.map(lambda s: s.sharding, structs))(params)

    Args:
        tx: Any transformation.
        params: As for `state_specs`.
        specs: As for `state_specs`.
        mesh: Where the state is to lie; default: where the parameters do, or the mesh in context.

    Raises:
        ValueError: if there is no mesh; and as `state_specs`.
        TypeError: as `state_specs`.
    """
    mesh = mesh_of(params) if mesh is None else mesh
    if mesh is None:
        raise ValueError(
            "state_structs: the parameters lie on no mesh, and none is in context. Give state_structs(..., mesh=mesh), "
            "or parameters with NamedShardings"
        )
    found = state_specs(tx, params, specs, mesh=mesh)
    state = jax.eval_shape(_coerced("state_structs", tx).init, params)

    def struct(leaf: jax.ShapeDtypeStruct, spec: PartitionSpec) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec))

    return jax.tree.map(struct, state, found)


def _coerced(owner: str, tx: object) -> GradientTransformation:
    found = tx if isinstance(tx, GradientTransformation) else GradientTransformation.coerce(tx)
    if found is None:
        raise TypeError(f"{owner} takes a transformation, got {tx!r}")
    return found


def zeros_inside(tx: GradientTransformation, state: OptState) -> Iterator[tuple[Any, OptState]]:
    """Each `zero` in a transformation, with its part of a state, or of a tree of that structure; none for `None`."""
    if hasattr(tx, "_rule"):
        yield tx, state
    for _, inner, part in tx._inside(state):
        yield from zeros_inside(inner, part)


def mesh_of(*trees: PyTree) -> AnyMesh | None:
    """The mesh that leaves lie on, in a compiled function too, else the one in context; None where there is none."""
    for leaf in jax.tree.leaves(trees):
        mesh = getattr(_sharding(leaf), "mesh", None)
        if mesh is not None and not mesh.empty:
            return mesh
    mesh = jax.sharding.get_abstract_mesh()
    return None if mesh.empty else mesh


def _sharding(leaf: Any) -> Any:
    # A tracer tells the mesh that it lies on by its type alone.
    return jax.typeof(leaf).sharding if isinstance(leaf, Tracer) else getattr(leaf, "sharding", None)


def known_spec(leaf: Any) -> PartitionSpec:
    """How a leaf is sharded, as far as it says so. Raises TypeError for one over devices without a spec."""
    sharding = _sharding(leaf)
    if isinstance(sharding, NamedSharding):
        return sharding.spec
    if isinstance(sharding, PartitionSpec):
        return sharding
    if sharding is None or len(sharding.device_set) == 1 or sharding.is_fully_replicated:
        return PartitionSpec()
    raise TypeError(f"a parameter has the sharding {sharding}, which names no mesh axes: give specs, or NamedShardings")


def leaf_specs(owner: str, specs: PyTree, params: Params) -> list[PartitionSpec]:
    """A spec for each parameter, of a tree like the parameters or a prefix of it.

    Raises:
        ValueError: if it does not fit.
        TypeError: if a leaf is no `PartitionSpec`; its path is named.
    """
    for path, spec in jax.tree.leaves_with_path(specs):
        if not isinstance(spec, PartitionSpec):
            raise TypeError(f"{owner}: specs at {path_name(path) or 'the root'} must be a PartitionSpec, got {spec!r}")
    try:
        found = jax.tree.map(lambda spec, part: jax.tree.map(lambda _: spec, part), specs, params)
    except ValueError as error:
        raise ValueError(
            f"{owner}: specs must be PartitionSpecs like the parameters, {jax.tree.structure(params)}, or a prefix of "
            f"it; got {specs!r} ({error})"
        ) from None
    for (path, leaf), spec in zip(jax.tree.leaves_with_path(params), jax.tree.leaves(found), strict=True):
        if len(spec) > np.ndim(leaf):
            raise ValueError(
                f"{owner}: the spec at {path_name(path) or 'the root'} is {spec}, longer than the parameter's shape, "
                f"{np.shape(leaf)}"
            )
    return jax.tree.leaves(found)


def inferred(
    tx: GradientTransformation, params: Params, specs: Sequence[PartitionSpec], mesh: AnyMesh | None
) -> tuple[OptState, list[PartitionSpec]]:
    """The abstract state, and a spec for each of its leaves from those of the parameters.

    Raises:
        ValueError: if `init` makes another state for every change of a parameter's shape.
    """
    leaves, structure = jax.tree.flatten((tx, params))
    count = len(jax.tree.leaves(tx))
    kinds = tuple((np.shape(leaf), jax.dtypes.result_type(leaf), _is_weak(leaf)) for leaf in leaves)
    sizes = None if mesh is None else tuple(dict(mesh.shape).items())
    try:
        return _inferred(structure, kinds, count, tuple(map(tuple, specs)), sizes)
    except UnstableInit as error:
        path, leaf = jax.tree.leaves_with_path(params)[error.args[0]]
        raise ValueError(
            f"state_specs: {type(tx).__name__}.init makes another state whenever the shape of params"
            f"{jax.tree_util.keystr(path)}, {np.shape(leaf)}, changes by an entry, so that it cannot be told which of "
            "its leaves belong to it. Give the state its shardings by hand"
        ) from None


def _is_weak(leaf: object) -> bool:
    return isinstance(leaf, (float, complex)) or bool(getattr(leaf, "weak_type", False))


@functools.lru_cache(maxsize=64)
def _inferred(
    structure: Any,
    kinds: tuple[tuple[Shape, Any, bool], ...],
    count: int,
    specs: tuple[tuple[Entry, ...], ...],
    sizes: tuple[tuple[str, int], ...] | None,
) -> tuple[OptState, list[PartitionSpec]]:
    """`inferred`, of what decides: a compiled update asks at each trace."""
    shapes = [shape for shape, _, _ in kinds[count:]]
    full = [(*spec, *[None] * (len(shape) - len(spec))) for spec, shape in zip(specs, shapes, strict=True)]

    def init(shapes: Sequence[Shape]) -> OptState:
        new = [*(shape for shape, _, _ in kinds[:count]), *shapes]
        structs = [
            jax.ShapeDtypeStruct(shape, dtype, weak_type=weak)
            for shape, (_, dtype, weak) in zip(new, kinds, strict=True)
        ]
        return jax.eval_shape(lambda tx, params: tx.init(params), *structure.unflatten(structs))

    # Not on a mesh: types with shardings in them would refuse what is computed of shapes alone.
    with jax.sharding.use_abstract_mesh(AbstractMesh((), ())):
        state = init(shapes)
        wanted = [[k for k, entry in enumerate(entries) if entry is not None] for entries in full]
        found = origins(init, shapes, wanted)
    return state, [_spec(origin, specs, full, None if sizes is None else dict(sizes)) for origin in found]


def _spec(
    origin: Origin,
    specs: Sequence[tuple[Entry, ...]],
    full: Sequence[tuple[Entry, ...]],
    sizes: Mapping[str, int] | None,
) -> PartitionSpec:
    if origin.owner is None:
        return PartitionSpec()
    entries = full[origin.owner]
    taken: set[str] = set()
    chosen: list[Entry] = []
    for size, axis in zip(origin.shape, origin.axes, strict=True):
        names = [name for k in axis.of for name in mesh_axes(entries[k])]
        # One mesh axis shards one axis: of a square factor, the first.
        if taken.intersection(names):
            names = []
        if not axis.is_copy:
            while names and (sizes is None or size % int(np.prod([sizes.get(name, 1) for name in names]))):
                names.pop()
        taken.update(names)
        chosen.append(None if not names else names[0] if len(names) == 1 else tuple(names))
    if tuple(chosen) == entries:
        return PartitionSpec(*specs[origin.owner])  # as it was written
    while chosen and chosen[-1] is None:
        chosen.pop()
    return PartitionSpec(*chosen)


def mesh_axes(entry: Entry) -> tuple[str, ...]:
    """The mesh axes that an axis is sharded over."""
    if entry is None or entry is PartitionSpec.UNCONSTRAINED:
        return ()
    return tuple(entry) if isinstance(entry, (tuple, list)) else (entry,)
