"""A step of each second-order method, in gradients of what it minimises, and what the compiler made of it.

Softmax regression on random images, in float32: a small one, so that Newton's whole Hessian fits, and one of MNIST's
size. All steps begin at the same point, a few steps on the way, where memories hold pairs; each is repeated from there,
undonated, so that all do the same work every time. The peer is optax's L-BFGS.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console

import gradtx
from experiments import minima
from experiments.bench.goals import at_most
from experiments.bench.program import Program
from experiments.bench.report import Report, new_table, ratio_text, time_text
from experiments.bench.timing import Run, Spread, interleave, paired

SIZES: Mapping[str, tuple[int, int]] = {"1,000 x 20": (1000, 20), "1,000 x 784": (1000, 784)}
"""Images and pixels."""
SMOKE_SIZES: Mapping[str, tuple[int, int]] = {"20 x 3": (20, 3)}
MOST_PIXELS_OF_NEWTON = 20
L2 = 1e-3
BEFORE = 12
"""Steps before the one that is timed: more than L-BFGS has pairs."""
GRADIENT, OURS, PEER = "a gradient", "lbfgs", "optax.lbfgs"
STEP = 1.0
"""Goal: time of a step of L-BFGS, as a part of optax's."""


@dataclass(frozen=True)
class Row:
    """One method on one objective. `time`: seconds a step."""

    objective: str
    method: str
    time: Spread
    program: Program


def second_order(console: Console, *, smoke: bool, rounds: int) -> Report:
    """Each method in turns."""
    rows: list[Row] = []
    for name, (count, pixels) in (SMOKE_SIZES if smoke else SIZES).items():
        with console.status(name):
            ready = _ready(_problem(count, pixels))
            runs = {label: run for label, (run, _) in ready.items()}
            times = interleave(runs, rounds=rounds, block_seconds=1e-3 if smoke else 0.05)
            rows += [Row(name, label, times[label], program) for label, (_, program) in ready.items()]

    by = {(row.objective, row.method): row for row in rows}
    objectives = list(dict.fromkeys(row.objective for row in rows))
    table = new_table("a step on softmax regression", "", "ms", "/gradient", "kernels", "temporary KiB")
    for row in rows:
        table.add_row(
            f"{row.objective}, {row.method}",
            time_text(row.time),
            ratio_text(paired(row.time, by[row.objective, GRADIENT].time)),
            str(row.program.kernels),
            f"{row.program.temporary_bytes / 1024:,.1f}",
        )
    against = {name: paired(by[name, OURS].time, by[name, PEER].time) for name in objectives}
    notes = [
        "/gradient: over the time of the objective with its gradient. How many of these a step takes depends on where "
        "it is: a search of L-BFGS's takes one mostly, Newton-CG a product for each step of its inner loop.",
    ]
    goals = [at_most("a step of L-BFGS against optax's", STEP, against)]
    return Report("second-order", {"rounds": rounds}, rows, [table], goals, notes)


def _problem(count: int, pixels: int) -> minima.Problem:
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.random((count, pixels)) ** 4, jnp.float32)
    return minima.softmax_problem(images, jnp.asarray(rng.integers(10, size=count)), L2)


def methods(pixels: int) -> dict[str, gradtx.GradientTransformation]:
    """Those that can be run at that size."""
    found: dict[str, gradtx.GradientTransformation] = {
        OURS: gradtx.lbfgs(memory_size=minima.MEMORY),
        "stochastic_lbfgs": gradtx.stochastic_lbfgs(0.1, minima.MEMORY, every=1),
        "newton_cg": gradtx.newton_cg(),
        "gauss_newton_cg": gradtx.gauss_newton_cg(),
    }
    if pixels <= MOST_PIXELS_OF_NEWTON:
        found["newton"] = gradtx.newton()
    return found


def _ready(problem: minima.Problem) -> dict[str, tuple[Run, Program]]:
    """The steps, compiled, and what they are."""
    start, data = problem.start, problem.args

    def gradient(params: Any, data: Any) -> Any:
        return jax.value_and_grad(problem.function)(params, *data)

    found = {GRADIENT: _compiled(gradient, start, data)}
    for name, tx in methods(start["kernel"].shape[0]).items():
        carry = _advanced(_step, tx, (start, tx.init(start), *gradient(start, data)), data)
        found[name] = _compiled(_step, tx, carry, data)
    theirs = optax.lbfgs(memory_size=minima.MEMORY)

    def peer(carry: Any, data: Any) -> Any:
        def objective(params: Any) -> jax.Array:
            return problem.function(params, *data)

        params, state = carry
        value, grads = optax.value_and_grad_from_state(objective)(params, state=state)
        updates, state = cast(Any, theirs.update(grads, state, params, value=value, grad=grads, value_fn=objective))
        return optax.apply_updates(params, updates), state

    found[PEER] = _compiled(peer, _advanced(peer, (start, theirs.init(start)), data), data)
    return found


def _step(tx: gradtx.GradientTransformation, carry: Any, data: Any) -> Any:
    """As `minimize` has it: what a line search has evaluated serves the next step."""

    def objective(params: Any) -> jax.Array:
        return minima.softmax_loss(params, *data)

    params, state, value, grad = carry
    parts = {
        "outputs_fn": lambda params: minima.outputs(params, *data),
        "loss_fn": lambda out: minima.loss_of_outputs(out, *data),
    }
    updates, state = tx.update(grad, state, params, value=value, grad=grad, value_fn=objective, **parts)
    params = gradtx.apply_updates(params, updates)
    if hasattr(state[-1], "value"):
        return params, state, state[-1].value, state[-1].grad
    return params, state, *jax.value_and_grad(objective)(params)


def _advanced(step: Callable[..., Any], *arguments: Any) -> Any:
    """The carry, last but one of the arguments, after a few steps."""
    *tx, carry, data = arguments
    once = jax.jit(step)
    for _ in range(BEFORE):
        carry = once(*tx, carry, data)
    return carry


def _compiled(function: Callable[..., Any], *arguments: Any) -> tuple[Run, Program]:
    compiled = jax.jit(function).lower(*arguments).compile()

    def run(times: int) -> None:
        for _ in range(times):
            jax.block_until_ready(compiled(*arguments))

    return run, Program.of(compiled)
