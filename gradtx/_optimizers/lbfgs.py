r"""L-BFGS: with a line search, for objectives that can be evaluated whole; and for mini-batches."""

from __future__ import annotations

from .._core.chain import chain
from .._core.contract import GradientTransformation, Recipe
from .._core.fields import AtLeastOne, Positive
from .._core.schedule import LearningRate
from .._curvature.lbfgs import scale_by_lbfgs
from .._curvature.stochastic_lbfgs import Curvature, scale_by_stochastic_lbfgs
from .._linesearch.zoom import scale_by_zoom_linesearch
from .._transforms.identity import identity
from .._transforms.scale import scale_by_learning_rate

WOLFE_SEARCH = scale_by_zoom_linesearch(20, initial_guess_strategy="one")
"""For directions of Newton's kind, whose own length is right near a minimum: it begins with a step of 1.

20 evaluations are optax's default and that of scipy's L-BFGS-B (`maxls`).
"""


class lbfgs(Recipe):
    r"""L-BFGS: $\theta_{t+1} = \theta_t - \alpha_t H_t \nabla f(\theta_t)$, alpha by a line search.

    `scale_by_lbfgs`, `scale_by_learning_rate`, then the line search. `gradtx.minimize` runs it to
    convergence; in your own training loop, the objective goes in as an extra argument:

        value_and_grad = gradtx.value_and_grad_from_state(loss)
        value, grads = value_and_grad(params, state=state)
        updates, state = tx.update(grads, state, params, value=value, grad=grads, value_fn=loss)

    Mini-batches break it: the pairs it learns from must be differences of one function's gradients. For those there is
    `stochastic_lbfgs`.

    State: a tuple of `ScaleByLBFGSState`, `ScaleByLearningRateState`, and the line search's: 2 `memory_size` + 3 copies
    of the parameters. Units: updates are in the parameters'.

    Args:
        learning_rate: A factor before the line search, a number or a schedule; `None`: 1.
        memory_size: Pairs of differences that are kept, at least 1.
        scale_init_precond: Whether the first direction has a length that fits the parameters; see `scale_by_lbfgs`.
        linesearch: Scales the direction. The default: strong Wolfe with a first step of 1; `None`: no search, so that
            the learning rate alone says how far.

    Raises:
        ValueError: if `memory_size` is less than 1, or `learning_rate` is negative.

    Source: Liu and Nocedal, 1989. Differs from optax: pairs of no positive curvature are left out; the line search
    extrapolates and interpolates otherwise (see `gradtx.scale_by_zoom_linesearch`).
    """

    learning_rate: LearningRate | None = None
    memory_size: AtLeastOne = 10
    scale_init_precond: bool = True
    linesearch: GradientTransformation | None = WOLFE_SEARCH

    def parts(self) -> chain:
        return chain(
            scale_by_lbfgs(self.memory_size, self.scale_init_precond),
            scale_by_learning_rate(1.0 if self.learning_rate is None else self.learning_rate),
            identity() if self.linesearch is None else self.linesearch,
        )


class stochastic_lbfgs(Recipe):
    r"""L-BFGS for mini-batches: $\theta_{t+1} = \theta_t - \alpha_t H_t g_t$.

    `scale_by_stochastic_lbfgs`, then `scale_by_learning_rate`. The objective of the batch goes in beside its gradient:

        updates, state = tx.update(grads, state, params, value_fn=loss_of_this_batch)

    State: a tuple of `StochasticLBFGSState` and `ScaleByLearningRateState`: 2 `memory_size` + 2 copies of the
    parameters. Units: updates are in the parameters'.

    Args:
        learning_rate: alpha, a number or a schedule; without unit, and well below 1.
        memory_size: Pairs that are kept, at least 1.
        every: Updates from pair to pair, at least 1.
        damping: The least curvature that is believed. Unit: the Hessian's.
        curvature: Whether pairs are made of a Hessian-vector product (`"products"`) or of two gradients of one batch
            (`"gradients"`).

    Raises:
        TypeError: from `init`, if a parameter is complex.
        ValueError: if `memory_size` or `every` is less than 1, another number is outside its range, or `curvature` is
            another.

    Source: Byrd, Hansen, Nocedal and Singer, 2016, with the damping of Wang, Ma, Goldfarb and Liu, 2017. Not in optax.
    """

    learning_rate: LearningRate
    memory_size: AtLeastOne = 10
    every: AtLeastOne = 10
    damping: Positive = 0.01
    curvature: Curvature = "products"

    def parts(self) -> chain:
        return chain(
            scale_by_stochastic_lbfgs(self.memory_size, self.every, self.damping, self.curvature),
            scale_by_learning_rate(self.learning_rate),
        )
