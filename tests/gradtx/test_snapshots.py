"""What programs, configurations and checkpoints of users rest on, as snapshots.

`pytest tests/gradtx/test_snapshots.py --snapshot-update` writes them anew; the difference is to be reviewed.
"""

from __future__ import annotations

import enum
import inspect
import json
import re
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from syrupy.assertion import SnapshotAssertion

import gradtx
import gradtx.interop
import gradtx.learned
import gradtx.testing

from .row import Row, first_steps
from .table import TABLE, each, each_row

MODULES = (gradtx, gradtx.interop, gradtx.learned, gradtx.testing)
STEPS = 3


def public_names(module: types.ModuleType) -> list[str]:
    """What a module offers: not what it imports for its own use."""
    return [
        name
        for name, value in vars(module).items()
        if not (name.startswith("_") or inspect.ismodule(value) or name in ("annotations", "TYPE_CHECKING"))
        and (module is not gradtx.interop or getattr(value, "__module__", "") == module.__name__)
    ]


def signature(name: str, value: Any) -> str:
    """A name with what a caller may rest on: parameters and defaults, fields, members. Types are pyright's affair."""
    if inspect.isclass(value) and issubclass(value, enum.Enum):
        return f"{name}: {', '.join(value.__members__)}"
    if states := getattr(value, "_fields", ()):
        return f"{name}({', '.join(states)})"
    if not inspect.isroutine(value) and not inspect.isclass(value):
        return name
    try:
        parameters = inspect.signature(value).parameters.values()
    except ValueError:
        return name
    bare = inspect.Signature([parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters])
    return re.sub(" at 0x[0-9a-f]+", "", f"{name}{bare}")


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_public_names(module: types.ModuleType, snapshot: SnapshotAssertion) -> None:
    """A rename is a conscious act."""
    assert [signature(name, getattr(module, name)) for name in sorted(public_names(module))] == snapshot


@each_row
def test_state(row: Row, snapshot: SnapshotAssertion) -> None:
    """Key paths are the checkpoint format: a change belongs into the changelog."""
    state = jax.eval_shape(row.make().init, {"w": jax.ShapeDtypeStruct((3,), jnp.float32)})
    leaves = jax.tree.leaves_with_path(state)
    assert [f"{jax.tree_util.keystr(path)}: {leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves] == snapshot


@each([row for row in TABLE if not row.holds_a_function])
def test_configuration(row: Row, snapshot: SnapshotAssertion) -> None:
    """Saved configurations are read for good: a change needs a new version of the form."""
    assert json.dumps(shortened(gradtx.to_config(row.make()))) == snapshot


def shortened(config: Any) -> Any:
    """A configuration in which weights of networks are only shapes."""
    if isinstance(config, dict):
        is_large = isinstance(config.get("data"), list) and len(config["data"]) > 4
        return {key: "..." if is_large and key == "data" else shortened(value) for key, value in config.items()}
    return [shortened(item) for item in config] if isinstance(config, list) else config


@each([row for row in TABLE if row.oracle is None and row.peer is None])
@pytest.mark.usefixtures("x64")
def test_first_steps(row: Row, snapshot: SnapshotAssertion) -> None:
    """Ten digits: in float64 compilers differ in the last of sixteen, and three steps do not amplify it that much.

    Of what neither an oracle nor optax checks, which is done in `test_oracles.py`, and says more.
    """
    params = {"w": jnp.asarray([[1.0, -2.0], [0.5, 3.0]]), "b": jnp.asarray([0.25, -1.5])}
    pattern = np.sin(np.arange(1.0, 1.0 + STEPS * 6)).reshape(STEPS, 6)
    gradients = {"w": jnp.asarray(pattern[:, :4].reshape(STEPS, 2, 2)), "b": jnp.asarray(pattern[:, 4:])}
    path, _ = jax.jit(lambda tx, *data: first_steps(row, tx, *data))(row.make(), params, gradients)
    iterates = np.concatenate([path["w"].reshape(STEPS, 4), path["b"]], axis=1)
    assert [" ".join(f"{entry:.10g}" for entry in iterate) for iterate in iterates] == snapshot
