"""Bytes of state a parameter, of every optimizer in every precision, and what a compiled step needs beside it.

Bytes are counted from the shapes that `init` gives on GPT-2 small's tree, whose 98 small leaves stay as they are. The
temporary memory is the compiler's figure for a jitted and donated step, `update` and `apply_updates`, on a part of that
tree; so no parameter is allocated.

XLA for CPUs orders kernels so that many can run at once, and a step then holds all leaves in float32; told not to, it
orders them so that little memory is held. Both are shown.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

import gradtx
from experiments.bench import trees
from experiments.bench.goals import at_most
from experiments.bench.optimizers import LEARNING_RATE, OPTIMIZERS
from experiments.bench.program import Program, no_compilation_cache
from experiments.bench.report import Report, new_table
from experiments.bench.timing import Ratio
from experiments.errors import ExperimentError

Wrap = Callable[[Any], Any]

LEAN = "--xla_cpu_enable_concurrency_optimized_scheduler=false"
"""A flag that XLA reads once, when its client starts, so that what needs it is compiled in another process."""
BLOCKS = 2
"""Blocks of GPT-2 in the compiled program, of its twelve."""
ADAM_INT8, HELD = 2.04, 0.6
"""Goals: bytes of state a parameter, and temporary memory as a part of the float32 state that is spared."""


def _precisions() -> dict[str, tuple[Wrap, Any]]:
    """Wrappers by name, and the dtype of the parameters that they are for."""
    bf16, f32 = jnp.bfloat16, jnp.float32
    return {
        "float32": (lambda tx: tx, f32),
        "bfloat16": (partial(gradtx.state_dtype, dtypes="bfloat16"), f32),
        "bfloat16 + 8": (partial(gradtx.quantize_state, dtypes="bfloat16"), f32),
        "float8_e4m3fn": (partial(gradtx.quantize_state, dtypes="float8_e4m3fn"), f32),
        "int8": (gradtx.quantize_state, f32),
        "master": (gradtx.master_weights, bf16),
        "remainders": (partial(gradtx.master_weights, remainders=True), bf16),
        "remainders, int8": (lambda tx: gradtx.master_weights(gradtx.quantize_state(tx), remainders=True), bf16),
    }


def _optimizers() -> dict[str, Any]:
    found = {name: optimizer.build(gradtx) for name, optimizer in OPTIMIZERS.items()}
    return {**found, "lion": gradtx.lion(LEARNING_RATE), "stochastic_lbfgs": gradtx.stochastic_lbfgs(LEARNING_RATE)}


@dataclass(frozen=True)
class Row:
    """One optimizer in one precision. Bytes a parameter; `program` and `lean` are of the part of the tree."""

    optimizer: str
    precision: str
    state_bytes: float
    parameter_bytes: int
    program: Program | None
    lean: Program | None


def memory(console: Console, *, smoke: bool) -> Report:
    """Every optimizer in every precision."""
    shapes, part = _shapes(smoke)
    with console.status("programs that hold little"):
        default = programs(smoke)
        lean = _in_another_process(smoke) if jax.default_backend() == "cpu" else default
    rows: list[Row] = []
    for precision, (wrap, dtype) in _precisions().items():
        for name, tx in _optimizers().items():
            with console.status(f"{name}, {precision}"):
                both = (default[precision], lean[precision]) if name == "adam" else (None, None)
                held = trees.nbytes(jax.eval_shape(wrap(tx).init, _structs(shapes, dtype))) / trees.count(shapes)
                rows.append(Row(name, precision, held, jnp.dtype(dtype).itemsize, *both))
    count = trees.count(part)
    int8 = next(row for row in rows if (row.optimizer, row.precision) == ("adam", "int8"))
    assert int8.lean is not None
    spared = 8 * count
    goals = [
        at_most("adam in int8: bytes of state a parameter", ADAM_INT8, {"adam": Ratio.exact(int8.state_bytes)}),
        at_most(
            "adam in int8: temporary memory, of the float32 state",
            HELD,
            {"adam": Ratio.exact(int8.lean.temporary_bytes / spared)},
        ),
    ]
    notes = [
        f"Bytes of state: {trees.count(shapes):,} parameters in {len(shapes)} leaves. Parameters are float32, for "
        "master and remainders bfloat16. Leaves of fewer than 4,096 entries stay as they are.",
        f"Temporary memory: a step of Adam on {count:,} parameters in {len(part)} leaves, whose state in float32 is "
        f"{1e-6 * spared:.0f} MB. In parallel: as XLA orders kernels on a CPU by default; else with {LEAN}.",
    ]
    settings = {"tree": "gpt2", "blocks": BLOCKS}
    return Report("memory", settings, list(rows), [_bytes_table(rows), _program_table(rows)], goals, notes)


def _shapes(smoke: bool) -> tuple[trees.Shapes, trees.Shapes]:
    """The tree whose bytes are counted, and the part of it whose step is compiled."""
    shapes = trees.SMOKE_TREES["gpt2"] if smoke else trees.TREES["gpt2"]
    return shapes, {name: shape for name, shape in shapes.items() if _is_in_part(name)}


def _is_in_part(name: str) -> bool:
    block = name.partition(".")[0]
    return not block.startswith(("wte", "wpe")) and not (block[1:].isdigit() and int(block[1:]) >= BLOCKS)


def _structs(shapes: trees.Shapes, dtype: Any) -> dict[str, jax.ShapeDtypeStruct]:
    return {name: jax.ShapeDtypeStruct(shape, dtype) for name, shape in shapes.items()}


def programs(smoke: bool) -> dict[str, Program]:
    """Adam's step in each precision, as this process compiles it."""
    _, part = _shapes(smoke)
    return {
        name: _program(wrap(gradtx.adam(LEARNING_RATE)), _structs(part, dtype))
        for name, (wrap, dtype) in _precisions().items()
    }


def _program(tx: Any, params: Mapping[str, Any]) -> Program:
    def step(tx: Any, params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        updates, state = tx.update(grads, state, params)
        return gradtx.apply_updates(params, updates), state

    with no_compilation_cache():
        lowered = jax.jit(step, donate_argnums=(1, 2)).lower(tx, params, jax.eval_shape(tx.init, params), params)
        return Program.of(lowered.compile())


def _in_another_process(smoke: bool) -> dict[str, Program]:
    """`programs` where XLA was told to hold little."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} {LEAN}".strip()
    code = (
        "import dataclasses, json; from experiments.bench import memory; "
        f"made = memory.programs({smoke}); "
        "print(json.dumps({name: dataclasses.asdict(one) for name, one in made.items()}))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "XLA_FLAGS": flags}, capture_output=True, text=True
    )
    if ran.returncode:
        raise ExperimentError(f"compiling with {LEAN} failed: {ran.stderr.strip().splitlines()[-1]}")
    return {name: Program(**fields) for name, fields in json.loads(ran.stdout.splitlines()[-1]).items()}


def _bytes_table(rows: list[Row]) -> Table:
    precisions = list(dict.fromkeys(row.precision for row in rows))
    table = new_table("bytes of state a parameter", "", *precisions)
    for name in dict.fromkeys(row.optimizer for row in rows):
        table.add_row(name, *(f"{row.state_bytes:.3f}" for row in rows if row.optimizer == name))
    return table


def _program_table(rows: list[Row]) -> Table:
    columns = ("state, B/param.", "with params", "temporary MB", "in parallel", "kernels")
    table = new_table("a compiled step of Adam", "", *columns)
    for row in rows:
        if row.program is not None and row.lean is not None:
            table.add_row(
                row.precision,
                f"{row.state_bytes:.3f}",
                f"{row.state_bytes + row.parameter_bytes:.3f}",
                f"{1e-6 * row.lean.temporary_bytes:.1f}",
                f"{1e-6 * row.program.temporary_bytes:.1f}",
                str(row.lean.kernels),
            )
    return table
