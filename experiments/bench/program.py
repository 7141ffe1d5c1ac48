"""What the compiler says about a program: how long it took to make, its kernels, bytes and memory."""

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax

from experiments.bench.timing import Spread, alternate, collector_off

# Instructions that run nothing: they name, group or reinterpret buffers.
FREE = frozenset({"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id"})
# Instructions that run the kernels of other computations.
CONTROL = frozenset({"call", "while", "conditional"})

_COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = .*? (?P<opcode>[a-z][\w\-]*)\((?P<rest>.*)$")
_CALLED = re.compile(r"(?:to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")


def count_kernels(hlo: str) -> int:
    """Kernels one call of an optimized HLO module starts: fusions, and what was left unfused.

    A loop counts its body once.
    """
    instructions: dict[str, list[tuple[str, str]]] = {}
    entry = current = None
    for line in hlo.splitlines():
        if start := _COMPUTATION.match(line):
            current = start["name"]
            instructions[current] = []
            entry = current if start["entry"] else entry
        elif current is not None and (found := _INSTRUCTION.match(line)):
            instructions[current].append((found["opcode"], found["rest"]))
    if entry is None:
        raise ValueError("the text has no ENTRY computation: it is not an HLO module")

    def count(computation: str) -> int:
        total = 0
        for opcode, rest in instructions[computation]:
            if opcode in CONTROL:
                branches = [name.strip(" %") for group in _BRANCHES.findall(rest) for name in group.split(",")]
                total += sum(count(name) for name in [*_CALLED.findall(rest), *branches])
            elif opcode not in FREE:
                total += 1
        return total

    return count(entry)


@dataclass(frozen=True)
class Program:
    """A compiled program, as the compiler describes it."""

    kernels: int
    bytes_accessed: float
    temporary_bytes: int
    aliased_bytes: int

    @classmethod
    def of(cls, compiled: jax.stages.Compiled) -> "Program":
        cost: Any = compiled.cost_analysis() or {}
        memory: Any = compiled.memory_analysis()
        return cls(
            kernels=count_kernels(compiled.as_text() or ""),
            bytes_accessed=float(cost.get("bytes accessed", float("nan"))),
            temporary_bytes=int(memory.temp_size_in_bytes),
            aliased_bytes=int(memory.alias_size_in_bytes),
        )


@dataclass(frozen=True)
class Source:
    """A function to compile. `fresh` makes a new one each time, so that no cache can know it."""

    fresh: Callable[[], Callable[..., Any]]
    arguments: Sequence[Any]
    donated: tuple[int, ...] = ()

    def jit(self) -> Any:
        return jax.jit(self.fresh(), donate_argnums=self.donated)


@dataclass(frozen=True)
class Making:
    """Seconds from Python to machine code, stage by stage, a sample a round."""

    trace: Spread
    lower: Spread
    compile: Spread
    total: Spread


@dataclass
class _Samples:
    trace: list[float] = field(default_factory=list)
    lower: list[float] = field(default_factory=list)
    compile: list[float] = field(default_factory=list)

    def summary(self) -> Making:
        total = [sum(stages) for stages in zip(self.trace, self.lower, self.compile, strict=True)]
        return Making(*map(Spread.of, (self.trace, self.lower, self.compile, total)))


@contextlib.contextmanager
def no_compilation_cache() -> Iterator[None]:
    """Compile anew, whatever persistent cache the user has set."""
    before = jax.config.values["jax_enable_compilation_cache"]
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)


def make(sources: Mapping[str, Source], *, rounds: int) -> dict[str, tuple[Making, Program]]:
    """Trace, lower and compile each source in turns, every time from empty caches.

    One more round goes first and is not counted: it imports what JAX imports late.
    """
    samples = {name: _Samples() for name in sources}
    programs: dict[str, Program] = {}
    with no_compilation_cache():
        for turn, name in enumerate(alternate(list(sources), rounds + 1)):
            source, into = sources[name], samples[name] if turn >= len(sources) else _Samples()
            jax.clear_caches()
            with collector_off():
                start = time.perf_counter()
                traced = source.jit().trace(*source.arguments)
                at_traced = time.perf_counter()
                lowered = traced.lower()
                at_lowered = time.perf_counter()
                compiled = lowered.compile()
                at_compiled = time.perf_counter()
            into.trace.append(at_traced - start)
            into.lower.append(at_lowered - at_traced)
            into.compile.append(at_compiled - at_lowered)
            programs[name] = Program.of(compiled)
    return {name: (samples[name].summary(), programs[name]) for name in sources}
