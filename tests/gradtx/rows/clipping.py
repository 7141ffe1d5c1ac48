"""Rows of the table: clipping, normalisation and noise."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

import gradtx

from ..row import Row

AGC = {"clipping": 0.5, "eps": 0.1}
NOISE = {"eta": 0.01, "gamma": 0.55}
PRIVATE = {"l2_norm_clip": 2.0, "noise_multiplier": 0.1}


def three_examples(updates: Any, params: Any) -> Any:
    """Gradients of a batch whose first example has the given one, and the others parts of it."""
    return jax.tree.map(lambda g: jnp.stack([g, 0.5 * g, -0.25 * g]), updates)


def private(key: Any = 0, **numbers: Any) -> Any:
    """The aggregate, after what makes a batch of one gradient: by itself it takes away the first axis."""
    return gradtx.chain(gradtx.stateless(three_examples), gradtx.differentially_private_aggregate(**numbers, key=key))


ROWS: tuple[Row, ...] = (
    Row("clip_by_global_norm-0", {"max_norm": 0.0}),
    Row("clip_by_block_rms", {"threshold": 0.3}, peer=optax.clip_by_block_rms),
    Row("adaptive_grad_clip", AGC, peer=optax.adaptive_grad_clip),
    Row("adaptive_grad_clip-axis", AGC, {"axis": (-2, -1)}),
    Row("zclip", {"decay": 0.8, "z_threshold": 1.2, "warmup_steps": 2.0, "eps": 1e-3}),
    Row("add_noise", NOISE, {"key": 1}, sign="any"),
    Row("add_noise-raw", NOISE, {"key": jax.random.PRNGKey(1)}, sign="any"),
    Row("differentially_private_aggregate", PRIVATE, factory=private, sign="any", holds_a_function=True),
    Row("centralize", peer=optax.centralize),
    Row("centralize-axis", {}, {"axis": 0}),
    Row("normalize", peer=optax.contrib.normalize),
    Row("normalize_by_update_norm", {"scale_factor": 0.5, "eps": 0.1}, peer=optax.normalize_by_update_norm),
    Row("zero_nans", peer=optax.zero_nans),
)
WRAPPED: tuple[Row, ...] = ()
