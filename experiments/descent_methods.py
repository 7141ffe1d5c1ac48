"""The methods of `descents`, what they cost, and how they are run by whole batches and by mini-batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

import gradtx
from experiments import minima
from gradtx import GradientTransformation, Outcome

Kind = Literal["full", "mini"]
EVERY = 10
"""Updates from pair to pair of the stochastic L-BFGS."""
LOST = (Outcome.FAILED, Outcome.NO_DESCENT, Outcome.UNBOUNDED)
Params = Any


@dataclass(frozen=True)
class Descent:
    """A method.

    Attributes:
        make: Of a learning rate, which means nothing where `is_tuned` is not.
        extra: What it costs beyond a gradient an update, in gradients, by its state.
        about: Gradients an update on mini-batches, roughly.
        is_searching: Whether it has a line search, which ends at a value and gradient that need not be computed again.
    """

    name: str
    make: Callable[[Any], GradientTransformation]
    is_tuned: bool = True
    extra: Callable[[Any], Any] = lambda state: 0
    about: float = 1.0
    is_searching: bool = False


def _naive(rate: Any) -> GradientTransformation:
    return gradtx.chain(gradtx.scale_by_lbfgs(10), gradtx.scale_by_learning_rate(rate))


def _searched(state: Any) -> Any:
    return state[-1].evaluations


def _solved(state: Any) -> Any:
    return state[-1].evaluations + 2 * state[0].hvps


FIRST_ORDER = (
    Descent("SGD", gradtx.sgd),
    Descent("Momentum", lambda rate: gradtx.sgd(rate, 0.9)),
    Descent("Adam", gradtx.adam),
)
METHODS: dict[Kind, tuple[Descent, ...]] = {
    "full": (
        *FIRST_ORDER,
        Descent("L-BFGS", lambda _: gradtx.lbfgs(memory_size=10), False, _searched, is_searching=True),
        Descent("Newton-CG", lambda _: gradtx.newton_cg(), False, _solved, is_searching=True),
        Descent("Gauss-Newton-CG", lambda _: gradtx.gauss_newton_cg(), False, _solved, is_searching=True),
    ),
    "mini": (
        *FIRST_ORDER,
        Descent(
            "stochastic L-BFGS",
            lambda rate: gradtx.stochastic_lbfgs(rate, 10, EVERY),
            extra=lambda state: 2 * (state[0].count // EVERY),
            about=1 + 2 / EVERY,
        ),
        Descent("naive L-BFGS", _naive),
        Descent("naive L-BFGS, searching", lambda _: gradtx.lbfgs(memory_size=10), False, _searched, about=2.5),
    ),
}


class _Walk(NamedTuple):
    """A run by whole batches: where it is, and what it has recorded."""

    params: Params
    value: jax.Array
    grad: Params
    state: Any
    steps: jax.Array
    costs: Float[Array, " records"]
    values: Float[Array, " records"]
    is_over: jax.Array


@partial(jax.jit, static_argnames=("method", "budget"))
def whole(
    method: Descent, data: tuple[Any, ...], rates: Float[Array, " lanes"], start: Params, budget: int
) -> tuple[Array, Array]:
    """What had been paid, and the objective, at first and after each update, (lanes, budget + 1).

    After the last update costs are infinite, and the objective stays.

    Lanes of first-order methods run side by side; the others, whose updates differ in length, one after another.
    """

    def one(lane: tuple[jax.Array, Params]) -> tuple[jax.Array, jax.Array]:
        rate, params = lane
        tx, objective = method.make(rate), _objective(*data)
        parts = {
            "outputs_fn": lambda params: minima.outputs(params, *data),
            "loss_fn": lambda out: minima.loss_of_outputs(out, *data),
        }

        def step(walk: _Walk) -> _Walk:
            updates, state = tx.update(
                walk.grad, walk.state, walk.params, value=walk.value, grad=walk.grad, value_fn=objective, **parts
            )
            params = gradtx.apply_updates(walk.params, updates)
            if method.is_searching:
                search = state[-1]
                value, grad, cost = search.value, search.grad, 1 + method.extra(state)
                is_lost = jnp.isin(search.outcome, jnp.asarray(LOST, search.outcome.dtype))
            else:
                value, grad = jax.value_and_grad(objective)(params)
                cost = 2 + walk.steps + method.extra(state)
                is_lost = jnp.asarray(False)
            costs = walk.costs.at[walk.steps + 1].set(cost.astype(value.dtype))
            values = walk.values.at[walk.steps + 1].set(value)
            is_over = (cost >= budget) | is_lost | ~jnp.isfinite(value)
            return _Walk(params, value, grad, state, walk.steps + 1, costs, values, is_over)

        value, grad = jax.value_and_grad(objective)(params)
        empty = jnp.full([budget + 1], jnp.inf, value.dtype)
        costs, values, zero = empty.at[0].set(1), empty.at[0].set(value), jnp.zeros([], jnp.int32)
        walk = _Walk(params, value, grad, tx.init(params), zero, costs, values, jnp.asarray(False))
        walk = jax.lax.while_loop(lambda walk: ~walk.is_over & (walk.steps < budget), step, walk)
        return walk.costs, jnp.where(jnp.arange(budget + 1, dtype=jnp.int32) <= walk.steps, walk.values, walk.value)

    lanes = rates, start
    return jax.lax.map(one, lanes) if method.is_searching else jax.vmap(one)(lanes)


def mini(
    method: Descent,
    data: tuple[Any, ...],
    rates: Float[Array, " lanes"],
    start: Params,
    keys: Key[Array, " lanes"],
    batch_size: int,
    checkpoints: tuple[int, ...],
    *,
    is_bare: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """The same at the checkpoints, (lanes, checkpoints); if bare, without looking at the objective: for timing."""
    part = batch_size / data[0].shape[0]
    state = jax.vmap(lambda rate, params: method.make(rate).init(params))(rates, start)
    carry, costs, values, before = (start, state), [], [], 0
    for count in checkpoints:
        carry = _advance(method, data, rates, carry, keys, jnp.asarray((before, count)), batch_size)
        before = count
        if not is_bare:
            values.append(np.asarray(_look(data, carry[0])))
        costs.append(part * (count + np.broadcast_to(jax.vmap(method.extra)(carry[1]), rates.shape)))
    jax.block_until_ready(carry)
    return np.stack(costs, axis=1), np.stack(values or costs, axis=1)


@partial(jax.jit, static_argnames=("method", "batch_size"))
def _advance(
    method: Descent,
    data: tuple[Any, ...],
    rates: Float[Array, " lanes"],
    carry: tuple[Params, Any],
    keys: Key[Array, " lanes"],
    span: Int[Array, "2"],
    batch_size: int,
) -> tuple[Params, Any]:
    images, labels, l2 = data

    def one(rate: jax.Array, params: Params, state: Any, key: Key[Array, ""]) -> tuple[Params, Any]:
        tx = method.make(rate)

        def step(count: jax.Array, carry: tuple[Params, Any]) -> tuple[Params, Any]:
            params, state = carry
            rows = jax.random.randint(jax.random.fold_in(key, count), (batch_size,), 0, images.shape[0])
            objective = _objective(images[rows], labels[rows], l2)
            value, grad = jax.value_and_grad(objective)(params)
            updates, state = tx.update(grad, state, params, value=value, grad=grad, value_fn=objective)
            return gradtx.apply_updates(params, updates), state

        return jax.lax.fori_loop(span[0], span[1], step, (params, state))

    lanes = rates, *carry, keys
    if len(rates) > 1:
        return jax.vmap(one)(*lanes)
    # Alone, a branch is a branch, as whoever trains one model has it: under vmap both sides are computed.
    return jax.tree.map(lambda leaf: leaf[None], one(*jax.tree.map(lambda leaf: leaf[0], lanes)))


@jax.jit
def _look(data: tuple[Any, ...], params: Params) -> Float[Array, " lanes"]:
    return jax.vmap(lambda params: minima.softmax_loss(params, *data))(params)


def _objective(images: Array, labels: Array, l2: Array) -> Callable[[Params], jax.Array]:
    return lambda params: minima.softmax_loss(params, images, labels, l2)
