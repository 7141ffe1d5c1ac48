"""What a law is tried on: a transformation, parameters, and gradients that differ from step to step."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from .._core.apply import apply_updates
from .._core.contract import GradientTransformation
from .._core.types import OptState, Params, PyTree, Updates

STEPS = 3
"""Updates in a run: the first differs from the second in many methods, and the third is as all later ones."""

Sign: TypeAlias = Literal["auto", "keeps", "flips", "any"]
Step: TypeAlias = Callable[..., tuple[Updates, OptState, Params]]


class LawBroken(AssertionError):
    """A transformation broke a law. `law` is its name; the message says how."""

    law = ""

    def __str__(self) -> str:
        what = super().__str__()
        return f"law {list(registry).index(self.law) + 1} ({self.law}): {what}" if self.law in registry else what


registry: dict[str, Callable[[Case], None]] = {}
"""Every law by its name. Its number is its place."""


def law(name: str) -> Callable[[Callable[[Case], None]], Callable[[Case], None]]:
    """Register a function as the law `name`, which `check_transformation(tx, laws=[name])` then tries.

        @law("bounded")
        def bounded(case):
            updates, _, _ = case.run(case.tx)
            if max(jnp.max(jnp.abs(leaf), initial=0) for leaf in jax.tree.leaves(updates)) > 1:
                raise LawBroken("an update exceeds 1")

    The function raises `LawBroken` where `case.tx` does not keep the law.

    Raises:
        ValueError: if another law has the name.
    """

    def register(function: Callable[[Case], None]) -> Callable[[Case], None]:
        known = registry.get(name, function)
        # A cell of a notebook that is run again defines the same law anew.
        if (known.__module__, known.__qualname__) != (function.__module__, function.__qualname__):
            raise ValueError(f"there is a law {name!r} already; the laws are {', '.join(registry)}")
        registry[name] = function
        return function

    return register


@contextlib.contextmanager
def works(doing: str) -> Iterator[None]:
    """An exception in here breaks the law."""
    try:
        yield
    except LawBroken:
        raise
    except Exception as error:
        raise LawBroken(f"{doing} raised {type(error).__name__}: {error}") from error


def ramp(shape: tuple[int, ...], dtype: DTypeLike, phase: float = 0.0) -> jax.Array:
    """Numbers between 0.5 and 1.5 in size that do not repeat: of both signs in an array, positive for a scalar.

    A parameter and a gradient that are scalars have the same sign, since a trust ratio, whose step is as long as the
    parameter, would otherwise lead to p - p: 0 in one program and a rounding in another, and the next ratio is that
    of 0 / 0.
    """
    # In NumPy, which compiles nothing for a new shape.
    angles = np.arange(np.prod(shape, dtype=int)).reshape(shape) + phase
    value = (1 + 0.5 * np.sin(angles)) * np.where((angles.astype(int) % 2 == 1) & (len(shape) > 0), -1, 1)
    if np.dtype(dtype).kind == "c":
        value = value * np.exp(1j * angles)
    return jnp.asarray(value.astype(dtype))


def sample_params(dtype: DTypeLike = np.float32) -> dict[str, Any]:
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
    """A transformation with parameters to try it on, the extra arguments it asks for, and what it may do."""

    tx: GradientTransformation
    params: Params
    extra: Callable[[Params, Updates], Mapping[str, Any]] = lambda params, grads: {}
    sign: Sign = "auto"
    refuses: tuple[str, ...] = ()
    dtype: DTypeLike = np.float32

    def gradients(self, step: int, like: PyTree = None) -> Updates:
        """Gradients for one step: of the parameters' structure, different for each leaf and step."""
        like = self.params if like is None else like
        leaves, structure = jax.tree.flatten(like)
        return structure.unflatten(
            [ramp(jnp.shape(p), jnp.result_type(p), 1.7 * i + 0.9 * step) for i, p in enumerate(leaves)]
        )

    def update(
        self, tx: GradientTransformation, grads: Updates, state: OptState, params: Params
    ) -> tuple[Updates, OptState]:
        """One update with the extra arguments."""
        return tx.update(grads, state, params, **self.extra(params, grads))

    def kinds(self, params: Params, grads: Updates) -> tuple[Updates, OptState, OptState]:
        """Shapes and dtypes of updates and new state, and the state before; nothing is computed."""
        state = jax.eval_shape(self.tx.init, params)
        return *jax.eval_shape(self.update, self.tx, grads, state, params), state

    def run(
        self, tx: GradientTransformation, params: Params = None, *, step: Step | None = None, zero: bool = False
    ) -> tuple[Updates, OptState, Params]:
        """A few steps: the last updates, the state, the parameters. Without jit, unless `step` is jitted."""
        params = self.params if params is None else params
        state, updates = tx.init(params), None
        for i in range(STEPS):
            grads = self.gradients(i, params)
            grads = jax.tree.map(lambda g: jnp.asarray(np.zeros(g.shape, g.dtype)), grads) if zero else grads
            updates, state, params = (step or self.step)(tx, params, state, grads)
        return updates, state, params

    def step(
        self, tx: GradientTransformation, params: Params, state: OptState, grads: Updates
    ) -> tuple[Updates, OptState, Params]:
        """Update and apply."""
        updates, state = self.update(tx, grads, state, params)
        return updates, state, apply_updates(params, updates)

    def expect_close(self, what: str, got: PyTree, expected: PyTree) -> None:
        """Equal but for a few roundings of `dtype`: fused and unfused programs differ by them.

        They are roundings of a leaf's largest entry, since inner products and products of matrices mix entries.
        """
        # 2e-5 and 2e-6 in float32, 4e-14 and 4e-15 in float64: what the second-order methods need in their few steps.
        eps = float(jnp.finfo(self.dtype).eps)
        expect_close(what, got, expected, rtol=170 * eps, atol=17 * eps, of_largest=True)


def is_float(leaf: object) -> bool:
    """Whether a leaf is a floating or complex number: neither a random key, nor raw bits of one, nor a count."""
    return isinstance(leaf, (float, complex)) or jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def as_numbers(leaf: Any) -> np.ndarray:
    """A leaf to compare, in NumPy; a random key as the bits that it consists of."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    array = np.asarray(leaf)
    return array.astype(np.complex128) if is_float(leaf) else array


def describe(leaf: object) -> str:
    """Shape, dtype and weak type, as a law compares them."""
    aval = jax.typeof(leaf) if not isinstance(leaf, jax.ShapeDtypeStruct) else leaf
    return f"{aval.dtype}{list(aval.shape)}{' weak' if getattr(aval, 'weak_type', False) else ''}"


def expect_same_kind(what: str, got: PyTree, expected: PyTree) -> None:
    """Structure, shapes, dtypes and weak types of `got` are those of `expected`."""
    _expect_same_structure(what, got, expected)
    for (path, a), b in zip(jax.tree.leaves_with_path(got), jax.tree.leaves(expected), strict=True):
        if describe(a) != describe(b):
            raise LawBroken(f"{what}{jax.tree_util.keystr(path)} is {describe(a)}, not {describe(b)}")


def expect_close(
    what: str, got: PyTree, expected: PyTree, *, rtol: float, atol: float, of_largest: bool = False
) -> None:
    """Equal values: floats within a tolerance, and integers and random keys exactly.

    `rtol` is relative to each entry, or to the largest of its leaf.
    """
    _expect_same_structure(what, got, expected)
    for (path, a), b in zip(jax.tree.leaves_with_path(got), jax.tree.leaves(expected), strict=True):
        where, (x, y) = f"{what}{jax.tree_util.keystr(path)}", map(as_numbers, (a, b))
        if x.shape != y.shape:
            raise LawBroken(f"{where} has shape {x.shape}, not {y.shape}")
        if x.dtype.kind != "c" and not np.array_equal(x, y):
            raise LawBroken(f"{where} differs: {a} and not {b}")
        size = np.max(np.abs(y), initial=0.0, where=np.isfinite(y)) if of_largest else 0.0
        if x.dtype.kind == "c" and not np.allclose(x, y, rtol=rtol, atol=atol + rtol * size, equal_nan=True):
            raise LawBroken(f"{where} differs by {float(np.max(np.abs(x - y), initial=0.0))}")


def _expect_same_structure(what: str, got: PyTree, expected: PyTree) -> None:
    if jax.tree.structure(got) != jax.tree.structure(expected):
        raise LawBroken(f"{what} has structure {jax.tree.structure(got)}, not {jax.tree.structure(expected)}")
