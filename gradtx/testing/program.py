"""What a program says of itself: which inputs reach which outputs, what it draws, when it is compiled."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

DRAWS = ("random_bits", "random_gamma", "rng_bit_generator", "rng_uniform", "threefry2x32")
"""The primitives that make random numbers of a key."""

# A law runs its programs a few times, and compiling them is nearly all of its time. Without LLVM's optimizations, and
# with XLA's former emitters where it still has them, adam's step takes 70 ms in place of 250.
QUICK: tuple[dict[str, Any], ...] = (
    {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False},
    {"xla_backend_optimization_level": 0},
    {},
)


@functools.cache
def _quick() -> dict[str, Any]:
    """The options that make compiling quick, of those that this XLA knows."""
    if jax.default_backend() != "cpu":
        return {}
    for options in QUICK:
        with contextlib.suppress(Exception):  # an unknown option has no class of error of its own
            jax.jit(lambda x: x + 1, compiler_options=options)(np.float32(0))
            return options
    return {}


class Counted:
    """A function, jitted so that it compiles fast, and the number of its traces."""

    def __init__(self, function: Callable[..., Any]):
        self.traces = 0

        def traced(*args: Any) -> Any:
            self.traces += 1
            return function(*args)

        self.function = jax.jit(traced, compiler_options=_quick())

    def __call__(self, *args: Any) -> Any:
        """The function's value, by the compiled program."""
        return self.function(*args)


_compilations = 0


@functools.cache
def _listen() -> None:
    """Count compilations from now on; JAX reports the time of each."""

    def report(event: str, duration_secs: float | int, **more: object) -> None:
        global _compilations
        _compilations += "backend_compile" in event

    jax.monitoring.register_event_duration_secs_listener(report)


@contextlib.contextmanager
def compilations() -> Iterator[list[int]]:
    """A list that has the number of programs compiled in here, at the end."""
    _listen()
    before, count = _compilations, []
    yield count
    count.append(_compilations - before)


@dataclasses.dataclass(frozen=True)
class Flow:
    """Which inputs of a program reach its outputs, as sets of bits, and which reach the random numbers it draws."""

    outputs: list[int]
    draws: list[int]
    side_effects: list[str]
    forwarded: list[int | None]
    """The input that each output is, unchanged."""

    @classmethod
    def of(cls, function: Callable[..., Any], *args: Any) -> Flow:
        """The flow from the leaves of `args` to those of what the function returns."""
        closed = jax.make_jaxpr(function)(*args)
        jaxpr, draws = closed.jaxpr, []
        outputs = _flow(jaxpr, [1 << i for i in range(len(jaxpr.invars))], draws)
        places = {id(var): i for i, var in enumerate(jaxpr.invars)}
        effects = sorted(
            {
                str(effect)
                for effect in jaxpr.effects
                if "Debug" in type(effect).__name__ or "IO" in type(effect).__name__
            }
        )
        return cls(outputs, draws, effects, [places.get(id(var)) for var in jaxpr.outvars])


def _flow(jaxpr: Any, inputs: Sequence[int], draws: list[int]) -> list[int]:
    """The inputs, as bits, that reach each output. Where it cannot be told, all of an equation's reach all of it."""
    known: dict[Any, int] = dict(zip(jaxpr.invars, inputs, strict=True))

    def reaching(atom: Any) -> int:
        return 0 if hasattr(atom, "val") else known.get(atom, 0)

    for equation in jaxpr.eqns:
        ins = [reaching(atom) for atom in equation.invars]
        every = functools.reduce(int.__or__, ins, 0)
        name, parameters = equation.primitive.name, equation.params
        if name in DRAWS:
            draws.append(every)
        inner = _inside(parameters)
        if name == "cond":
            branches = [_flow(branch, ins[1:], draws) for branch in inner]
            outs = [functools.reduce(int.__or__, column, ins[0]) for column in zip(*branches, strict=True)]
        elif name == "scan":
            outs = _repeated(inner[0], ins, parameters["num_consts"], parameters["num_carry"], draws)
        elif len(inner) == 1 and len(inner[0].invars) == len(ins) and len(inner[0].outvars) == len(equation.outvars):
            outs = _flow(inner[0], ins, draws)
        else:
            for body in inner:
                _flow(body, [every] * len(body.invars), draws)
            outs = [every] * len(equation.outvars)
        known.update(zip(equation.outvars, outs, strict=True))
    return [reaching(atom) for atom in jaxpr.outvars]


def _repeated(body: Any, ins: list[int], constants: int, carried: int, draws: list[int]) -> list[int]:
    """The flow through a scan: what reaches the carry at one step reaches all that follows."""
    ins = list(ins)
    while True:
        drawn: list[int] = []
        outs = _flow(body, ins, drawn)
        carry = [a | b for a, b in zip(ins[constants : constants + carried], outs[:carried], strict=True)]
        if carry == ins[constants : constants + carried]:
            draws += drawn
            return outs
        ins[constants : constants + carried] = carry


def _inside(parameters: dict[str, Any]) -> list[Any]:
    """The programs inside an equation: bodies of loops, branches, functions."""
    found = []
    for value in parameters.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            inner = getattr(item, "jaxpr", item)
            found += [inner] if hasattr(inner, "eqns") else []
    return found


def buffer_of(leaf: jax.Array) -> int | None:
    """Where an array's numbers are in memory; `None` if it has none, or several places."""
    array = jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
    return array.unsafe_buffer_pointer() if array.size and len(array.devices()) == 1 else None
