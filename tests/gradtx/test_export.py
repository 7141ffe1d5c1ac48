"""Every optimizer's step as StableHLO for TPU and CUDA, without either."""

import re

import jax
import jax.export
import jax.numpy as jnp
import pytest

import gradtx

from .table import BY_NAME, Optimizer, each_optimizer_costly

MASK = {"w": True, "half": False}
# What a step may ask of a platform: placement only, never a kernel of one platform's library.
PORTABLE_CALLS = {"Sharding", "xla.sdy.FuncResultSharding", "shape_assertion"}


def exported(case: Optimizer, platforms: list[str]) -> jax.export.Exported:
    """A jitted step over flat lists of arrays, hyperparameters among them."""
    tx = case.make(gradtx.cosine_decay_schedule(0.05, 100.0), **({"mask": MASK} if "mask" in case.flags else {}))
    params = {"w": jax.ShapeDtypeStruct((8, 4), jnp.float32), "half": jax.ShapeDtypeStruct((16,), jnp.bfloat16)}
    tx = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((), jnp.float32), tx)
    state = jax.eval_shape(lambda tx, params: tx.init(params), tx, params)
    leaves, structure = jax.tree.flatten((tx, params, state, params))

    @jax.jit
    def step(leaves):
        tx, grads, state, params = structure.unflatten(leaves)
        updates, state = tx.update(grads, state, params)
        return jax.tree.leaves((gradtx.apply_updates(params, updates), state))

    return jax.export.export(step, platforms=platforms)(leaves)


@each_optimizer_costly
@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_step_exports(case, platform):
    module = exported(case, [platform])
    assert module.platforms == (platform,)
    # Kept as portable bytes and deserialised here. (The whole `Exported` serialises only with flatbuffers installed.)
    text = module.mlir_module()
    assert set(re.findall(r"custom_call @([\w.]+)", text)) <= PORTABLE_CALLS
    assert "stablehlo.multiply" in text
    assert "tensor<8x4xf32>" in text
    # Half precision is widened once and narrowed; nothing is computed in it.
    assert re.search(r"convert .*tensor<16xbf16>\) -> tensor<16xf32>", text)
    assert not re.search(r"stablehlo\.(multiply|add|divide|sqrt|power)\b[^\n]*tensor<16xbf16>", text)
    assert "f64" not in text
    divides = case.factory not in (gradtx.sgd, gradtx.nag)
    assert ("stablehlo.sqrt" in text) == divides


def test_one_module_for_both_platforms():
    assert set(exported(BY_NAME["adam"], ["tpu", "cuda"]).platforms) == {"tpu", "cuda"}


def test_a_cpu_only_call_would_be_seen():
    text = jax.export.export(jax.jit(jnp.linalg.eigvals), platforms=["cpu"])(
        jax.ShapeDtypeStruct((2, 2), jnp.float32)
    ).mlir_module()
    assert not set(re.findall(r"custom_call @([\w.]+)", text)) <= PORTABLE_CALLS
