r"""Sharpness-aware minimisation: the gradient at a point where the loss is higher."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from .._core.contract import (
    EmptyState,
    GradientTransformation,
    Stateless,
    refuse_look_ahead,
    refuse_step_owner,
)
from .._core.fields import AtLeastOne, NonNegative
from .._transforms.clip import divided, global_norm
from .._trees.apply import apply_updates
from .._trees.map import map_leaves, zeros_like
from .._trees.precision import restore, widen
from .._trees.vectors import present, tree_where
from .._types import Count, Leaf, OptState, Params, PyTree, ScalarArray, Updates


def _weighted(updates: Leaf, params: Leaf, eta: ScalarArray) -> Leaf:
    return (jnp.abs(params) + eta) * updates


def _step(updates: Leaf, rho: ScalarArray) -> Leaf:
    return -rho * updates


def _phase(updates: Leaf, perturbation: Leaf, climb: Leaf, last: ScalarArray) -> tuple[Leaf, Leaf]:
    """Nothing until the last phase, which takes the perturbation back."""
    return jnp.where(last > 0, updates, 0), jnp.where(last > 0, 0, perturbation - climb)


def _climbed(perturbation: Leaf, climb: Leaf) -> Leaf:
    return perturbation - climb


class sam_perturbation(Stateless):
    r"""Step of SAM's adversary: descent by rho along the normalized gradient, whose sign `sam` flips to ascend.

    $$u_t = -\rho\,\frac{T^2 g_t}{\lVert T g_t \rVert}, \qquad T = 1 \;\text{or, adaptive,}\; T = |\theta| + \eta$$

    The norm is over all leaves. A gradient of 0 gives a step of 0.

    State: `EmptyState()`. Needs `params` if it is adaptive. Units: of the parameters.

    Args:
        rho: How far away the point is, >= 0. Unit: parameters; none if adaptive.
        adaptive: Whether to measure in units of each parameter's size (ASAM), so that the loss may be written in other
            units of the parameters. Typical values of rho are ten times as large then.
        eta: Added to the size of a parameter, if adaptive, so that one at 0 moves. Unit: parameters.

    Raises:
        ValueError: if `rho` or `eta` is negative; from `update`, if it is adaptive and `params` are missing.

    Source: Foret et al., 2021, https://arxiv.org/abs/2010.01412; Kwon et al., 2021 (ASAM),
    https://arxiv.org/abs/2102.11600. Differs: no epsilon is added to the norm.
    """

    rho: NonNegative = 0.05
    adaptive: bool = False
    eta: NonNegative = 0.01

    def update(self, updates: Updates, state: EmptyState, params: Params | None = None) -> tuple[Updates, EmptyState]:
        wide = widen(updates)
        if self.adaptive and params is None:
            raise ValueError("sam_perturbation needs params where it is adaptive: tx.update(updates, state, params)")
        if self.adaptive:
            wide = map_leaves(_weighted, {"updates": wide}, reads={"params": params}, eta=self.eta)
        step = map_leaves(divided, {"updates": wide}, norm=global_norm(wide))
        if self.adaptive:
            step = map_leaves(_weighted, {"updates": step}, reads={"params": params}, eta=self.eta)
        return restore(map_leaves(_step, {"updates": step}, rho=self.rho), updates), state


class SAMState(NamedTuple):
    """State of `sam`."""

    steps_since_sync: Count
    """Number of perturbations since the last step; 0 where one call makes both."""
    optimizer_state: OptState
    """State of the optimizer."""
    adv_optimizer_state: OptState
    """State of the adversary."""
    perturbation: PyTree
    """From the parameters to the point to differentiate at, like the parameters; `None` where one call makes both."""


class sam(GradientTransformation):
    r"""Sharpness-aware minimisation: step by the gradient at a point nearby where the loss is higher.

    $$e_t = \rho\,\nabla f(\theta_t) / \lVert\nabla f(\theta_t)\rVert, \qquad
    \theta_{t+1} = \theta_t + u(\nabla f(\theta_t + e_t))$$

    with u the step of `optimizer`, and $-e_t$ that of `adv_optimizer`. That is two gradients a step, of one batch, in
    one of two ways with the same numbers:

    - Two calls. The gradient is to be taken at `tx.gradient_params(params, state)`, in both; the first `update` returns
      zeros. In a chain it comes last.
    - `opaque_mode`: one call with the gradient at `params` and the extra argument `grad_fn(params, i)`, which gives the
      gradient at another point (for complex parameters its conjugate), as of `jax.grad`; i = 0 for the first.

        updates, state = tx.update(grads, state, params, grad_fn=lambda params, i: jax.grad(loss)(params, batch))

    State: `steps_since_sync`, int32, `perturbation`, like `params` (float32 for half precision), in two calls; and
    those of both optimizers. Needs `params`.
    Units: as those of `optimizer`.

    Args:
        optimizer: The optimizer, which sees one gradient a step.
        adv_optimizer: The adversary, an optimizer whose steps are turned round: `sam_perturbation(rho)`, with
            `adaptive=True` for ASAM, or `chain(normalize(), sgd(rho))`.
        sync_period: Number of gradients a step; all but the last are for the adversary.
        reset_state: Whether the adversary's state begins anew at each step.
        opaque_mode: Whether one call makes the step.

    Raises:
        ValueError: if one of the two defines `gradient_params`, or `adv_optimizer` keeps track of the parameters.
        TypeError: from `update` in `opaque_mode`, if `grad_fn` is missing.

    Source: Foret et al., 2021, https://arxiv.org/abs/2010.01412. Differs: in two calls optax moves the parameters
    themselves to the point and back.
    """

    optimizer: GradientTransformation
    adv_optimizer: GradientTransformation = sam_perturbation()
    sync_period: AtLeastOne = 2
    reset_state: bool = True
    opaque_mode: bool = False

    def __check_init__(self) -> None:
        for inner in (self.optimizer, self.adv_optimizer):
            refuse_look_ahead("sam", inner)
        refuse_step_owner("sam", self.adv_optimizer)

    def init(self, params: Params) -> SAMState:
        states = self.optimizer.init(params), self.adv_optimizer.init(params)
        return SAMState(jnp.zeros([], jnp.int32), *states, None if self.opaque_mode else zeros_like(params))

    def update(self, updates: Updates, state: SAMState, params: Params, **extra: object) -> tuple[Updates, SAMState]:
        wide = widen(updates)
        step, new = (self._one_call if self.opaque_mode else self._two_calls)(wide, state, params, **extra)
        return restore(step, updates), new

    def _two_calls(
        self, updates: Updates, state: SAMState, params: Params, **extra: object
    ) -> tuple[Updates, SAMState]:
        calls, point = jnp.asarray(state.steps_since_sync), self.gradient_params(params, state)
        last = calls >= self.sync_period - 1
        climb, adversary = self.adv_optimizer.update(updates, state.adv_optimizer_state, point, **extra)
        step, optimizer = self.optimizer.update(updates, state.optimizer_state, params, **extra)
        trees = {"updates": step, "perturbation": state.perturbation}
        step, perturbation = map_leaves(_phase, trees, reads={"climb": climb}, last=last)
        after = self.adv_optimizer.init(params) if self.reset_state else state.adv_optimizer_state
        return step, SAMState(
            jnp.where(last, 0, calls + 1).astype(calls.dtype),
            tree_where(last, optimizer, state.optimizer_state),
            tree_where(last, after, adversary),
            perturbation,
        )

    def _one_call(self, updates: Updates, state: SAMState, params: Params, **extra: object) -> tuple[Updates, SAMState]:
        grad_fn = extra.get("grad_fn")
        if not callable(grad_fn):
            raise TypeError(
                "sam(opaque_mode=True) needs the extra argument `grad_fn`: "
                "call tx.update(updates, state, params, grad_fn=lambda params, i: ...)"
            )
        grads, point, adversary = updates, params, state.adv_optimizer_state
        perturbation = jax.tree.map(jnp.zeros_like, updates)
        for i in range(self.sync_period - 1):
            climb, adversary = self.adv_optimizer.update(grads, adversary, point, **extra)
            perturbation = map_leaves(_climbed, {"perturbation": perturbation}, reads={"climb": climb})
            point = apply_updates(params, perturbation)
            # What has no gradient at the parameters is not to be touched.
            grads = present(widen(grad_fn(point, i)), updates)
        step, optimizer = self.optimizer.update(grads, state.optimizer_state, params, **extra)
        after = self.adv_optimizer.init(params) if self.reset_state else adversary
        return step, SAMState(jnp.zeros([], jnp.int32), optimizer, after, None)

    def gradient_params(self, params: Params, state: OptState) -> Params:
        return params if self.opaque_mode else apply_updates(params, state.perturbation)

    def _has_own(self, method: str) -> bool:
        return super()._has_own(method) and not (method == "gradient_params" and self.opaque_mode)
