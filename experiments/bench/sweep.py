"""Sixteen learning rates: one gradtx program, against sixteen optax runs compiled one by one.

That is how optax is used, since a learning rate is a constant of its program. Compiling is part of the
time. A third contender is what a user who knows JAX well may write, one program over a function that *builds*
the optax transformation from a traced learning rate: it shows what of the gain is the one program, and what is
gradtx offering it. That all three train the same losses is checked.

The one program is `vmap` for softmax regression. For the MLP it is `lax.map`, with the learning rates spread over the
cores as devices: on CPU, XLA's batched matrix products are slower than the same products one after another, and one
training alone does not keep two cores busy. The gain falls with the number of steps, since less of the time is
compiling; so there is a short and a long row for each.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console

import gradtx
from experiments.bench import problems
from experiments.bench.goals import at_least
from experiments.bench.program import no_compilation_cache
from experiments.bench.report import Report, new_table, ratio_text, time_text
from experiments.bench.timing import Spread, alternate, collector_off, paired, seconds_of
from experiments.lanes import RATE, Mode, Plan

RATES = np.geomspace(1e-4, 3e-2, 16, dtype=np.float32)
STEPS: Mapping[str, tuple[int, ...]] = {"softmax": (100, 500), "mlp": (50, 250)}
# A goal is for the shorter row, the first look at a grid that sweeps are for.
GOALS: Mapping[str, float] = {"softmax": 10.0, "mlp": 3.5}
MODES: Mapping[str, Mode] = {"softmax": "vmap", "mlp": "map"}
# All must train the same losses, up to float32's rounding: so long as training has not yet amplified it.
AGREEING_STEPS, TOLERANCE = 10, 1e-3


@dataclass(frozen=True)
class Row:
    """One problem's sweep, compile included. Unit: seconds."""

    problem: str
    steps: int
    rates: int
    gradtx: Spread
    optax: Spread
    optax_inside: Spread


def losses(library: Any, tx: Any, params: Any, batches: problems.Batch) -> jax.Array:
    """The loss at every step of a run."""
    step = partial(problems.train_step, library, tx)
    return jax.lax.scan(step, (params, tx.init(params)), batches)[1]


def lanes(problem: str, rates: int, curve: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """`curve` of all learning rates, as this problem is quickest."""
    mode = MODES[problem]
    devices = jax.devices()[: 1 if mode == "vmap" else math.gcd(rates, jax.device_count())]
    plan = Plan.of(mode, 1, rates, devices=devices)

    def block(rates: jax.Array, params: Any, batches: problems.Batch) -> jax.Array:
        return plan.each(partial(curve, params, batches))(rates)

    return plan.spread(block, RATE, None, None, out=RATE)


def one_program(problem: str, rates: jax.Array, params: Any, batches: problems.Batch) -> jax.Array:
    """gradtx: the learning rate is data, and each lane puts its own into the transformation."""
    tx = gradtx.adam(1e-3)

    def curve(params: Any, batches: problems.Batch, rate: jax.Array) -> jax.Array:
        return losses(gradtx, tx.replace(learning_rate=rate), params, batches)

    return jax.jit(lanes(problem, len(rates), curve))(rates, params, batches)


def one_by_one(problem: str, rates: jax.Array, params: Any, batches: problems.Batch) -> jax.Array:
    """optax: a program for each learning rate."""
    runs = [jax.jit(partial(losses, optax, optax.adam(rate)))(params, batches) for rate in np.asarray(rates).tolist()]
    return jnp.stack(runs)


def built_inside(problem: str, rates: jax.Array, params: Any, batches: problems.Batch) -> jax.Array:
    """optax, built from a traced learning rate inside the one program."""

    def curve(params: Any, batches: problems.Batch, rate: jax.Array) -> jax.Array:
        return losses(optax, optax.adam(rate), params, batches)

    return jax.jit(lanes(problem, len(rates), curve))(rates, params, batches)


CONTENDERS: Mapping[str, Callable[[str, jax.Array, Any, problems.Batch], jax.Array]] = {
    "gradtx": one_program,
    "optax": one_by_one,
    "optax_inside": built_inside,
}


def measure(problem: str, *, steps: int, rates: np.ndarray, rounds: int) -> Row:
    """One problem, each contender once a round, from empty caches."""
    arguments = (problem, jnp.asarray(rates), problems.init(problem), problems.batches(steps))
    results: dict[str, jax.Array] = {}
    samples: dict[str, list[float]] = {name: [] for name in CONTENDERS}

    def run(name: str) -> None:
        results[name] = jax.block_until_ready(CONTENDERS[name](*arguments))

    with no_compilation_cache():
        for name in CONTENDERS:  # what a process does once (importing, warming up) is not part of a sweep
            run(name)
        for name in alternate(list(CONTENDERS), rounds):
            jax.clear_caches()
            with collector_off():
                samples[name].append(seconds_of(partial(run, name)))
    for name in ("optax", "optax_inside"):
        ours, theirs = (result[:, :AGREEING_STEPS] for result in (results["gradtx"], results[name]))
        np.testing.assert_allclose(ours, theirs, rtol=TOLERANCE, err_msg=f"gradtx and {name} train differently")
    spreads = {name: Spread.of(values) for name, values in samples.items()}
    return Row(problem, steps, len(rates), **spreads)


def sweep(console: Console, *, smoke: bool, rounds: int) -> Report:
    """Both problems."""
    rows: list[Row] = []
    for problem, lengths in STEPS.items():
        for steps in (3,) if smoke else lengths:
            with console.status(f"{problems.TITLES[problem]}, {steps} steps"):
                rates = RATES[::8] if smoke else RATES
                rows.append(measure(problem, steps=steps, rates=rates, rounds=rounds))

    title = f"Adam with {rows[0].rates} learning rates, batch {problems.BATCH}, compile included, seconds"
    columns = ("steps", "gradtx", "optax, one by one", "optax inside", "optax/gradtx")
    table = new_table(title, "", *columns)
    goals = []
    for row in rows:
        gain = paired(row.optax, row.gradtx)
        times = (time_text(spread, 1.0) for spread in (row.gradtx, row.optax, row.optax_inside))
        table.add_row(problems.TITLES[row.problem], str(row.steps), *times, ratio_text(gain))
        if smoke or row.steps == STEPS[row.problem][0]:
            goals.append(at_least("optax one by one, against gradtx", GOALS[row.problem], {row.problem: gain}))
    note = (
        f"One program: vmap for softmax regression; lax.map for the MLP, over {jax.device_count()} devices of the CPU. "
        "optax inside: the same, with optax.adam(rate) built in it. More steps, smaller part of compiling."
    )
    return Report("sweep", {"rounds": rounds, "rates": RATES.tolist()}, rows, [table], goals, [note])
