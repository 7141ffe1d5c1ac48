"""L-BFGS to convergence on 59 test problems: gradtx's beside scipy's and optax's, and Newton-CG; and times of a few.

All have the same memory, and stop where no entry of the gradient is above 1e-5 (in float32 1e-4) or after 2,000
iterations. gradtx and optax run a compiled loop; scipy's loop is outside, in float64, and calls a compiled objective.
Compiling is not part of the time.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

import gradtx
from experiments import minima
from experiments.bench import more_garbow_hillstrom, other_minima
from experiments.bench.goals import Goal, at_least, at_most
from experiments.bench.report import Report, new_table, time_text
from experiments.bench.timing import Ratio, Run, Spread, interleave, paired
from experiments.errors import ExperimentError

Precision = Literal["float64", "float32"]
Method = Literal["lbfgs", "scipy", "optax", "newton_cg", "trust-ncg"]

PROBLEMS: Mapping[str, minima.Problem] = more_garbow_hillstrom.PROBLEMS | other_minima.PROBLEMS
ITERATIONS = 2000
TOLERANCES: Mapping[Precision, float] = {"float64": 1e-5, "float32": 1e-4}
HIGHER: Mapping[Precision, float] = {"float64": 1e-3, "float32": 1e-2}
"""Tolerance on a value above the lowest that any method found: absolute, and relative where that is above 1."""

METHODS: Mapping[Method, Callable[[minima.Problem, minima.Limits], minima.Solver]] = {
    "lbfgs": lambda problem, limits: minima.by_gradtx(problem, gradtx.lbfgs(memory_size=minima.MEMORY), limits=limits),
    "scipy": minima.by_scipy,
    "optax": minima.by_optax,
    "newton_cg": lambda problem, limits: minima.by_gradtx(problem, gradtx.newton_cg(), limits=limits),
    "trust-ncg": minima.by_trust_ncg,
}
OURS: Method = "lbfgs"
FIRST_ORDER: Sequence[Method] = ("lbfgs", "scipy", "optax")
BY_PRECISION: Mapping[Precision, Sequence[Method]] = {"float64": get_args(Method), "float32": FIRST_ORDER}

SOLVED: Mapping[Precision, int] = {"float64": 58, "float32": 52}
RATIOS: Mapping[Method, float] = {"scipy": 1.0, "optax": 0.9}
"""Goals: how many problems are solved, and the geometric mean of evaluations in float64, against the others'."""
TIME = 1.3
"""Goal: time against optax's, where an objective costs nothing."""
TIMED = ("rosenbrock", "rosenbrock-100", "beale", "himmelblau", "powell-singular", "quadratic-1e6")
SOFTMAX = "softmax"
TIMED_METHODS: Sequence[Method] = (*FIRST_ORDER, "newton_cg")


@dataclass(frozen=True)
class Found:
    """Where a method stopped. `value`: in float64; it and the gradient are None where they are not finite."""

    evaluations: int
    steepest: float | None
    value: float | None


@dataclass(frozen=True)
class Row:
    """One problem in one precision, by method."""

    problem: str
    size: int
    precision: Precision
    found: dict[str, Found]

    def is_solved(self, method: str) -> bool:
        steepest = self.found[method].steepest
        return steepest is not None and steepest <= TOLERANCES[self.precision]


@dataclass(frozen=True)
class Timed:
    """Seconds a minimisation, by method, and evaluations; all to a gradient of 1e-5 in float64."""

    problem: str
    evaluations: dict[str, int]
    times: dict[str, Spread]


def minimize(
    console: Console,
    *,
    smoke: bool,
    rounds: int,
    only: Sequence[str] = (),
    methods: Sequence[Method] = get_args(Method),
) -> Report:
    """Each problem by each method. Where only some are asked for, times and the goals on all problems are left out."""
    unknown = [name for name in only if name not in PROBLEMS]
    if unknown:
        raise ExperimentError(f"unknown problem {unknown[0]!r}; there are {', '.join(PROBLEMS)}")
    names = only or (TIMED[:1] if smoke else list(PROBLEMS))
    rows: list[Row] = []
    for name in names:
        for precision, all_methods in BY_PRECISION.items():
            with console.status(f"{name}, {precision}"):
                rows.append(_row(name, precision, [method for method in all_methods if method in methods]))
        jax.clear_caches()  # all these programs would take gigabytes
    goals = _goals(rows) if set(names) == set(PROBLEMS) else []
    tables = [_evaluations(rows), _summary(rows)]
    notes = [
        "(n): the gradient was not reached, after n evaluations. n↑: it was, but the value is above the lowest that any"
        " method found, by more than 1e-3 (float32: 1e-2) of it, or of 1 where it is smaller. A Hessian-vector "
        "product counts as two evaluations. Means: geometric, over the problems that both solve; least and largest.",
    ]
    timed: list[Timed] = []
    if not only and set(methods) == set(get_args(Method)):
        timed = _timed(console, names, smoke=smoke, rounds=rounds)
        tables.append(_seconds(timed))
        counts = ", ".join(f"{method} {count}" for method, count in timed[-1].evaluations.items())
        notes.append(f"Evaluations on {timed[-1].problem}: {counts}. softmax: 1,000 random images of 784, l2 = 1e-3.")
        costless = {row.problem: paired(row.times[OURS], row.times["optax"]) for row in timed if row.problem != SOFTMAX}
        goals.append(at_most("time against optax, costless objectives", TIME, costless))
    return Report("minimize", {"rounds": rounds}, [*rows, *timed], tables, goals, notes)


def _row(name: str, precision: Precision, methods: Sequence[Method]) -> Row:
    problem, limits = PROBLEMS[name], minima.Limits(TOLERANCES[precision], ITERATIONS)
    found: dict[str, Found] = {}
    for method in methods:
        with jax.enable_x64(precision == "float64"):
            solution = METHODS[method](problem, limits)()
        with jax.enable_x64(True):
            value = problem.function(jnp.asarray(solution.params, jnp.float64), *map(jnp.asarray, problem.args))
        found[method] = Found(solution.evaluations, _finite(solution.steepest), _finite(float(value)))
    return Row(name, len(problem.start), precision, found)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _evaluations(rows: Sequence[Row]) -> Table:
    """A line for each problem: the precisions side by side."""
    columns = {(row.precision, method): None for row in rows for method in row.found}
    heads = [method if precision == "float64" else f"{method}32" for precision, method in columns]
    table = new_table("evaluations to a gradient of 1e-5; 32: in float32, to 1e-4", "", "n", *heads)
    by = {(row.problem, row.precision): row for row in rows}
    for name in dict.fromkeys(row.problem for row in rows):
        lowest = _lowest(rows, name)
        cells = [_cell(by[name, precision], method, lowest) for precision, method in columns]
        table.add_row(name, str(by[name, rows[0].precision].size), *cells)
    return table


def _lowest(rows: Sequence[Row], name: str) -> float:
    """That any method found, in either precision."""
    values = [found.value for row in rows if row.problem == name for found in row.found.values()]
    return min((value for value in values if value is not None), default=math.inf)


def _is_low(row: Row, method: str, lowest: float) -> bool:
    value = row.found[method].value
    return value is not None and value - lowest <= HIGHER[row.precision] * max(1.0, abs(lowest))


def _cell(row: Row, method: str, lowest: float) -> str:
    count = str(row.found[method].evaluations)
    if not row.is_solved(method):
        return f"({count})"
    return count if _is_low(row, method, lowest) else f"{count}↑"


def _summary(rows: Sequence[Row]) -> Table:
    table = new_table("of these", "", "gradient", "lowest value", "both", "mean, /scipy", "mean, /optax")
    for precision in BY_PRECISION:
        here = [row for row in rows if row.precision == precision]
        for method in here[0].found:
            solved = {row.problem for row in here if row.is_solved(method)}
            low = {row.problem for row in here if _is_low(row, method, _lowest(rows, row.problem))}
            counts = [str(len(names)) for names in (solved, low, solved & low)]
            means = [_mean_text(_ratios(here, method, peer)) if peer in here[0].found else "" for peer in RATIOS]
            table.add_row(f"{precision}, {method}", *counts, *means)
    return table


def _ratios(rows: Sequence[Row], method: str, peer: str) -> dict[str, float]:
    """Evaluations as a multiple of the peer's, where both solve the problem."""
    both = [row for row in rows if row.is_solved(method) and row.is_solved(peer)]
    return {row.problem: row.found[method].evaluations / row.found[peer].evaluations for row in both}


def _mean(ratios: Mapping[str, float]) -> float:
    return math.exp(math.fsum(map(math.log, ratios.values())) / len(ratios))


def _mean_text(ratios: Mapping[str, float]) -> str:
    """The geometric mean; the least and the largest."""
    return f"{_mean(ratios):.3g} ({min(ratios.values()):.2f}–{max(ratios.values()):.2f})" if ratios else "–"


def _goals(rows: Sequence[Row]) -> list[Goal]:
    """Goals over all problems. In place of a worst row: what is not solved, and where the ratio is largest."""
    goals: list[Goal] = []
    for precision, bound in SOLVED.items():
        here = [row for row in rows if row.precision == precision and OURS in row.found]
        if here:
            left = [row.problem for row in here if not row.is_solved(OURS)]
            where = f"not: {', '.join(left)}" if left else ""
            solved = Ratio.exact(len(here) - len(left))
            goals.append(at_least(f"{precision}: solved by {OURS}", bound, {where: solved}))
    here = [row for row in rows if row.precision == "float64"]
    for peer, bound in RATIOS.items():
        if {OURS, peer} <= set(here[0].found):
            ratios = _ratios(here, OURS, peer)
            worst = max(ratios, key=lambda name: ratios[name])
            where = f"{worst}: {ratios[worst]:.2f}"
            goals.append(at_most(f"evaluations, mean, against {peer}", bound, {where: Ratio.exact(_mean(ratios))}))
    return goals


def _timed(console: Console, names: Sequence[str], *, smoke: bool, rounds: int) -> list[Timed]:
    """Each contender in turns."""
    timed: list[Timed] = []
    with jax.enable_x64(True):
        problems = {name: PROBLEMS[name] for name in TIMED if name in names}
        for name, problem in (problems if smoke else problems | {SOFTMAX: _softmax()}).items():
            with console.status(f"time of {name}"):
                solvers = {method: METHODS[method](problem, minima.LIMITS) for method in TIMED_METHODS}
                evaluations = {method: minima.needed(solve) for method, solve in solvers.items()}
                runs = {method: _run(solve) for method, solve in solvers.items()}
                times = interleave(runs, rounds=rounds, block_seconds=0.001 if smoke else 0.1)
            timed.append(Timed(name, dict(evaluations), dict(times)))
    return timed


def _seconds(timed: Sequence[Timed]) -> Table:
    table = new_table("ms a minimisation", "", *TIMED_METHODS)
    for row in timed:
        table.add_row(row.problem, *(time_text(row.times[method]) for method in TIMED_METHODS))
    return table


def _run(solve: minima.Solver) -> Run:
    def run(times: int) -> None:
        for _ in range(times):
            solve()

    return run


def _softmax() -> minima.Problem:
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.random((1000, 784)) ** 4)
    return minima.softmax_problem(images, jnp.asarray(rng.integers(10, size=1000)), 1e-3)
