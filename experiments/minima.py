"""Known problems for minimisers, and how many evaluations gradtx, scipy and optax need to solve them.

An evaluation is of the objective with its gradient. All stop where no entry of the gradient is above a tolerance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize
from jax.flatten_util import ravel_pytree

import gradtx

MEMORY, TOLERANCE = 10, 1e-5
MOST = 10**5
"""Steps, which no problem needs."""


class Problem(NamedTuple):
    """An objective of `params` and of `args`, which are data; where to begin; and the minima that are known, if any."""

    function: Callable[..., jax.Array]
    start: Any
    args: tuple[Any, ...] = ()
    minima: tuple[float, ...] = ()


def rosenbrock(x: jax.Array) -> jax.Array:
    """A bent valley. Least at ones: 0."""
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def beale(x: jax.Array) -> jax.Array:
    """Flat, with steep corners. Least at (3, 0.5): 0."""
    return sum(((c - x[0] * (1 - x[1] ** i)) ** 2 for i, c in ((1, 1.5), (2, 2.25), (3, 2.625))), start=jnp.zeros(()))


def himmelblau(x: jax.Array) -> jax.Array:
    """Four minima: 0."""
    return (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2


def powell(x: jax.Array) -> jax.Array:
    """Its Hessian is singular at its minimum, which is at zeros: 0."""
    return (x[0] + 10 * x[1]) ** 2 + 5 * (x[2] - x[3]) ** 2 + (x[1] - 2 * x[2]) ** 4 + 10 * (x[0] - x[3]) ** 4


def quadratic(x: jax.Array) -> jax.Array:
    """Of condition 1e6. Least at zeros: 0."""
    return jnp.sum(jnp.logspace(0, 6, x.size, dtype=x.dtype) * x * x) / 2


PROBLEMS = {
    "Rosenbrock, 2": Problem(rosenbrock, [-1.2, 1.0]),
    "Rosenbrock, 10": Problem(rosenbrock, [-1.2, 1.0] * 5),
    "Rosenbrock, 100": Problem(rosenbrock, [-1.2, 1.0] * 50),
    "Beale": Problem(beale, [1.0, 1.0]),
    "Himmelblau": Problem(himmelblau, [0.0, 0.0]),
    "Powell": Problem(powell, [3.0, -1.0, 0.0, 1.0]),
    "quadratic, 1e6": Problem(quadratic, [1.0] * 10),
}
"""With the starts that are usual: Moré, Garbow and Hillstrom, 1981; Himmelblau's is 0. The last is ours."""


def softmax_problem(images: jax.Array, labels: jax.Array, l2: float) -> Problem:
    """Softmax regression with a penalty, from zeros, in the precision of `images`, (n, pixels)."""
    classes = 10
    zeros = {
        "bias": jnp.zeros([classes], images.dtype),
        "kernel": jnp.zeros([images.shape[1], classes], images.dtype),
    }
    return Problem(softmax_loss, zeros, (images, labels, jnp.asarray(l2, images.dtype)))


def softmax_loss(params: Any, images: jax.Array, labels: jax.Array, l2: jax.Array) -> jax.Array:
    """Mean cross-entropy, and half of `l2` times the square of all parameters."""
    return loss_of_outputs(outputs(params, images, labels, l2), images, labels, l2)


def outputs(params: Any, images: jax.Array, labels: jax.Array, l2: jax.Array) -> tuple[jax.Array, Any]:
    """Logits; and the parameters, for the penalty."""
    return images @ params["kernel"] + params["bias"][None], params


def loss_of_outputs(out: tuple[jax.Array, Any], images: jax.Array, labels: jax.Array, l2: jax.Array) -> jax.Array:
    """The objective by what the model puts out."""
    logits, params = out
    picked = jnp.take_along_axis(logits, labels[:, None], axis=1)[:, 0]
    penalty = sum((jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(params)), start=jnp.zeros((), logits.dtype))
    return jnp.mean(jax.nn.logsumexp(logits, axis=1) - picked) + l2 / 2 * penalty


SOFTMAX = gradtx.CompositeLoss(outputs, loss_of_outputs)
"""`softmax_loss` in two parts, for Gauss-Newton."""


Solver = Callable[[], int]
"""Solves a problem, and returns how many evaluations it needed. What it compiles serves the next call too.

Raises RuntimeError where it ends elsewhere.
"""


def by_gradtx(
    problem: Problem, tx: gradtx.GradientTransformation, fun: Callable[..., jax.Array] | None = None
) -> Solver:
    """`gradtx.minimize`; a Hessian-vector product counts as two. `fun`: in place of the problem's function."""

    def solve() -> int:
        function = fun or problem.function
        found = gradtx.minimize(function, _start(problem), tx, args=problem.args, max_steps=MOST, tol=TOLERANCE)
        if found.reason != gradtx.Reason.CONVERGED:
            raise RuntimeError(f"{tx} ended as {gradtx.Reason(int(found.reason)).name}")
        return int(found.evaluations) + 2 * int(getattr(found.state[0], "hvps", 0))

    return solve


def by_scipy(problem: Problem) -> Solver:
    """L-BFGS-B of scipy, with the objective compiled."""
    start, unravel = ravel_pytree(_start(problem))
    pair = jax.jit(jax.value_and_grad(lambda x, *args: problem.function(unravel(x), *args)))
    options = {"maxcor": MEMORY, "gtol": TOLERANCE, "ftol": 0, "maxiter": MOST, "maxfun": MOST}

    def as_arrays(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, grad = pair(x, *problem.args)
        return float(value), np.asarray(grad)

    def solve() -> int:
        found = scipy.optimize.minimize(as_arrays, np.asarray(start), jac=True, method="L-BFGS-B", options=options)
        if np.abs(found.jac).max() > TOLERANCE:
            raise RuntimeError(f"L-BFGS-B ended with {found.message}")
        return int(found.nfev)

    return solve


def by_optax(problem: Problem) -> Solver:
    """`optax.lbfgs`, in a compiled loop that reuses the evaluations of its line search."""
    tx = optax.lbfgs(memory_size=MEMORY)

    @jax.jit
    def run(start: Any, args: tuple[Any, ...]) -> tuple[jax.Array, jax.Array]:
        def objective(x: Any) -> jax.Array:
            return problem.function(x, *args)

        known = optax.value_and_grad_from_state(objective)

        def step(carry: Any) -> Any:
            x, state, count, _ = carry
            value, grad = known(x, state=state)
            updates, state = cast(Any, tx.update(grad, state, x, value=value, grad=grad, value_fn=objective))
            count += state[-1].info.num_linesearch_steps.astype(jnp.int32)
            x = optax.apply_updates(x, updates)
            leaves = jax.tree.leaves(known(x, state=state)[1])
            return x, state, count, jnp.max(jnp.stack([jnp.abs(leaf).max() for leaf in leaves]))

        infinite = jnp.asarray(jnp.inf, jax.tree.leaves(start)[0].dtype)
        first = start, tx.init(start), jnp.asarray(1, jnp.int32), infinite
        return jax.lax.while_loop(lambda c: (c[3] > TOLERANCE) & (c[2] < MOST), step, first)[2:]

    def solve() -> int:
        with jax.numpy_dtype_promotion("standard"):  # optax 0.2.8 needs it where 64 bits are on
            count, largest = run(_start(problem), problem.args)
        if largest > TOLERANCE:
            raise RuntimeError(f"optax.lbfgs ended with a gradient of {largest:.1e}")
        return int(count)

    return solve


def _start(problem: Problem) -> Any:
    return jnp.asarray(problem.start) if isinstance(problem.start, list) else problem.start
