"""The bowl and the saddle of the study, and paths on them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import gradtx

BOWL, BOWL_START = (2.0, 20.0), (7.0, 5.0)
SADDLE, SADDLE_START = (2.0, -2.0), (7.0, 0.001)


def value(hessian: tuple[float, float], points: Any) -> np.ndarray:
    """f = x' diag(hessian) x / 2: x^2 + 10 y^2 on the bowl."""
    return np.sum(np.asarray(hessian) * np.square(points), axis=-1) / 2


def _walk(tx: Any, hessian: jax.Array, start: jax.Array, steps: int, report: Callable[..., Any]) -> jax.Array:
    def step(carry: Any, _: None) -> Any:
        params, state = carry
        updates, state = tx.update(hessian * tx.gradient_params(params, state), state, params)
        params = gradtx.apply_updates(params, updates)
        return (params, state), report(tx, params, state)

    return jax.lax.scan(step, (start, tx.init(start)), length=steps)[1]


_jitted = jax.jit(_walk, static_argnames=("steps", "report"))


def iterates(tx: Any, params: Any, state: Any) -> Any:
    """What the loop carries."""
    return params


def evaluated(tx: Any, params: Any, state: Any) -> Any:
    """What one would ship."""
    return tx.eval_params(params, state)


def walk(
    tx: gradtx.GradientTransformation,
    steps: int,
    hessian: tuple[float, ...] = BOWL,
    start: tuple[float, ...] = BOWL_START,
    report: Callable[..., Any] = iterates,
) -> np.ndarray:
    """The iterates of steps 1, 2, ..., `steps`."""
    return np.asarray(_jitted(tx, jnp.asarray(hessian), jnp.asarray(start), steps, report))


def walks(txs: gradtx.GradientTransformation, steps: int, *where: tuple[float, ...]) -> np.ndarray:
    """`walk` for a batch of hyperparameters, in one program."""
    return jax.vmap(lambda tx: _jitted(tx, *map(jnp.asarray, where), steps, iterates), (gradtx.batch_axes(txs),))(txs)
