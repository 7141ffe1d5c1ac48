"""Known problems for minimisers, and how many evaluations scipy and optax need to solve them from many starts."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize

MEMORY, TOLERANCE, MOST = 10, 1e-5, 10**5
"""All remember as many pairs, and stop where no entry of the gradient is larger, or after so many steps."""


class Problem(NamedTuple):
    function: Callable[[jax.Array], jax.Array]
    start: list[float]

    def starts(self, count: int) -> np.ndarray:
        """The usual start, moved a little: along one path alone, rounding decides how many evaluations it takes."""
        return self.start + 0.1 * np.random.RandomState(0).normal(size=(count, len(self.start)))


def rosenbrock(x: jax.Array) -> jax.Array:
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def beale(x: jax.Array) -> jax.Array:
    return sum(((c - x[0] * (1 - x[1] ** i)) ** 2 for i, c in ((1, 1.5), (2, 2.25), (3, 2.625))), start=jnp.zeros(()))


def himmelblau(x: jax.Array) -> jax.Array:
    return (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2


def powell(x: jax.Array) -> jax.Array:
    """Its Hessian is singular at its minimum."""
    return (x[0] + 10 * x[1]) ** 2 + 5 * (x[2] - x[3]) ** 2 + (x[1] - 2 * x[2]) ** 4 + 10 * (x[0] - x[3]) ** 4


def quadratic(x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.logspace(0, 6, x.size, dtype=x.dtype) * x * x) / 2


def gulf(x: jax.Array) -> jax.Array:
    """Gulf research and development: its Hessian is indefinite on most of the way."""
    t = np.arange(1, 100) / 100
    y = jnp.asarray(25 + (-50 * np.log(t)) ** (2 / 3))
    return jnp.sum((jnp.exp(-(jnp.abs(y - x[1]) ** x[2]) / x[0]) - t) ** 2)


def wood(x: jax.Array) -> jax.Array:
    a, b, c, d = x
    valleys = 100 * (b - a**2) ** 2 + (1 - a) ** 2 + 90 * (d - c**2) ** 2 + (1 - c) ** 2
    return valleys + 10 * (b + d - 2) ** 2 + (b - d) ** 2 / 10


PROBLEMS = {
    "Rosenbrock, 2": Problem(rosenbrock, [-1.2, 1.0]),
    "Rosenbrock, 10": Problem(rosenbrock, [-1.2, 1.0] * 5),
    "Rosenbrock, 100": Problem(rosenbrock, [-1.2, 1.0] * 50),
    "Beale": Problem(beale, [1.0, 1.0]),
    "Himmelblau": Problem(himmelblau, [0.0, 0.0]),
    "Powell": Problem(powell, [3.0, -1.0, 0.0, 1.0]),
    "quadratic, 1e6": Problem(quadratic, [1.0] * 10),
}
"""From Moré, Garbow and Hillstrom, 1981; Himmelblau's start is 0. The last is ours."""


def by_scipy(problem: Problem, starts: np.ndarray) -> list[int]:
    """Evaluations by L-BFGS-B from each start."""
    pair = jax.jit(jax.value_and_grad(problem.function))
    options = {"maxcor": MEMORY, "gtol": TOLERANCE, "ftol": 0, "maxiter": MOST, "maxfun": MOST}
    runs = [
        scipy.optimize.minimize(
            lambda x: tuple(map(np.asarray, pair(x))), x, jac=True, method="L-BFGS-B", options=options
        )
        for x in starts
    ]
    assert all(np.abs(run.jac).max() <= TOLERANCE for run in runs)
    return [run.nfev for run in runs]


def by_optax(problem: Problem, starts: np.ndarray) -> list[int]:
    """Evaluations by `optax.lbfgs` from each start, those of its line search reused."""
    tx, known = optax.lbfgs(memory_size=MEMORY), optax.value_and_grad_from_state(problem.function)

    def step(carry: Any) -> Any:
        x, state, count, _ = carry
        value, grad = known(x, state=state)
        updates, state = cast(Any, tx.update(grad, state, x, value=value, grad=grad, value_fn=problem.function))
        x = optax.apply_updates(x, updates)
        grad = cast(jax.Array, known(x, state=state)[1])
        return x, state, count + state[-1].info.num_linesearch_steps, jnp.abs(grad).max()

    def run(x: jax.Array) -> Any:
        first = x, tx.init(x), jnp.asarray(1), jnp.asarray(jnp.inf)
        return jax.lax.while_loop(lambda c: (c[3] > TOLERANCE) & (c[2] < MOST), step, first)[2:]

    counts, largest = jax.jit(jax.vmap(run))(jnp.asarray(starts))
    assert (largest <= TOLERANCE).all()
    return counts.tolist()
