"""Down one convex objective with first and second derivatives: from far and from near, by whole and by mini-batches.

Softmax regression with an L2 penalty on MNIST, in float64, so that an optimum is one. All methods pay in one coin, the
gradient of the whole objective: that of a mini-batch costs its part, and a Hessian-vector product two gradients of what
it is of. The value comes with the gradient.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Int

import gradtx
from experiments import descent_methods, minima
from experiments.bench.timing import Run, interleave
from experiments.comparison import FINAL_SEEDS_FROM
from experiments.data import Examples
from experiments.descent_methods import Descent, Kind
from experiments.descent_readings import effort
from experiments.models import softmax_regression
from experiments.study import Context
from experiments.sweep import key_of
from experiments.tuning import Grid, tune

MODEL = softmax_regression(28 * 28, 10)
NEAR = 0.01
"""The stage "near" begins where the objective is above its least by this part of what it is above it at first."""
TARGETS = {"far": 0.01, "near": 1e-6}
"""What part is left of the first excess where a stage is done."""
A_DECADE = 24
"""Checkpoints of a mini-batch run; in between the objective is not known, so that costs are up to a tenth too high."""
FINE = 4
"""Costs of the common axis from checkpoint to checkpoint."""
TIMED, ROUNDS = 3, 21
"""Runs, of which the quickest counts: of a method, and of a gradient and a product in turns."""
Params = Any


@dataclass(frozen=True)
class Descents:
    """A tier.

    Attributes:
        train_size: Training images.
        batch_size: Of a mini-batch, drawn anew for each update, with replacement.
        l2: Half of it times the squared parameters is added to the mean cross-entropy.
        budget: What a run with whole batches may cost, in gradients.
        passes: What a run with mini-batches may cost, in the same coin: far, and near.
        solved: Training images on which solvers run to convergence.
    """

    train_size: int
    batch_size: int
    l2: float
    budget: int
    passes: tuple[float, float]
    seeds: int
    tuning_seeds: int
    grid: Grid
    solved: tuple[int, ...]
    estimate: str = field(repr=False)
    scale: str = field(default="", repr=False)


class Setting(NamedTuple):
    """The data, the optimum, and where runs begin by seed: `starts` has a leading axis of seeds."""

    problem: minima.Problem
    least: Float[Array, ""]
    excess: Float[np.ndarray, " seeds"]
    starts: Params


def run(tier: Descents, context: Context) -> xr.Dataset:
    """The labelled results.

    Returns:
        For each kind of gradient (whole: `full`, `evaluation`; mini-batch: `mini`, `pass`): the part of the first
        excess that is left, `full_excess` (stage, full, seed, evaluation) and `mini_excess` (stage, mini, seed, pass),
        infinite where it is not finite, NaN where nothing was recorded; `full_rate`, `full_at_edge` and `full_seconds`
        (stage, full), the last those of a gradient's worth of work; `full_tuning` (stage, full, full_learning_rate),
        the effort by rate; and so for `mini`. Of the optimum `least`, `largest_gradient`, `first_excess` (seed).
        `evaluations` (solver, images): to a gradient of 1e-5 from zeros. `product_seconds`, `gradient_seconds`.
    """
    assert context.dataset is not None
    with jax.enable_x64(True):
        return _run(tier, context, context.dataset.train)


def expected(tier: Descents) -> Mapping[str, float]:
    """The parts, and about what they cost: gradients of lanes."""
    costs = {"optimum": 100.0} | {_solved_name(size): 800.0 * size / tier.train_size for size in tier.solved}
    for stage in TARGETS:
        for kind, method in _all():
            if method.is_tuned:
                rates = tier.grid.rates
                costs[_tuning_name(stage, kind, method, rates)] = _tuning_cost(tier, kind, stage, rates)
            costs[_final_name(stage, kind, method)] = _budget(tier, kind, stage) * (tier.seeds + 1)
    return costs


def _budget(tier: Descents, kind: Kind, stage: str) -> float:
    """Of a run, in gradients."""
    return float(tier.budget if kind == "full" else dict(zip(TARGETS, tier.passes, strict=True))[stage])


def _all() -> list[tuple[Kind, Descent]]:
    return [(kind, method) for kind, methods in descent_methods.METHODS.items() for method in methods]


def _tuning_name(stage: str, kind: Kind, method: Descent, rates: Sequence[float]) -> str:
    return f"{stage}/{kind}/{method.name}/tuning/{rates[0]:g}-{rates[-1]:g}"


def _final_name(stage: str, kind: Kind, method: Descent) -> str:
    return f"{stage}/{kind}/{method.name}/final"


def _tuning_cost(tier: Descents, kind: Kind, stage: str, rates: Sequence[float]) -> float:
    return _budget(tier, kind, stage) * len(rates) * tier.tuning_seeds


def _solved_name(size: int) -> str:
    return f"solvers/{size}"


def _run(tier: Descents, context: Context, train: Examples) -> xr.Dataset:
    costs = expected(tier)
    for cost in costs.values():
        context.progress.expect(cost)
    problem = _problem(tier, train, tier.train_size)
    optimum = context.part("optimum", costs["optimum"], lambda _: _optimum(problem))
    solved = [
        context.part(name, costs[name], lambda _, size=size: _solvers(_problem(tier, train, size)))
        for size in tier.solved
        for name in [_solved_name(size)]
    ]
    solvers = xr.concat(solved, "images").assign_coords(images=list(tier.solved))
    best = {name: jnp.asarray(optimum[name].values) for name in ("bias", "kernel")}
    rows: dict[Kind, dict[str, list[xr.Dataset]]] = {kind: {} for kind in descent_methods.METHODS}
    settings: dict[str, Setting] = {}
    for stage in TARGETS:
        settings = _settings(tier, problem, best, stage)
        for kind, method in _all():
            rows[kind].setdefault(stage, []).append(_method(tier, context, settings, stage, kind, method))
    parts = [_joined(kind, stages) for kind, stages in rows.items()]
    first = xr.Dataset({"first_excess": ("seed", settings["final"].excess)})
    return xr.merge([*parts, first, optimum.drop_vars(["bias", "kernel"]), solvers], combine_attrs="drop")


def _joined(kind: Kind, stages: Mapping[str, list[xr.Dataset]]) -> xr.Dataset:
    names = [method.name for method in descent_methods.METHODS[kind]]
    by_stage = [xr.concat(one, "method", join="outer").assign_coords(method=names) for one in stages.values()]
    whole = xr.concat(by_stage, "stage", join="outer").assign_coords(stage=list(stages))
    along = "evaluation" if kind == "full" else "pass"
    renamed = whole.rename({name: f"{kind}_{name}" for name in map(str, whole.data_vars)})
    return renamed.rename({"method": kind, "cost": along, "learning_rate": f"{kind}_learning_rate"})


def _method(
    tier: Descents, context: Context, settings: Mapping[str, Setting], stage: str, kind: Kind, method: Descent
) -> xr.Dataset:
    """Tune one method in one stage, follow its final runs, and time it."""
    budget = _budget(tier, kind, stage)

    def train(rates: Sequence[float]) -> xr.Dataset:
        name = _tuning_name(stage, kind, method, rates)
        cost = _tuning_cost(tier, kind, stage, rates)
        if list(rates) != tier.grid.rates:
            context.progress.expect(cost)
        return context.part(name, cost, lambda _: _tuning(tier, settings["tuning"], stage, kind, method, rates))

    chosen, edge, curves = float("nan"), False, None
    if method.is_tuned:
        tuned = tune(tier.grid, train)
        chosen = float("nan") if tuned.chosen is None else tuned.chosen
        edge, curves = tuned.edge is not None, -tuned.curves.validation_accuracy.isel(epoch=0).mean("seed")
    name = _final_name(stage, kind, method)
    final = context.part(
        name, expected(tier)[name], lambda _: _final(tier, settings["final"], kind, method, chosen, budget)
    )
    if curves is None:
        curves = xr.DataArray([np.nan], dims="learning_rate", coords={"learning_rate": [tier.grid.rates[0]]})
    # What is not recorded is NaN when stages are joined; so what is not finite must not be.
    begun = final.excess.notnull().cumsum("cost") > 0
    left = final.excess.where(final.excess.notnull() | ~begun, np.inf)
    return final.assign(excess=left, rate=chosen, at_edge=edge, tuning=curves)


def _tuning(
    tier: Descents, setting: Setting, stage: str, kind: Kind, method: Descent, rates: Sequence[float]
) -> xr.Dataset:
    """The effort by rate and seed, in the form that `tune` reads: the highest "accuracy" is the least effort."""
    lanes = [(rate, seed) for rate in rates for seed in range(tier.tuning_seeds)]
    many = jnp.asarray([rate for rate, _ in lanes])
    which = np.asarray([seed for _, seed in lanes])
    costs, left = _followed(tier, setting, kind, method, many, which, which, _budget(tier, kind, stage))
    shape = (len(rates), tier.tuning_seeds)
    efforts = np.reshape([effort(c, e, TARGETS[stage]) for c, e in zip(costs, left, strict=True)], shape)
    dims = ("learning_rate", "seed", "epoch")
    return xr.Dataset(
        {
            "validation_accuracy": (dims, -efforts[..., None]),
            "validation_loss": (dims, np.reshape(left[:, -1], (*shape, 1))),
            "diverged": (dims[:2], ~np.isfinite(np.reshape(left[:, -1], shape))),
        },
        coords={"learning_rate": list(rates), "seed": np.arange(tier.tuning_seeds)},
    )


def _final(tier: Descents, setting: Setting, kind: Kind, method: Descent, rate: float, budget: float) -> xr.Dataset:
    """The runs with fresh seeds, and how long a gradient's worth of work takes, one run at a time."""
    which = np.arange(tier.seeds)
    rates = jnp.full([tier.seeds], 0.0 if np.isnan(rate) and method.is_tuned else rate)
    seeds = FINAL_SEEDS_FROM + which
    costs, left = _followed(tier, setting, kind, method, rates, which, seeds, budget)
    grid = _grid(tier, kind, budget)
    rows = np.stack([_held(c, e, grid) for c, e in zip(costs, left, strict=True)])
    took, first = [], slice(1)
    for _ in range(TIMED + 1):
        begun = time.perf_counter()
        alone, _ = _followed(
            tier, setting, kind, method, rates[first], which[first], seeds[first], -(-budget // 5), is_bare=True
        )
        took.append((time.perf_counter() - begun) / np.max(alone[np.isfinite(alone)]))
    return xr.Dataset(
        {"excess": (("seed", "cost"), rows), "seconds": min(took[1:])},  # the first compiles
        coords={"seed": seeds, "cost": grid},
    )


def _grid(tier: Descents, kind: Kind, budget: float) -> np.ndarray:
    """The costs at which runs are told."""
    if kind == "full":
        return np.arange(1.0, budget + 1)
    first = tier.batch_size / tier.train_size
    return np.geomspace(first, budget, int(FINE * A_DECADE * np.log10(budget / first)))


def _held(costs: np.ndarray, left: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """What is left after each cost of a grid: what there was at the last step that had been paid for by then."""
    last = np.searchsorted(costs[np.isfinite(costs)], grid * (1 + 1e-9), side="right") - 1
    return np.where(last >= 0, left[np.maximum(last, 0)], np.nan)


def _followed(
    tier: Descents,
    setting: Setting,
    kind: Kind,
    method: Descent,
    rates: Float[Array, " lanes"],
    which: Int[np.ndarray, " lanes"],
    seeds: Int[np.ndarray, " lanes"],
    budget: float,
    *,
    is_bare: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Costs and the parts of the first excess that are left, (lanes, steps), of runs that begin where `which` says."""
    start = jax.tree.map(lambda leaf: leaf[which], setting.starts)
    keys = jax.vmap(key_of)(jnp.asarray(seeds))
    if kind == "full":
        costs, values = descent_methods.whole(method, setting.problem.args, rates, start, int(budget))
    else:
        looks = checkpoints(tier, method, budget)
        costs, values = descent_methods.mini(
            method, setting.problem.args, rates, start, keys, tier.batch_size, looks, is_bare=is_bare
        )
    with np.errstate(invalid="ignore"):
        left = (np.asarray(values) - float(setting.least)) / setting.excess[which, None]
    return np.asarray(costs), left


def checkpoints(tier: Descents, method: Descent, budget: float) -> tuple[int, ...]:
    """Updates after which a mini-batch run is looked at: even in their logarithm, from 2 until its budget is spent."""
    last = int(budget * tier.train_size / tier.batch_size / method.about)
    return tuple(np.unique(np.geomspace(2, last, max(2, int(A_DECADE * np.log10(last / 2)))).astype(int)).tolist())


def _optimum(problem: minima.Problem) -> xr.Dataset:
    """The least value, by Newton's method."""
    tx = gradtx.newton_cg(1000, rtol=0.1)
    found = gradtx.minimize(problem.function, problem.start, tx, args=problem.args, max_steps=100, tol=1e-11)
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(found.grad))
    if largest > 1e-8:
        raise RuntimeError(f"no optimum: the largest gradient is {largest:.1e}")
    runs = {name: _repeated(of, (found.params, *problem.args)) for name, of in _TIMED_ALONE.items()}
    times = interleave(runs, rounds=ROUNDS, block_seconds=0.05)
    return xr.Dataset(
        {
            "least": float(found.value),
            "largest_gradient": largest,
            "bias": ("class", np.asarray(found.params["bias"])),
            "kernel": (("pixel", "class"), np.asarray(found.params["kernel"])),
            **{f"{name}_seconds": min(spread.samples) for name, spread in times.items()},
        }
    )


@jax.jit
def _value(args: tuple[Any, ...], params: Params) -> Float[Array, ""]:
    return minima.softmax_loss(params, *args)


def _repeated(function: Any, args: tuple[Any, ...]) -> Run:
    def run(times: int) -> None:
        for _ in range(times):
            jax.block_until_ready(function(*args))

    return run


@jax.jit
def _product(params: Params, *args: Any) -> Params:
    return jax.jvp(lambda params: jax.grad(minima.softmax_loss)(params, *args), (params,), (params,))[1]


_TIMED_ALONE = {"gradient": jax.jit(jax.grad(minima.softmax_loss)), "product": _product}


def _problem(tier: Descents, train: Examples, size: int) -> minima.Problem:
    """Of the first `size` training images."""
    images = np.asarray(train.images[:size]).reshape(size, -1)
    return minima.softmax_problem(jnp.asarray(images, jnp.float64), train.labels[:size], tier.l2)


def _solvers(problem: minima.Problem) -> xr.Dataset:
    """Evaluations until no entry of the gradient is above 1e-5, from zeros; a product is two."""
    solvers = {
        "gradtx.lbfgs": minima.by_gradtx(problem, gradtx.lbfgs(memory_size=minima.MEMORY)),
        "scipy L-BFGS-B": minima.by_scipy(problem),
        "optax.lbfgs": minima.by_optax(problem),
        "gradtx.newton_cg": minima.by_gradtx(problem, gradtx.newton_cg()),
        "gradtx.gauss_newton_cg": minima.by_gradtx(problem, gradtx.gauss_newton_cg(), minima.SOFTMAX),
    }
    evaluations = [minima.needed(solve) for solve in solvers.values()]
    return xr.Dataset({"evaluations": ("solver", evaluations)}, coords={"solver": list(solvers)})


def _settings(tier: Descents, problem: minima.Problem, best: Params, stage: str) -> dict[str, Setting]:
    """Of the runs that tune, and of the final ones."""
    seeds = np.concatenate([np.arange(tier.tuning_seeds), FINAL_SEEDS_FROM + np.arange(tier.seeds)])
    whole = _setting(problem, best, stage, seeds)
    parts = {"tuning": slice(tier.tuning_seeds), "final": slice(tier.tuning_seeds, None)}
    return {
        use: whole._replace(excess=whole.excess[part], starts={name: leaf[part] for name, leaf in whole.starts.items()})
        for use, part in parts.items()
    }


def _setting(problem: minima.Problem, best: Params, stage: str, seeds: np.ndarray) -> Setting:
    """Where the runs of a stage begin: at initial weights; or on the line from there to the optimum, near to it."""
    least = _value(problem.args, best)

    def start(seed: jax.Array) -> tuple[jax.Array, Params]:
        fresh = MODEL.init(key_of(seed)).params["layers"][0]
        far = {name: fresh[name].astype(jnp.float64) for name in ("bias", "kernel")}
        excess = _value(problem.args, far) - least

        def at(part: jax.Array) -> Params:
            return jax.tree.map(lambda a, b: a + part * (b - a), best, far)

        def halve(_: int, ends: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            middle = (ends[0] + ends[1]) / 2
            is_near = _value(problem.args, at(middle)) - least < NEAR * excess
            return jnp.where(is_near, middle, ends[0]), jnp.where(is_near, ends[1], middle)

        if stage == "far":
            return excess, far
        return excess, at(jax.lax.fori_loop(0, 30, halve, (jnp.zeros(()), jnp.ones(())))[0])

    excess, starts = jax.device_get(jax.jit(lambda seeds: jax.lax.map(start, seeds))(jnp.asarray(seeds)))
    return Setting(problem, least, excess, starts)
