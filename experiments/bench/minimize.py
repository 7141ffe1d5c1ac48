"""L-BFGS to convergence: gradtx's beside scipy's and optax's, and gradtx's Newton-CG; evaluations and seconds.

All have the same memory and stop at the same gradient, in float64. gradtx and optax run a compiled loop; scipy's loop
is outside, and calls a compiled objective. Compiling is not part of the time.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

import gradtx
from experiments import minima
from experiments.bench.goals import at_most
from experiments.bench.report import Report, new_table, time_text
from experiments.bench.timing import Ratio, Run, Spread, interleave

SOFTMAX = "softmax, 1,000 x 784"
CONTENDERS: dict[str, Callable[[minima.Problem], minima.Solver]] = {
    "gradtx": lambda problem: minima.by_gradtx(problem, gradtx.lbfgs(memory_size=minima.MEMORY)),
    "scipy": minima.by_scipy,
    "optax": minima.by_optax,
    "newton_cg": lambda problem: minima.by_gradtx(problem, gradtx.newton_cg()),
}
SCIPY, OPTAX = 1.15, 1.0
"""Goals: evaluations of gradtx's, as a multiple of the others'."""


@dataclass(frozen=True)
class Row:
    """One problem. `evaluations` and `times` (seconds a minimisation) by contender; a product is two evaluations."""

    problem: str
    evaluations: dict[str, int]
    times: dict[str, Spread]


def minimize(console: Console, *, smoke: bool, rounds: int) -> Report:
    """Each problem, by each contender in turns."""
    rows: list[Row] = []
    with jax.enable_x64(True):
        problems = dict(list(minima.PROBLEMS.items())[:1]) if smoke else minima.PROBLEMS | {SOFTMAX: _softmax()}
        for name, problem in problems.items():
            with console.status(name):
                solvers = {label: made(problem) for label, made in CONTENDERS.items()}
                evaluations = {label: solve() for label, solve in solvers.items()}
                runs = {label: _run(solve) for label, solve in solvers.items()}
                times = interleave(runs, rounds=rounds, block_seconds=0.001 if smoke else 0.1)
            rows.append(Row(name, evaluations, times))

    counts = new_table("evaluations to a gradient of 1e-5", "", *CONTENDERS)
    seconds = new_table("ms a minimisation", "", *CONTENDERS)
    for row in rows:
        counts.add_row(row.problem, *(str(row.evaluations[label]) for label in CONTENDERS))
        seconds.add_row(row.problem, *(time_text(row.times[label]) for label in CONTENDERS))
    goals = [
        at_most(f"evaluations, against {peer}", bound, {row.problem: _ratio(row, peer) for row in rows})
        for peer, bound in (("scipy", SCIPY), ("optax", OPTAX))
    ]
    notes = ["newton_cg: a Hessian-vector product is counted as two evaluations. softmax: random images, l2 = 1e-3."]
    return Report("minimize", {"rounds": rounds}, rows, [counts, seconds], goals, notes)


def _ratio(row: Row, peer: str) -> Ratio:
    return Ratio.exact(row.evaluations["gradtx"] / row.evaluations[peer])


def _run(solve: minima.Solver) -> Run:
    def run(times: int) -> None:
        for _ in range(times):
            solve()

    return run


def _softmax() -> minima.Problem:
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.random((1000, 784)) ** 4)
    return minima.softmax_problem(images, jnp.asarray(rng.integers(10, size=1000)), 1e-3)
