"""Trainings of many problems as one program: what meta-training differentiates, and what evaluation measures.

Every optimizer here is one of entries by themselves, so that a stack of problems is trained as one problem with larger
leaves: its state needs no axis of problems of its own.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

import gradtx
from experiments.data import Examples
from experiments.tasks import Instance, Task

LARGE = 1e6
"""What a loss counts that is larger, or not a number: a training has diverged then."""


class Running(NamedTuple):
    """A stack of problems on the way: parameters lead with the axis of problems, `step` counts what was done."""

    params: Any
    state: Any
    step: Int[Array, ""]


def start(tx: gradtx.GradientTransformation, problems: Instance) -> Running:
    """Before the first step."""
    return Running(problems.params, tx.init(problems.params), jnp.zeros((), jnp.int32))


def unroll(
    task: Task,
    tx: gradtx.GradientTransformation,
    running: Running,
    problems: Instance,
    examples: Examples | None,
    steps: int,
    scales: Any = None,
) -> tuple[Running, Float[Array, "steps problems"]]:
    """So many steps. The losses are those on the batch of each step at the parameters before it.

    Args:
        task: Whose loss is trained.
        tx: The optimizer.
        running: Where the problems stand.
        problems: Their own numbers.
        examples: Images, if the task has some.
        steps: How many.
        scales: Like the parameters: the loss is taken at `scales * params` (random scaling). None is 1.
    """

    def loss(params: Any, own: Any, scale: Any, step: Int[Array, ""]) -> Float[Array, ""]:
        scaled = params if scales is None else jax.tree.map(jnp.multiply, params, scale)
        return task.loss(scaled, own, step, examples)

    def one(running: Running, _: None) -> tuple[Running, Float[Array, " problems"]]:
        point = tx.gradient_params(running.params, running.state)
        losses, gradients = jax.vmap(jax.value_and_grad(loss), (0, 0, 0, None))(
            point, problems.own, scales, running.step
        )
        updates, state = tx.update(gradients, running.state, running.params)
        return Running(gradtx.apply_updates(running.params, updates), state, running.step + 1), losses

    return jax.lax.scan(one, running, length=steps)


def losses_at_end(
    task: Task, tx: gradtx.GradientTransformation, running: Running, problems: Instance, examples: Examples | None
) -> Float[Array, " problems"]:
    """On the next batch, at the parameters to evaluate."""
    point = tx.eval_params(running.params, running.state)
    return jax.vmap(lambda params, own: task.loss(params, own, running.step, examples))(point, problems.own)


@partial(jax.jit, static_argnames=("task", "count"))
def draw(task: Task, key: Key[Array, ""], count: int) -> Instance:
    """So many problems, stacked. A program of its own: what draws random numbers is slow to compile."""
    return jax.vmap(task.draw)(jax.random.split(key, count))


@partial(jax.jit, static_argnames=("task", "steps"))
def curves(
    task: Task, tx: gradtx.GradientTransformation, problems: Instance, examples: Examples | None, steps: int
) -> Float[Array, "problems steps_and_one"]:
    """The losses of whole trainings, before each step and after the last; at most `LARGE`."""
    count = jax.tree.leaves(problems)[0].shape[0]
    together = max(size for size in range(1, min(count, task.together) + 1) if count % size == 0)

    def chunk(problems: Instance) -> Float[Array, "together steps_and_one"]:
        running, losses = unroll(task, tx, start(tx, problems), problems, examples, steps)
        last = losses_at_end(task, tx, running, problems, examples)
        return jnp.concatenate([losses, last[None]]).T

    chunks = jax.tree.map(lambda leaf: leaf.reshape(count // together, together, *leaf.shape[1:]), problems)
    made = jax.lax.map(chunk, chunks).reshape(count, steps + 1)
    return jnp.where(made < LARGE, made, LARGE)  # NaN is not less
