"""Meta-training: a learned optimizer is trained like any model, on the losses of the trainings that it makes.

Two estimates of its gradient. *Truncated backpropagation* differentiates windows of a training, and takes what came
before a window as given, which favours what pays soon; a window as long as the training is exact. *Persistent evolution
strategies* (Vicol et al., 2021) use windows as short without that bias: perturbed copies of the optimizer each go on
with a training of their own, and what counts is the sum of all perturbations that a copy has had.

What is kept is not the last optimizer but the one that did best on validation problems, since near the limit of
stability meta-training now and then steps over it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property, partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

import gradtx
from experiments.data import Examples
from experiments.tasks import Instance, Task
from experiments.unrolling import LARGE, Running, curves, draw, losses_at_end, start, unroll
from gradtx import learned

LAST_RATE = 0.05
"""The meta-rate ends at this share of its peak, along a cosine."""
B2 = 0.99
"""Of the meta-optimizer, Adam: it should soon forget the gradients of a step over the limit."""


Value = Callable[[gradtx.GradientTransformation, Running], tuple[Float[Array, ""], Running]]
"""What a window's steps are worth with an optimizer, from where the trainings stand; and where they stand then."""


class Beginning(NamedTuple):
    """A tuned hand-made optimizer that an MLP begins as: momentum, or Adam if `adaptive`."""

    rate: float
    decay: float
    adaptive: bool


@dataclass(frozen=True)
class Recipe:
    """How a learned optimizer is trained.

    Attributes:
        network: Which.
        iterations: Each draws new problems, and trains them for `horizon` steps.
        problems: Drawn in an iteration.
        window: Steps that are differentiated, or perturbed, at once; then the optimizer is updated.
        rate: The peak learning rate of the meta-optimizer, Adam.
        clip: Bounds the norm of a meta-gradient.
        last: Weight of the loss after the last step of a training, beside the mean over a window's steps.
        pairs: Of perturbed copies, for persistent evolution strategies. 0 is backpropagation.
        deviation: Of their perturbations.
        scaling: Random scaling: each parameter is multiplied by exp(u), u uniform in [-scaling, scaling] (Lv et al.,
            2017). 0 is none.
        tuned: Whether it begins as tuned Momentum or tuned Adam; a test of what can be learned beyond tuning. Else from
            the network as it comes.
        curriculum: Pairs of an iteration and a shorter horizon that holds until then.
        horizon: Steps of a training.
        every: Iterations after which the optimizer is validated.
        validation: Problems that it is validated on.
    """

    network: Literal["lstm", "mlp"]
    iterations: int
    problems: int
    window: int
    rate: float
    clip: float = 0.3
    last: float = 0.0
    pairs: int = 0
    deviation: float = 0.01
    scaling: float = 0.0
    tuned: bool = False
    curriculum: tuple[tuple[int, int], ...] = ()
    horizon: int = 100
    every: int = 20
    validation: int = 256

    def __repr__(self) -> str:
        """Without options that are off."""
        shown = {one.name: getattr(self, one.name) for one in fields(self)}
        return f"Recipe({', '.join(f'{name}={value!r}' for name, value in shown.items() if value not in (0, ()))})"

    def fresh(self, key: Key[Array, ""], begins: Beginning | None = None) -> gradtx.GradientTransformation:
        """Before meta-training; all leaves are float32 arrays."""
        if self.network == "lstm":
            tx = learned.lstm(learned.lstm_weights(key))
        elif begins is None:
            tx = learned.mlp(learned.mlp_weights(key))
        else:
            rate = begins.rate if begins.adaptive else begins.rate / (1 - begins.decay)
            tx = learned.mlp(learned.mlp_weights(key, decay=begins.decay, adaptive=begins.adaptive), rate)
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tx)

    def horizon_at(self, iteration: int) -> int:
        """Steps of a training in this iteration."""
        return next((steps for until, steps in self.curriculum if iteration < until), self.horizon)

    def windows(self, horizon: int) -> int:
        """Of a training. A shorter one than a window is one window."""
        return horizon // min(self.window, horizon)

    @cached_property
    def updates(self) -> int:
        """Of the optimizer, in all."""
        return sum(self.windows(self.horizon_at(i)) for i in range(self.iterations))

    @property
    def trainings(self) -> int:
        """User trainings that were made for it, each of `horizon` steps; those of validation too."""
        copies = 2 * self.pairs or 1
        steps = sum(self.horizon_at(i) for i in range(self.iterations)) * self.problems * copies
        checks = (self.iterations // self.every) * self.validation
        return steps // self.horizon + checks

    @property
    def meta_optimizer(self) -> gradtx.GradientTransformation:
        """Clipped Adam, whose rate falls along a cosine."""
        rate = gradtx.cosine_decay_schedule(self.rate, self.updates, LAST_RATE)
        return gradtx.chain(gradtx.clip_by_global_norm(self.clip), gradtx.adam(rate, b2=B2))


class Meta(NamedTuple):
    """All that meta-training carries from one iteration to the next.

    `best` is the optimizer with the lowest validation loss so far; `validation` that loss each time it was taken, NaN
    where it has not been yet.
    """

    tx: gradtx.GradientTransformation
    state: Any
    best: gradtx.GradientTransformation
    validation: Float[np.ndarray, " times"]


@dataclass(frozen=True)
class Trainer:
    """Meta-training of one optimizer for one task.

    Attributes:
        task: What it is trained for.
        recipe: How.
        seed: Of its first weights, and of all problems.
        examples: Images of its problems; None where the task has none.
        begins: What it may begin as: what does best on validation problems, as the network has it, which near the limit
            of stability is not what was tuned. Empty: as it comes.
    """

    task: Task
    recipe: Recipe
    seed: int
    examples: Examples | None
    begins: tuple[Beginning, ...] = ()

    def begin(self) -> Meta:
        """Before the first iteration."""
        starts = [self.recipe.fresh(self._key(0), one) for one in self.begins or (None,)]
        tx = min(starts, key=self.validate) if len(starts) > 1 else starts[0]
        times = self.recipe.iterations // self.recipe.every
        return Meta(tx, self.recipe.meta_optimizer.init(tx), tx, np.full(times, np.nan, np.float32))

    def advance(self, meta: Meta, iteration: int) -> Meta:
        """The next iteration, and validation where it is due."""
        key = jax.random.fold_in(self._key(1), iteration)
        horizon = self.recipe.horizon_at(iteration)
        problems = draw(self.task, key, self.recipe.problems)
        tx, state = _iterate(self.task, self.recipe, meta.tx, meta.state, key, problems, self.examples, horizon)
        meta = meta._replace(tx=tx, state=state)
        if (iteration + 1) % self.recipe.every:
            return meta
        value = self.validate(tx)
        known = meta.validation[np.isfinite(meta.validation)]
        best = meta.best if known.size and known.min() <= value else tx
        validation = meta.validation.copy()
        validation[(iteration + 1) // self.recipe.every - 1] = value
        return meta._replace(best=best, validation=validation)

    def validate(self, tx: gradtx.GradientTransformation) -> np.float32:
        """log10 of the mean loss after the last step, on problems that meta-training never sees."""
        problems = draw(self.task, self._key(2), self.recipe.validation)
        made = curves(self.task, tx, problems, self.examples, self.recipe.horizon)
        return np.float32(np.log10(np.mean(np.asarray(made[:, -1], np.float64))))

    def _key(self, use: int) -> Key[Array, ""]:
        return jax.random.fold_in(jax.random.key(self.seed), use)


@partial(jax.jit, static_argnames=("task", "recipe", "horizon"))
def _iterate(
    task: Task,
    recipe: Recipe,
    tx: gradtx.GradientTransformation,
    state: Any,
    key: Key[Array, ""],
    problems: Instance,
    examples: Examples | None,
    horizon: int,
) -> tuple[gradtx.GradientTransformation, Any]:
    """One update a window, over the whole of a training of new problems."""
    scale_key, noise_key = (jax.random.fold_in(key, use) for use in (1, 2))
    scales = None
    if recipe.scaling:
        scales = _random_scales(scale_key, problems.params, recipe.scaling)
        problems = problems._replace(params=jax.tree.map(jnp.divide, problems.params, scales))
    windows = recipe.windows(horizon)
    steps = horizon // windows
    # The last window has a weight of its own, so it is no constant of the loop.
    weights = jnp.zeros(windows).at[-1].set(recipe.last)
    estimate: Callable[..., Any] = _evolve if recipe.pairs else _backpropagate
    carried = _begun(recipe, tx, problems)

    def window(carry: Any, turn: Any) -> tuple[Any, None]:
        tx, state, carried = carry
        weight, key = turn

        def value(tx: gradtx.GradientTransformation, running: Running) -> tuple[Float[Array, ""], Running]:
            return objective(task, tx, running, problems, examples, steps, scales, weight)

        gradient, carried = estimate(recipe, value, tx, carried, key)
        # Nothing is learned from a window in which the limit of what floats hold was passed.
        is_sound = jnp.isfinite(gradtx.global_norm(gradient))
        gradient = jax.tree.map(lambda g: jnp.where(is_sound, g, 0), gradient)
        updates, state = recipe.meta_optimizer.update(gradient, state, tx)
        return (gradtx.apply_updates(tx, updates), state, carried), None

    (tx, state, _), _ = jax.lax.scan(window, (tx, state, carried), (weights, jax.random.split(noise_key, windows)))
    return tx, state


def _random_scales(key: Key[Array, ""], params: Any, most: float) -> Any:
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    draws = [jax.random.uniform(k, p.shape, p.dtype, -most, most) for k, p in zip(keys, leaves, strict=True)]
    return jax.tree.map(jnp.exp, structure.unflatten(draws))


def objective(
    task: Task,
    tx: gradtx.GradientTransformation,
    running: Running,
    problems: Instance,
    examples: Examples | None,
    window: int,
    scales: Any,
    last: Float[Array, ""],
) -> tuple[Float[Array, ""], Running]:
    """What meta-training lowers: log10 of the mean loss over problems, after each step of a window; their mean.

    Plus `last` times that after the window's last step. A loss beyond the task's level, where training goes wrong,
    counts as its logarithm, so that one training which explodes does not hide the others.
    """
    running, losses = unroll(task, tx, running, problems, examples, window, scales)
    end = running if scales is None else running._replace(params=jax.tree.map(jnp.multiply, scales, running.params))
    after = jnp.concatenate([losses[1:], losses_at_end(task, tx, end, problems, examples)[None]])
    values = jnp.log10(jnp.mean(_tamed(after, task.level), axis=1))
    return jnp.mean(values) + last * values[-1], running


def _tamed(losses: Float[Array, "..."], level: float) -> Float[Array, "..."]:
    is_sound = losses < LARGE  # NaN is not less
    beyond = level * (1 + jnp.log(jnp.where(is_sound & (losses > level), losses, level) / level))
    return jnp.where(is_sound, jnp.where(losses > level, beyond, losses), level * (1 + np.log(LARGE / level)))


def _begun(recipe: Recipe, tx: gradtx.GradientTransformation, problems: Instance) -> Any:
    running = start(tx, problems)
    if not recipe.pairs:
        return running
    copies = 2 * recipe.pairs
    sums = jax.tree.map(lambda leaf: jnp.zeros((recipe.pairs, *leaf.shape), leaf.dtype), tx)
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[None], (copies, *leaf.shape)), running), sums


def _backpropagate(
    recipe: Recipe, value: Value, tx: gradtx.GradientTransformation, running: Running, key: Key[Array, ""]
) -> tuple[gradtx.GradientTransformation, Running]:
    """The gradient over a window, in which what came before it is given; and where the trainings are after it."""
    return jax.grad(value, has_aux=True)(tx, running)


def _evolve(
    recipe: Recipe, value: Value, tx: gradtx.GradientTransformation, carried: tuple[Running, Any], key: Key[Array, ""]
) -> tuple[gradtx.GradientTransformation, tuple[Running, Any]]:
    r"""$\hat g = \frac{1}{2 N \sigma^2} \sum_i \xi_i (L_i^+ - L_i^-)$; xi_i is the sum of a pair's perturbations.

    Carried: the trainings of all copies, and these sums.
    """
    running, sums = carried
    leaves, structure = jax.tree.flatten(tx)
    keys = jax.random.split(key, len(leaves))
    drawn = [
        recipe.deviation * jax.random.normal(k, (recipe.pairs, *leaf.shape), leaf.dtype)
        for k, leaf in zip(keys, leaves, strict=True)
    ]
    noise = structure.unflatten(drawn)
    copies = jax.tree.map(lambda leaf, e: leaf[None] + jnp.concatenate([e, -e]), tx, noise)
    losses, running = jax.vmap(value)(copies, running)
    sums = jax.tree.map(jnp.add, sums, noise)
    difference = (losses[: recipe.pairs] - losses[recipe.pairs :]) / (2 * recipe.pairs * recipe.deviation**2)
    gradient = jax.tree.map(lambda s: jnp.tensordot(difference, s, 1), sums)
    return gradient, (running, sums)
