"""A small problem with gradients of many sizes, and the loop that every numerical test trains it with."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import gradtx
from gradtx._core.values import plain

SEED = 20
CURVATURE = 0.3


class Leaf(NamedTuple):
    """The shape of a parameter, and the size of its gradients."""

    shape: tuple[int, ...]
    size: float = 1.0


# A leaf with large gradients, a nested one with tiny gradients (where eps matters), a scalar and an empty one.
LEAVES = {"big": Leaf((3, 4), 100.0), "nested": {"tiny": Leaf((5,), 1e-5)}, "scalar": Leaf(()), "empty": Leaf((0, 2))}
# The same names with one shape, so that few programs are compiled.
ALIKE = {name: Leaf((3,)) for name in LEAVES}


def problem(steps: int, dtype: Any = np.float64, leaves: Any = LEAVES) -> tuple[Any, Any]:
    """Parameters, and the noise of each step (leading axis), as NumPy arrays. The seed is printed."""
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)

    def draw(shape: tuple[int, ...]) -> np.ndarray:
        values = rng.normal(size=shape)
        return values + 1j * rng.normal(size=shape) if np.dtype(dtype).kind == "c" else values

    def each(make: Callable[[Leaf], np.ndarray]) -> Any:
        return jax.tree.map(
            lambda leaf: np.asarray(make(leaf), dtype), leaves, is_leaf=lambda node: isinstance(node, Leaf)
        )

    return each(lambda leaf: draw(leaf.shape)), each(lambda leaf: leaf.size * draw((steps, *leaf.shape)))


def gradient(params: Any, noise: Any) -> Any:
    """Of a bowl, with noise: it depends on where it is taken, as `nag` needs it."""
    return jax.tree.map(lambda x, n: np.asarray(CURVATURE, x.dtype) * x + n, params, noise)


def iterate(tx: Any, params: Any, noise: Any, apply: Callable[[Any, Any], Any] = gradtx.apply_updates) -> Any:
    """The parameters after each step, stacked, and the last state. `tx` is ours or optax's."""
    where = getattr(tx, "gradient_params", lambda params, state: params)

    def step(carry: Any, noise: Any) -> Any:
        params, state = carry
        updates, state = tx.update(gradient(where(params, state), noise), state, params)
        params = apply(params, updates)
        return (params, state), params

    (_, state), path = jax.lax.scan(step, (params, tx.init(params)), noise)
    return path, state


train = jax.jit(iterate)


def oracle_path(oracle: Callable[..., Any], params: Any, noise: Any, rates: Sequence[float], arguments: Any) -> Any:
    """The iterates of a NumPy oracle, leaf by leaf. `arguments` gives each leaf's hyperparameters."""

    def one(x: np.ndarray, n: np.ndarray, own: dict[str, Any]) -> np.ndarray:
        return np.stack(list(oracle(x, lambda t, at: CURVATURE * at + n[t - 1], rates, **own)))

    return jax.tree.map(one, params, noise, arguments)


def assert_close(actual: Any, expected: Any, rtol: float) -> None:
    """Each leaf to `rtol` of its largest entry: an iterate that crosses zero has the rounding of what it came from."""

    def leaf_is_close(actual: Any, expected: Any) -> None:
        a, e = plain(jnp.asarray(actual)), plain(jnp.asarray(expected))  # random keys as their numbers
        largest = np.max(np.abs(e[np.isfinite(e)]), initial=0)
        np.testing.assert_allclose(a, e, rtol=0, atol=rtol * largest)

    jax.tree.map(leaf_is_close, actual, expected)


def assert_same_types(actual: Any, expected: Any) -> None:
    """Structure, shapes, dtypes and weak types, of arrays or `ShapeDtypeStruct`s: what `jit` traces anew for."""

    def describe(leaf: Any) -> tuple[Any, ...]:
        return leaf.shape, leaf.dtype, getattr(leaf, "weak_type", False)

    assert jax.tree.map(describe, actual) == jax.tree.map(describe, expected)
