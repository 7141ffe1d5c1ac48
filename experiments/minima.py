"""Problems for minimisers, and how many evaluations gradtx, scipy and optax need to solve them.

An evaluation is of the objective with its gradient. All stop where no entry of the gradient is above a tolerance.
Starts that are lists have the precision that JAX has by default.
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

MEMORY = 10


class Limits(NamedTuple):
    """When to stop: no entry of the gradient is above `tol`, or so many `steps` are taken."""

    tol: float = 1e-5
    steps: int = 10**5


LIMITS = Limits()


class Problem(NamedTuple):
    """An objective of `params` and of `args`, which are data; where to begin; and the minima that are known, if any."""

    function: Callable[..., jax.Array]
    start: Any
    args: tuple[Any, ...] = ()
    minima: tuple[float, ...] = ()


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


class Solution(NamedTuple):
    """Where a method stopped."""

    params: Any
    evaluations: int
    """Of the objective with its gradient. A Hessian-vector product counts as two."""
    steepest: float
    """The gradient's largest entry."""


Solver = Callable[[], Solution]
"""Solves a problem as far as it can. What it compiles serves the next call too."""


def needed(solve: Solver, tol: float = LIMITS.tol) -> int:
    """Evaluations to a gradient of `tol`.

    Raises:
        RuntimeError: It ends elsewhere.
    """
    found = solve()
    if not found.steepest <= tol:  # NaN is not either
        raise RuntimeError(f"ended with a gradient of {found.steepest:.1e} after {found.evaluations} evaluations")
    return found.evaluations


def by_gradtx(
    problem: Problem,
    tx: gradtx.GradientTransformation,
    fun: Callable[..., jax.Array] | None = None,
    limits: Limits = LIMITS,
) -> Solver:
    """`gradtx.minimize`. `fun`: in place of the problem's function."""
    function, args, start = fun or problem.function, _args(problem), _start(problem)

    # Compiled as optax's loop is: a call of `minimize` by itself traces the objective, which takes a millisecond.
    @jax.jit
    def minimized(start: Any, args: Any, tx: Any) -> Any:
        return gradtx.minimize(function, start, tx, args=args, max_steps=limits.steps, tol=limits.tol)

    def solve() -> Solution:
        found = minimized(start, args, tx)
        evaluations = int(found.evaluations) + 2 * int(getattr(found.state[0], "hvps", 0))
        return Solution(found.params, evaluations, _steepest(found.grad))

    return solve


def by_scipy(problem: Problem, limits: Limits = LIMITS) -> Solver:
    """L-BFGS-B of scipy."""
    flat = _Flat.of(problem)
    options = {"maxcor": MEMORY, "gtol": limits.tol, "ftol": 0, "maxiter": limits.steps, "maxfun": 10**6}

    def solve() -> Solution:
        found = scipy.optimize.minimize(flat.evaluate, flat.start, jac=True, method="L-BFGS-B", options=options)
        return Solution(flat.unravel(found.x), int(found.nfev), _steepest(found.jac))

    return solve


def by_trust_ncg(problem: Problem, limits: Limits = LIMITS) -> Solver:
    """Newton-CG of scipy, in a trust region."""
    flat = _Flat.of(problem)
    seen: dict[bytes, np.ndarray] = {}

    def evaluate(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, seen[x.tobytes()] = flat.evaluate(x)
        return value, seen[x.tobytes()]

    def stop(x: np.ndarray) -> None:
        if _steepest(seen[x.tobytes()]) <= limits.tol:  # scipy's own tolerance is on the norm
            raise StopIteration

    def solve() -> Solution:
        found = scipy.optimize.minimize(
            evaluate, flat.start, jac=True, hessp=flat.product, method="trust-ncg", callback=stop,
            options={"gtol": 0, "maxiter": limits.steps},
        )  # fmt: skip
        return Solution(flat.unravel(found.x), int(found.nfev + 2 * found.nhev), _steepest(found.jac))

    return solve


class _Flat(NamedTuple):
    """A problem for scipy: of one vector in float64, whatever the precision of the compiled objective in it."""

    start: np.ndarray
    unravel: Callable[[np.ndarray], Any]
    evaluate: Callable[[np.ndarray], tuple[float, np.ndarray]]
    product: Callable[[np.ndarray, np.ndarray], np.ndarray]

    @classmethod
    def of(cls, problem: Problem) -> _Flat:
        start, unravel = ravel_pytree(_start(problem))
        args = _args(problem)

        @jax.jit
        def pair(x: jax.Array, *args: Any) -> tuple[jax.Array, jax.Array]:
            return jax.value_and_grad(lambda x: problem.function(unravel(x), *args))(x)

        @jax.jit
        def product(x: jax.Array, vector: jax.Array, *args: Any) -> jax.Array:
            return jax.jvp(lambda x: pair(x, *args)[1], (x,), (vector,))[1]

        def typed(x: np.ndarray) -> jax.Array:
            return jnp.asarray(x, start.dtype)

        def evaluate(x: np.ndarray) -> tuple[float, np.ndarray]:
            value, grad = pair(typed(x), *args)
            return float(value), np.asarray(grad, np.float64)

        return cls(
            np.asarray(start, np.float64),
            lambda x: unravel(typed(x)),
            evaluate,
            lambda x, vector: np.asarray(product(typed(x), typed(vector), *args), np.float64),
        )


def by_optax(problem: Problem, limits: Limits = LIMITS) -> Solver:
    """`optax.lbfgs`, in a compiled loop that reuses the evaluations of its line search."""
    tx, arguments = optax.lbfgs(memory_size=MEMORY), _args(problem)

    @jax.jit
    def run(start: Any, args: tuple[Any, ...]) -> tuple[Any, jax.Array, jax.Array]:
        def objective(x: Any) -> jax.Array:
            return problem.function(x, *args)

        known = optax.value_and_grad_from_state(objective)

        def step(carry: Any) -> Any:
            steps, x, state, count, _ = carry
            value, grad = known(x, state=state)
            updates, state = cast(Any, tx.update(grad, state, x, value=value, grad=grad, value_fn=objective))
            count += state[-1].info.num_linesearch_steps.astype(jnp.int32)
            x = optax.apply_updates(x, updates)
            leaves = jax.tree.leaves(known(x, state=state)[1])
            return steps + 1, x, state, count, jnp.max(jnp.stack([jnp.abs(leaf).max() for leaf in leaves]))

        infinite = jnp.asarray(jnp.inf, jax.tree.leaves(start)[0].dtype)
        zero = jnp.asarray(0, jnp.int32)
        first = zero, start, tx.init(start), zero + 1, infinite
        last = jax.lax.while_loop(lambda c: (c[4] > limits.tol) & (c[0] < limits.steps), step, first)
        return last[1], last[3], last[4]

    def solve() -> Solution:
        with jax.numpy_dtype_promotion("standard"):  # optax 0.2.8 needs it where 64 bits are on
            x, count, steepest = run(_start(problem), arguments)
        return Solution(x, int(count), float(steepest))

    return solve


def _start(problem: Problem) -> Any:
    return jnp.asarray(problem.start) if isinstance(problem.start, list) else problem.start


def _args(problem: Problem) -> tuple[Any, ...]:
    return tuple(map(jnp.asarray, problem.args))


def _steepest(grad: Any) -> float:
    """In NumPy, which takes less time than the minimisation of a small problem."""
    return max(float(np.abs(np.asarray(leaf)).max()) for leaf in jax.tree.leaves(grad))
