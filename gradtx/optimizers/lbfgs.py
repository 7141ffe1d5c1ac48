r"""L-BFGS: with a line search, for objectives that can be evaluated whole; and for mini-batches."""

from __future__ import annotations

from typing import Literal

from .._core.arguments import Positive
from .._core.chain import chain
from .._core.schedule import ScalarOrSchedule
from .._core.transformation import GradientTransformation, TransformLike, transformation
from ..transforms.lbfgs import scale_by_lbfgs
from ..transforms.linesearch import scale_by_zoom_linesearch
from ..transforms.scale import scale_by_learning_rate
from ..transforms.stochastic_lbfgs import scale_by_stochastic_lbfgs

MOST_EVALUATIONS = 20
"""A search; scipy's L-BFGS-B has as many."""


@transformation
def lbfgs(
    memory_size: int = 10, scale_init_precond: bool = True, linesearch: TransformLike | None = None
) -> GradientTransformation:
    r"""L-BFGS: $\theta_{t+1} = \theta_t - \alpha_t H_t \nabla f(\theta_t)$, alpha by a line search.

    `scale_by_lbfgs`, `scale_by_learning_rate(1)`, then the line search. `gradtx.minimize` runs it to convergence; in a
    loop of one's own, the objective goes in as an extra argument:

        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params, value=value, grad=grads, value_fn=loss)

    Mini-batches break it: the pairs it learns from must be differences of one function's gradients. For those there is
    `stochastic_lbfgs`.

    State: a tuple of `LBFGSState`, `ScaleByLearningRateState`, and the line search's: 2 `memory_size` + 3 copies of the
    parameters. Units: updates are in the parameters'.

    Args:
        memory_size: Pairs of differences that are kept.
        scale_init_precond: Whether the first direction is scaled to a length of at most 1.
        linesearch: Scales the direction; None: strong Wolfe with a first step of 1.

    Raises:
        ValueError: `memory_size` is less than 1.

    Source: Liu and Nocedal, 1989. Differs from optax: no learning rate beside the line search, which the direction is
    made for; pairs of no positive curvature are left out.
    """
    search = scale_by_zoom_linesearch(MOST_EVALUATIONS, initial_guess_strategy="one")
    return chain(
        scale_by_lbfgs(memory_size, scale_init_precond),
        scale_by_learning_rate(1.0),
        search if linesearch is None else linesearch,
    )


@transformation
def stochastic_lbfgs(
    learning_rate: ScalarOrSchedule,
    memory_size: int = 10,
    every: int = 10,
    damping: Positive = 0.01,
    curvature: Literal["gradients", "products"] = "products",
) -> GradientTransformation:
    r"""L-BFGS for mini-batches: $\theta_{t+1} = \theta_t - \alpha_t H_t g_t$.

    `scale_by_stochastic_lbfgs`, then `scale_by_learning_rate`. The objective of the batch goes in beside its gradient:

        updates, state = tx.update(grads, state, params, value_fn=loss_of_this_batch)

    State: a tuple of `StochasticLBFGSState` and `ScaleByLearningRateState`: 2 `memory_size` + 2 copies of the
    parameters. Units: updates are in the parameters'.

    Args:
        learning_rate: alpha, or a schedule of it; without unit, and well below 1.
        memory_size: Pairs that are kept, at least 1.
        every: Updates from pair to pair, at least 1.
        damping: The least curvature that is believed. Unit: the Hessian's.
        curvature: Whether pairs are made of a Hessian-vector product or of two gradients of one batch.

    Raises:
        TypeError: Parameters are complex.
        ValueError: `memory_size` or `every` is less than 1, or `curvature` is something else.

    Source: Byrd, Hansen, Nocedal and Singer, 2016, with the damping of Wang, Ma, Goldfarb and Liu, 2017. Not in optax.
    """
    return chain(
        scale_by_stochastic_lbfgs(memory_size, every, damping, curvature), scale_by_learning_rate(learning_rate)
    )
