"""What a law is tried on: a transformation, parameters, and gradients that differ from step to step."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._core.apply import apply_updates
from .._core.transformation import GradientTransformation

STEPS = 3


LAWS = (
    "pure",
    "abstract_init",
    "stable_state",
    "same_updates",
    "one_trace",
    "any_tree",
    "nothing_broadcast",
    "precision",
    "sharding",
    "sign",
)
"""Nine, and the sign."""


class LawBroken(AssertionError):
    """A transformation broke a law. `law` is its name, one of `LAWS`; the message says how."""

    def __init__(self, law: str, what: str):
        number = LAWS.index(law) + 1
        super().__init__(f"law {number} ({law}): {what}" if number < len(LAWS) else f"{law}: {what}")
        self.law = law


def ramp(shape: tuple[int, ...], dtype: Any, phase: float = 0.0) -> jax.Array:
    """Numbers between 0.5 and 1.5 in size, of both signs, that do not repeat."""
    # In NumPy, which compiles nothing for a new shape.
    angles = np.arange(np.prod(shape, dtype=int)).reshape(shape) + phase
    value = (1 + 0.5 * np.sin(angles)) * np.where(angles.astype(int) % 2, -1, 1)
    if np.dtype(dtype).kind == "c":
        value = value * np.exp(1j * angles)
    return jnp.asarray(value.astype(dtype))


def sample_params(dtype: Any = np.float32) -> dict[str, Any]:
    """A tree with what trees have: a matrix, a vector, a nested list, a scalar, an empty array, a `None`."""
    return {
        "b": ramp((3,), dtype, 0.3),
        "empty": jnp.zeros((0, 2), dtype),
        "nested": [ramp((2, 2), dtype, 0.7)],
        "none": None,
        "scalar": ramp((), dtype, 0.1),
        "w": ramp((4, 3), dtype),
    }


@dataclasses.dataclass(frozen=True)
class Case:
    """A transformation with parameters to try it on, and the extra arguments it asks for."""

    tx: GradientTransformation
    params: Any
    extra: Callable[[Any, Any], Mapping[str, Any]]

    def gradients(self, step: int, like: Any = None) -> Any:
        """Gradients for one step: of the parameters' structure, different for each leaf and step."""
        like = self.params if like is None else like
        leaves, structure = jax.tree.flatten(like)
        return structure.unflatten(
            [ramp(jnp.shape(p), jnp.result_type(p), 1.7 * i + 0.9 * step) for i, p in enumerate(leaves)]
        )

    def update(self, tx: Any, grads: Any, state: Any, params: Any) -> tuple[Any, Any]:
        """One update with the extra arguments."""
        return tx.update(grads, state, params, **self.extra(params, grads))

    def kinds(self, params: Any, grads: Any) -> tuple[Any, Any, Any]:
        """Shapes and dtypes of updates and new state, and the state before; nothing is computed."""
        state = jax.eval_shape(self.tx.init, params)
        return *jax.eval_shape(self.update, self.tx, grads, state, params), state

    def run(self, tx: Any, params: Any = None, *, step: Any = None, zero: bool = False) -> tuple[Any, Any, Any]:
        """A few steps: the last updates, the state, the parameters. Without jit, unless `step` is jitted."""
        params = self.params if params is None else params
        state, updates = tx.init(params), None
        for i in range(STEPS):
            grads = self.gradients(i, params)
            grads = jax.tree.map(lambda g: jnp.asarray(np.zeros(g.shape, g.dtype)), grads) if zero else grads
            updates, state, params = (step or self.step)(tx, params, state, grads)
        return updates, state, params

    def step(self, tx: Any, params: Any, state: Any, grads: Any) -> tuple[Any, Any, Any]:
        """Update and apply."""
        updates, state = self.update(tx, grads, state, params)
        return updates, state, apply_updates(params, updates)


def describe(leaf: Any) -> str:
    """Shape, dtype and weak type, as a law compares them."""
    aval = jax.typeof(leaf) if not isinstance(leaf, jax.ShapeDtypeStruct) else leaf
    return f"{aval.dtype}{list(aval.shape)}{' weak' if getattr(aval, 'weak_type', False) else ''}"


def expect_same_kind(law: str, what: str, got: Any, expected: Any) -> None:
    """Structure, shapes, dtypes and weak types of `got` are those of `expected`."""
    if jax.tree.structure(got) != jax.tree.structure(expected):
        raise LawBroken(law, f"{what} has structure {jax.tree.structure(got)}, not {jax.tree.structure(expected)}")
    for (path, a), b in zip(jax.tree.leaves_with_path(got), jax.tree.leaves(expected), strict=True):
        if describe(a) != describe(b):
            raise LawBroken(law, f"{what}{jax.tree_util.keystr(path)} is {describe(a)}, not {describe(b)}")


def expect_close(law: str, what: str, got: Any, expected: Any, rtol: float = 2e-5, atol: float = 2e-6) -> None:
    """Equal values. The default tolerance is a few roundings of float32: fused and unfused programs differ by them."""
    if jax.tree.structure(got) != jax.tree.structure(expected):
        raise LawBroken(law, f"{what} has structure {jax.tree.structure(got)}, not {jax.tree.structure(expected)}")
    for (path, a), b in zip(jax.tree.leaves_with_path(got), jax.tree.leaves(expected), strict=True):
        x, y = (np.asarray(v).astype(np.complex128) for v in (a, b))
        if x.shape != y.shape or not np.allclose(x, y, rtol=rtol, atol=atol, equal_nan=True):
            worst = float(np.max(np.abs(x - y), initial=0.0)) if x.shape == y.shape else f"{x.shape} against {y.shape}"
            raise LawBroken(law, f"{what}{jax.tree_util.keystr(path)} differs by {worst}")
