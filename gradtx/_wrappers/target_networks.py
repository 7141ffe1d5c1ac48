"""Slow copies of parameters that are not trained: the target networks of reinforcement and self-supervised learning."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from .._trees.checks import check_rank
from .._trees.map import map_leaves
from .._types import Count, Leaf, Number, Params, ScalarArray


def _toward(old_tensors: Leaf, new_tensors: Leaf, step_size: ScalarArray) -> Leaf:
    return jnp.where(step_size == 1, new_tensors, old_tensors + step_size * (new_tensors - old_tensors))


def incremental_update(new_tensors: Params, old_tensors: Params, step_size: Number) -> Params:
    r"""One step of an exponential moving average: $o + s\,(n - o)$, leaf by leaf, in the dtypes of the old.

    Half precision is computed in float32 and rounded once. (`average` keeps its average in float32, and corrects it
    for its start.)

    Args:
        new_tensors: n. `None` where the old one is to stay.
        old_tensors: o.
        step_size: s, one minus the decay.

    Raises:
        ValueError: if the trees differ in structure or a leaf in shape; the path is named.
        TypeError: if a leaf is not floating or complex.
    """
    trees, reads = {"old_tensors": old_tensors}, {"new_tensors": new_tensors}
    return map_leaves(_toward, trees, reads=reads, optional="new_tensors", step_size=jnp.asarray(step_size, float))


def periodic_update(new_tensors: Params, old_tensors: Params, steps: Count | int, update_period: Count | int) -> Params:
    """The new tensors at each `update_period`-th of the steps, and the old ones at others.

    Args:
        new_tensors: Arrays of any dtype.
        old_tensors: The same structure, shapes and dtypes.
        steps: How many updates there were; at 0 the new ones are returned.
        update_period: After how many to return them again, at least 1.

    Raises:
        ValueError: if the trees differ in structure, or a leaf in shape or dtype; the path is named.
    """
    check_rank("steps", steps)
    check_rank("update_period", update_period)
    paths, structure = jax.tree.flatten_with_path(new_tensors)
    if structure != jax.tree.structure(old_tensors):
        raise ValueError(
            f"periodic_update: new_tensors have the structure {structure}, but old_tensors "
            f"{jax.tree.structure(old_tensors)}"
        )
    for (path, new), old in zip(paths, jax.tree.leaves(old_tensors), strict=True):
        if (jnp.shape(new), jnp.result_type(new)) != (jnp.shape(old), jnp.result_type(old)):
            where = jax.tree_util.keystr(path)
            raise ValueError(
                f"periodic_update: new_tensors{where} is {_kind(new)}, but old_tensors{where} {_kind(old)}"
            )
    is_due = jnp.asarray(steps) % jnp.asarray(update_period) == 0
    return jax.tree.map(lambda new, old: jnp.where(is_due, new, old), new_tensors, old_tensors)


def _kind(leaf: jax.Array) -> str:
    return f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}"
