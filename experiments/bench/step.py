"""One optimizer step, `update` and `apply_updates`, jitted and donated: its time, its program, its making.

gradtx gets its transformation as an *argument* of the compiled step, as its users pass it; optax closes over
its own, as its users do. Gradients are given, so nothing but the optimizer is measured.

The floor of a step is the traffic it cannot avoid (`Optimizer.least_bytes`: params and state read and written
once, gradients read once, in float32) at the speed of memory, which is the time of an in-place scale of one
flat array with the same traffic: `least_bytes * parameters / 8` elements of 4 bytes, each read and written.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

import gradtx
from experiments.bench import trees
from experiments.bench.optimizers import LIBRARIES, OPTIMIZERS, Optimizer, load_torch, torch_comparable
from experiments.bench.program import Making, Program, Source, make
from experiments.bench.timing import Run, Spread, interleave


@dataclass(frozen=True)
class Plan:
    """How much to measure."""

    tree_names: Sequence[str] = tuple(trees.TREES)
    optimizer_names: Sequence[str] = tuple(OPTIMIZERS)
    rounds: int = 21
    making_rounds: int = 5
    block_seconds: float = 0.05

    def smaller(self) -> "Plan":
        """The same, hardly measured."""
        return dataclasses.replace(self, making_rounds=1, block_seconds=1e-3)


@dataclass(frozen=True)
class Cost:
    """One library's step on one tree."""

    time: Spread
    state_bytes: int
    making: Making
    program: Program


@dataclass(frozen=True)
class Row:
    """One optimizer on one tree. PyTorch compiles nothing: it has a time only."""

    tree: str
    optimizer: str
    parameters: int
    least_bytes: int
    floor: Spread
    gradtx: Cost
    optax: Cost
    torch: Spread | None

    @property
    def label(self) -> str:
        return f"{self.optimizer}, {self.tree}"


def source(library: ModuleType, tx: Any, params: Any) -> Source:
    """A library's step with its transformation, to be compiled for `params` and their gradients (structs)."""

    def fresh() -> Callable[..., Any]:
        def step(params: Any, state: Any, grads: Any, tx: Any = tx) -> tuple[Any, Any]:
            updates, state = tx.update(grads, state, params)
            return library.apply_updates(params, updates), state

        return step

    arguments = (params, jax.eval_shape(tx.init, params), params)
    return Source(fresh, (*arguments, tx) if library is gradtx else arguments, donated=(0, 1))


def measure(tree: str, shapes: trees.Shapes, name: str, plan: Plan) -> Row:
    """One optimizer on one tree, everything in turns."""
    optimizer, count = OPTIMIZERS[name], trees.count(shapes)
    structs = trees.structs(shapes)
    sources = {label: source(library, optimizer.build(library), structs) for label, library in LIBRARIES.items()}
    made = make(sources, rounds=plan.making_rounds)
    for label in LIBRARIES:
        check_donation(label, sources[label], made[label][1])

    grads = trees.arrays(shapes, seed=1)
    runs: dict[str, Run] = {label: step_run(sources[label], shapes, grads) for label in LIBRARIES}
    runs["floor"] = _floor_run(optimizer.least_bytes * count)
    if torch_comparable():
        runs["torch"] = _torch_run(optimizer, shapes, grads)
    times = interleave(runs, rounds=plan.rounds, block_seconds=plan.block_seconds)

    def cost(label: str) -> Cost:
        return Cost(times[label], trees.nbytes(sources[label].arguments[1]), *made[label])

    return Row(
        tree=tree,
        optimizer=name,
        parameters=count,
        least_bytes=optimizer.least_bytes * count,
        floor=times["floor"],
        gradtx=cost("gradtx"),
        optax=cost("optax"),
        torch=times.get("torch"),
    )


def step_run(source: Source, shapes: trees.Shapes, grads: Any) -> Run:
    """Repeat a step on its own params and state, and on the gradients that all share."""
    step, (_, state, _, *rest) = source.jit(), source.arguments
    # Zeros will do for a state: steps on constant gradients soon make it what it would be.
    carry = (trees.arrays(shapes, seed=0), jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), state))

    def run(steps: int) -> None:
        nonlocal carry
        for _ in range(steps):
            carry = step(*carry, grads, *rest)
        jax.block_until_ready(carry)

    return run


def _floor_run(byte_count: int) -> Run:
    """Scale one flat array in place, which reads and writes `byte_count` bytes in all."""
    # So near to 1 that no number of steps makes a subnormal number.
    scale = jax.jit(lambda x: x * jnp.float32(1 - 2**-20), donate_argnums=0)
    x = jnp.ones(max(byte_count // 8, 1), jnp.float32)

    def run(steps: int) -> None:
        nonlocal x
        for _ in range(steps):
            x = scale(x)
        jax.block_until_ready(x)

    return run


def _torch_run(optimizer: Optimizer, shapes: trees.Shapes, grads: Mapping[str, jax.Array]) -> Run:
    """PyTorch's step on the same params and gradients."""
    import numpy as np

    torch = load_torch()

    params = [torch.tensor(np.asarray(p), requires_grad=True) for p in trees.arrays(shapes, seed=0).values()]
    for param, grad in zip(params, grads.values(), strict=True):
        param.grad = torch.tensor(np.asarray(grad))
    peer = optimizer.build_torch(params)

    def run(steps: int) -> None:
        for _ in range(steps):
            peer.step()

    return run


def check_donation(label: str, source: Source, program: Program) -> None:
    """Raise RuntimeError where the program does not update in place what it was given for that."""
    donated = sum(trees.nbytes(source.arguments[index]) for index in source.donated)
    if program.aliased_bytes < donated:
        raise RuntimeError(
            f"{label}'s step updates {program.aliased_bytes} of its {donated} donated bytes in place; a time of it "
            "would include copies that a training loop does not make."
        )
