"""What a data-parallel training step holds and sends, with the optimizer's state whole on each device and with `zero`.

A step of a stack of two-layer blocks is compiled for eight devices, the batch sharded over them, and not run: bytes on
a device and the collectives are the compiler's. With a topology (`v5e:2x4`) it is compiled for TPUs that nobody needs
to have.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from rich.console import Console

import gradtx
from experiments import chips
from experiments.bench.goals import at_most
from experiments.bench.program import no_compilation_cache
from experiments.bench.report import Report, new_table
from experiments.bench.timing import Ratio
from experiments.errors import ExperimentError

DEVICES = 8
BLOCKS, WIDTH, BATCH = 4, 1024, 1024
SMOKE_WIDTH = 64
RATE = 1e-3
PART = 1.02
"""Goal: state on a device as a multiple of an eighth of it. Small leaves and counts stay whole."""


def _optimizers(min_size: int) -> dict[str, Callable[[], Any]]:
    def clipped() -> Any:
        return gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.adamw(RATE))

    def zero(inner: Any) -> Any:
        return gradtx.zero(inner, min_size=min_size)

    return {
        "adamw": lambda: gradtx.adamw(RATE),
        "zero(adamw)": lambda: zero(gradtx.adamw(RATE)),
        "clip, adamw": clipped,
        "zero(clip, adamw)": lambda: zero(clipped()),
        "zero(int8 adamw)": lambda: zero(gradtx.quantize_state(gradtx.adamw(RATE), min_size=min_size)),
    }


@dataclass(frozen=True)
class Row:
    """One optimizer on one kind of mesh. Bytes are of one device, and of a collective those of the whole array."""

    mesh: str
    optimizer: str
    state_bytes: int
    argument_bytes: int
    temporary_bytes: int
    collectives: dict[str, int]


def sharded(console: Console, *, smoke: bool, topology: str | None) -> Report:
    """Each optimizer on automatic and on explicit axes."""
    chosen = chips.here() if topology is None else chips.described(topology)
    if len(chosen.devices) < DEVICES:
        raise ExperimentError(
            f"bench sharded needs {DEVICES} devices, got {len(chosen.devices)}; JAX_NUM_CPU_DEVICES={DEVICES} makes "
            "them of a CPU"
        )
    width, min_size = (SMOKE_WIDTH, 16) if smoke else (WIDTH, 4096)
    shapes = {str(i): {"up": (width, 4 * width), "down": (4 * width, width), "gain": (width,)} for i in range(BLOCKS)}
    rows = []
    with console.status("programs"), no_compilation_cache():
        for kind in (AxisType.Auto, AxisType.Explicit):
            mesh = Mesh(np.array(chosen.devices[:DEVICES]), ("data",), axis_types=(kind,))
            rows += [_row(name, make(), mesh, shapes) for name, make in _optimizers(min_size).items()]
    count = sum(math.prod(shape) for block in shapes.values() for shape in block.values())
    columns = ("mesh", "state, MB", "arguments, MB", "temporary, MB", "collectives, MB of whole arrays")
    table = new_table(f"a step on {count:,} parameters, {DEVICES} devices ({chosen.kind})", "", *columns)
    for row in rows:
        sent = ", ".join(f"{name} {size / 1e6:,.1f}" for name, size in row.collectives.items())
        sizes = (row.state_bytes, row.argument_bytes, row.temporary_bytes)
        table.add_row(row.optimizer, row.mesh, *(f"{size / 1e6:,.1f}" for size in sizes), sent)
    by_name = {(row.mesh, row.optimizer): row.state_bytes for row in rows}
    parts = {
        f"{mesh} axes, {name}": Ratio.exact(DEVICES * by_name[mesh, f"zero({name})"] / by_name[mesh, name])
        for mesh in ("automatic", "explicit")
        for name in ("adamw", "clip, adamw")
    }
    goals = [at_most("state on a device, against an eighth of all", PART, parts)]
    notes = ["Compiler's figures, nothing is run. A reduce-scatter of an array sends half of what an all-reduce does."]
    return Report("sharded", {"topology": topology, "width": width}, rows, [table], goals, notes)


def _row(name: str, tx: Any, mesh: Mesh, shapes: Any) -> Row:
    whole, by_example = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))
    params = jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, np.float32, sharding=whole), shapes, is_leaf=_is_shape
    )
    width = shapes["0"]["gain"][0]
    batch = jax.ShapeDtypeStruct((BATCH, width), np.float32, sharding=by_example)
    state = gradtx.state_structs(tx, params)

    def step(params: Any, state: Any, batch: Any) -> Any:
        updates, state = tx.update(jax.grad(_loss)(params, batch), state, params)
        return gradtx.apply_updates(params, updates), state

    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        compiled = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, batch).compile()
    memory: Any = compiled.memory_analysis()
    kind = "explicit" if mesh.axis_types[0] is AxisType.Explicit else "automatic"
    return Row(
        kind,
        name,
        sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)),
        memory.argument_size_in_bytes,
        memory.temp_size_in_bytes,
        collectives(compiled.as_text() or ""),
    )


def _loss(params: Any, x: jax.Array) -> jax.Array:
    for block in params.values():
        x = x + jax.nn.relu((x * block["gain"][None]) @ block["up"]) @ block["down"]
    return jnp.mean(x**2)


def _is_shape(node: object) -> bool:
    return isinstance(node, tuple)


_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) .*\{$")
_COLLECTIVE = re.compile(r"= (.*?) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(-start)?\(")
_ARRAY = re.compile(r"(pred|[a-z]+\d+\w*)\[([\d,]*)\]")


def collectives(text: str) -> dict[str, int]:
    """Bytes of the whole arrays that go through each kind of collective, from a compiled program."""
    found: dict[tuple[str, str], int] = {}
    computation = ""
    for line in text.splitlines():
        begins = _COMPUTATION.match(line)
        computation = begins.group(1) if begins else computation
        match = _COLLECTIVE.search(line)
        if match is None:
            continue
        arrays = [_nbytes(*array) for array in _ARRAY.findall(match.group(1))]
        kind = match.group(2)
        size = sum(arrays) if match.group(3) is None or kind != "all-gather" else max(arrays)
        # TPU's compiler writes a reduce-scatter as an all-reduce in a computation that is named after both.
        kind = "reduce-scatter" if computation.startswith("all-reduce-scatter") else kind
        size *= DEVICES if kind == "reduce-scatter" and match.group(2) == kind else 1
        channel = re.search(r"channel_id=(\d+)", line)
        # One that overlaps with other work is written several times, with one channel.
        found[kind, channel.group(1) if channel else line] = size
    sums: dict[str, int] = defaultdict(int)
    for (kind, _), size in found.items():
        sums[kind] += size
    return dict(sorted(sums.items()))


def _nbytes(dtype: str, dims: str) -> int:
    bits = 8 if dtype == "pred" else int(re.search(r"\d+", dtype).group())  # type: ignore[union-attr]
    return math.prod(int(size) for size in dims.split(",") if size) * bits // 8
