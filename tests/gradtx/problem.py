"""A small problem with gradients of many sizes, and the loop that every numerical test trains it with."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

import gradtx

SEED = 20
# A leaf with large gradients, a nested one with tiny gradients (where eps matters), a scalar and an empty one.
SHAPES = {"big": (3, 4), "nested": {"tiny": (5,)}, "scalar": (), "empty": (0, 2)}
SIZES = {"big": 100.0, "nested": {"tiny": 1e-5}, "scalar": 1.0, "empty": 1.0}
CURVATURE = 0.3


def problem(steps: int, dtype: Any = np.float64, seed: int = SEED) -> tuple[Any, Any]:
    """Parameters, and the noise of each step (leading axis), as NumPy arrays. The seed is printed."""
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)

    def draw(shape: tuple[int, ...]) -> np.ndarray:
        values = rng.normal(size=shape)
        if np.dtype(dtype).kind == "c":
            values = values + 1j * rng.normal(size=shape)
        return np.asarray(values, dtype=dtype)

    is_shape = lambda node: isinstance(node, tuple)  # noqa: E731
    params = jax.tree.map(draw, SHAPES, is_leaf=is_shape)
    noise = jax.tree.map(
        lambda size, shape: np.asarray(size * draw((steps, *shape)), dtype=dtype), SIZES, SHAPES, is_leaf=is_shape
    )
    return params, noise


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
    jax.tree.map(
        lambda a, e: np.testing.assert_allclose(a, e, rtol=0, atol=rtol * np.max(np.abs(e), initial=0)),
        actual,
        expected,
    )
