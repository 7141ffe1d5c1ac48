"""The loss at many points of a plane: one compiled program, called for some points at a time.

Points go one after the other over chunks that run side by side, and over devices. Between two calls progress is shown
and a checkpoint is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, PyTree

from experiments.checkpoint import Checkpoint, Paced
from experiments.data import Examples
from experiments.lanes import SEED, Plan, fetch
from experiments.models import Classifier, Stats, Variables
from experiments.sweep import SECONDS_BETWEEN_CHECKPOINTS
from experiments.train import cross_entropy

CALL = 8
"""Points that each device computes in a call, at most: a third of a second of LeNet-5 on 1,000 images."""


def combine(corners: PyTree[Float[Array, "corners ..."]], coefficients: Float[Array, " corners"]) -> PyTree:
    """The weights at a point: each leaf is the sum of the corners' leaves, times their coefficients."""
    return jax.tree.map(lambda leaf: jnp.tensordot(coefficients, leaf, 1, precision=lax.Precision.HIGHEST), corners)


def losses(
    model: Classifier,
    corners: Variables,
    coefficients: Float[np.ndarray, "n corners"],
    examples: Examples,
    *,
    recompute: bool = True,
    width: int | None = None,
    checkpoint: Checkpoint | None = None,
    on_points: Callable[[int], None] = lambda _: None,
) -> Float[np.ndarray, " n"]:
    """Mean cross-entropy at each point, or what is left to compute of them.

    Args:
        model: The network.
        corners: Their parameters and statistics, stacked.
        coefficients: Of each point.
        examples: On which the loss is taken; all at once.
        recompute: Whether the statistics of batch normalisation are those of `examples` at the point's own weights.
            Else they are combined as the weights are, which is wrong: nothing is ever normalised by statistics of the
            weights that it has, and beyond the corners variances can be negative (the loss is then NaN).
        width: Points side by side on a device. None is 1 on a CPU, where a batch of kernels is slow, else `CALL`.
        checkpoint: Keeps what is done; None keeps nothing.
        on_points: Called with the number of points done since the last call.
    """
    count, found = len(coefficients), np.full(len(coefficients), np.nan, np.float32)
    at_once = min(CALL, -(-count // jax.device_count())) * jax.device_count()
    plan = Plan.of("map", at_once, 1)  # a point is a lane
    width = width or (1 if jax.default_backend() == "cpu" else CALL)
    done = 0
    keeper = Paced(checkpoint, SECONDS_BETWEEN_CHECKPOINTS)
    if (saved := keeper.load(found)) is not None:
        found, done = saved
        on_points(done)
    corners, examples = plan.put(corners), plan.put(examples)
    while done < count:
        some = np.asarray(coefficients[done : done + plan.height], np.float32)
        size = len(some)
        some = plan.put(np.pad(some, ((0, plan.height - size), (0, 0)), "edge"), SEED)
        found[done : done + size] = fetch(_losses(plan, model, corners, some, examples, recompute, width))[:size]
        done += size
        if keeper.is_due(done, count):
            keeper.save(found, done, count)
        on_points(size)
    return found


@partial(jax.jit, static_argnames=("plan", "model", "recompute", "width"))
def _losses(
    plan: Plan,
    model: Classifier,
    corners: Variables,
    coefficients: Float[Array, "n corners"],
    examples: Examples,
    recompute: bool,
    width: int,
) -> Float[Array, " n"]:
    def block(
        corners: Variables, coefficients: Float[Array, "block corners"], examples: Examples
    ) -> Float[Array, " block"]:
        def point(coefficients: Float[Array, " corners"]) -> Float[Array, ""]:
            return loss(model, combine(corners, coefficients), examples, recompute=recompute)

        # A chunk of one is no chunk: `vmap` over one set of kernels would still be a batch of convolutions.
        return lax.map(point, coefficients, batch_size=width if width > 1 else None)

    return plan.spread(block, None, SEED, None, out=SEED)(corners, coefficients, examples)


def loss(model: Classifier, variables: Variables, examples: Examples, *, recompute: bool) -> Float[Array, ""]:
    """Mean cross-entropy at one point. In training, batch normalisation has the statistics of the batch: of these."""
    logits, _ = model.apply(*variables, examples.images, training=recompute)
    found = cross_entropy(logits, examples.labels).mean()
    # Said here, since XLA's maximum of NaN and 0 in a ReLU may be 0 on a CPU.
    return found if recompute else jnp.where(_is_possible(variables.stats), found, jnp.nan)


def _is_possible(stats: Stats) -> Bool[Array, ""]:
    """Whether no variance is negative."""
    possible = jnp.asarray(True)
    for path, leaf in jax.tree.leaves_with_path(stats):
        if path[-1] == jax.tree_util.DictKey("var"):
            possible &= (leaf >= 0).all()
    return possible
