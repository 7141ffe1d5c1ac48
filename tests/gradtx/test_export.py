"""Every optimizer's step as StableHLO for TPU and CUDA, without either."""

import re

import jax
import jax.export
import jax.numpy as jnp

import gradtx

from .row import Row
from .table import OPTIMIZERS, each

# What a step may ask of a platform: placement only, never a kernel of one platform's library.
PORTABLE_CALLS = {"Sharding", "xla.sdy.FuncResultSharding", "shape_assertion"}


def exported(row: Row) -> jax.export.Exported:
    """A jitted step over flat lists of arrays, hyperparameters among them: one module for both platforms."""
    tx = row.make(gradtx.cosine_decay_schedule(0.05, 100.0))
    params = {"w": jax.ShapeDtypeStruct((8, 4), jnp.float32), "half": jax.ShapeDtypeStruct((16,), jnp.bfloat16)}
    tx = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((), jnp.float32), tx)
    state = jax.eval_shape(lambda tx, params: tx.init(params), tx, params)
    leaves, structure = jax.tree.flatten((tx, params, state, params))

    @jax.jit
    def step(leaves):
        tx, grads, state, params = structure.unflatten(leaves)
        updates, state = tx.update(grads, state, params)
        return jax.tree.leaves((gradtx.apply_updates(params, updates), state))

    return jax.export.export(step, platforms=["tpu", "cuda"])(leaves)


@each(OPTIMIZERS)
def test_step_exports(row):
    module = exported(row)
    assert set(module.platforms) == {"tpu", "cuda"}
    # Kept as portable bytes and deserialised here. (The whole `Exported` serialises only with flatbuffers installed.)
    text = module.mlir_module()
    assert set(re.findall(r"custom_call @([\w.]+)", text)) <= PORTABLE_CALLS
    assert "stablehlo.multiply" in text
    assert "tensor<8x4xf32>" in text
    # Half precision is widened once and narrowed; nothing is computed in it.
    assert re.search(r"convert .*tensor<16xbf16>\) -> tensor<16xf32>", text)
    assert not re.search(r"stablehlo\.(multiply|add|divide|sqrt|power)\b[^\n]*tensor<16xbf16>", text)
    assert "f64" not in text


def test_a_cpu_only_call_would_be_seen():
    text = jax.export.export(jax.jit(jnp.linalg.eigvals), platforms=["cpu"])(
        jax.ShapeDtypeStruct((2, 2), jnp.float32)
    ).mlir_module()
    assert not set(re.findall(r"custom_call @([\w.]+)", text)) <= PORTABLE_CALLS
