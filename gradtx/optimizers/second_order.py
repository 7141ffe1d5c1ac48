r"""Newton's method in three sizes: with the whole Hessian, with products, and with those of Gauss and Newton."""

from __future__ import annotations

from .._core.arguments import NonNegative
from .._core.chain import chain
from .._core.schedule import ScalarOrSchedule
from .._core.transformation import GradientTransformation, TransformLike, transformation
from ..transforms.gauss_newton import scale_by_gauss_newton_cg
from ..transforms.linesearch import scale_by_zoom_linesearch
from ..transforms.newton import scale_by_newton
from ..transforms.newton_cg import scale_by_newton_cg
from ..transforms.scale import scale_by_learning_rate
from .lbfgs import MOST_EVALUATIONS


@transformation
def newton(
    learning_rate: ScalarOrSchedule = 1.0,
    damping: NonNegative = 0.0,
    saddle_free: bool = False,
    linesearch: TransformLike | None = None,
) -> GradientTransformation:
    r"""Newton's method: $\theta_{t+1} = \theta_t - \alpha\, (H + \lambda I)^{-1} g$; saddle-free, with $|H|$.

    `scale_by_newton`, `scale_by_learning_rate`, then the line search if there is one. For a few thousand parameters at
    most. Without a line search it converges quadratically to whatever point without slope is near; with one, such as
    `scale_by_backtracking_linesearch(20)`, every step goes down, or the search says that the direction does not.

        updates, state = tx.update(grads, state, params, value_fn=loss)

    State: a tuple of `NewtonState`, `ScaleByLearningRateState`, and the line search's. Units: updates are in the
    parameters'.

    Args:
        learning_rate: alpha, or a schedule of it.
        damping: lambda, added to each eigenvalue. Unit: the Hessian's.
        saddle_free: Whether eigenvalues are taken as absolute values.
        linesearch: Scales what comes out, and asks for `value`, `grad` and `value_fn`; None: no search.

    Raises:
        TypeError: Parameters are complex.

    Source: Dauphin et al., 2014, for the absolute eigenvalues. Not in optax.
    """
    parts = (scale_by_newton(damping, saddle_free), scale_by_learning_rate(learning_rate))
    return chain(*parts) if linesearch is None else chain(*parts, linesearch)


@transformation
def newton_cg(
    max_cg_steps: int = 100,
    damping: NonNegative = 0.0,
    rtol: NonNegative = 0.5,
    linesearch: TransformLike | None = None,
) -> GradientTransformation:
    r"""Newton's method for many parameters: truncated conjugate gradients, and a line search.

    `scale_by_newton_cg`, `scale_by_learning_rate(1)`, then the line search. `gradtx.minimize` runs it to convergence;
    in a loop of one's own:

        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params, value=value, grad=grads, value_fn=loss)

    State: a tuple of `NewtonCGState`, `ScaleByLearningRateState`, and the line search's. Units: updates are in the
    parameters'.

    Args:
        max_cg_steps: Hessian-vector products an update, at least 1.
        damping: lambda at first; it adapts. Unit: the Hessian's.
        rtol: The residual that is always small enough, relative to the gradient.
        linesearch: Scales the direction; None: strong Wolfe with a first step of 1.

    Raises:
        TypeError: Parameters are complex.
        ValueError: `max_cg_steps` is less than 1.

    Source: Nocedal and Wright, 2006, algorithm 7.1; Martens, 2010. Not in optax.
    """
    return _searched(scale_by_newton_cg(max_cg_steps, damping, rtol), linesearch)


@transformation
def gauss_newton_cg(
    max_cg_steps: int = 100,
    damping: NonNegative = 0.0,
    rtol: NonNegative = 0.5,
    linesearch: TransformLike | None = None,
) -> GradientTransformation:
    r"""`newton_cg` with the Gauss-Newton matrix, for a loss of a model's outputs.

    `scale_by_gauss_newton_cg`, `scale_by_learning_rate(1)`, then the line search. With `gradtx.minimize`, give it a
    `LossOfOutputs`; in a loop of one's own, `outputs_fn` and `loss_fn` go in beside the others:

        updates, state = tx.update(
            grads, state, params, value=value, grad=grads, value_fn=loss, outputs_fn=model, loss_fn=loss_of_outputs
        )

    State, arguments, units and errors: those of `newton_cg`.

    Source: Schraudolph, 2002; Martens, 2010. Not in optax.
    """
    return _searched(scale_by_gauss_newton_cg(max_cg_steps, damping, rtol), linesearch)


def _searched(direction: GradientTransformation, linesearch: TransformLike | None) -> GradientTransformation:
    search = scale_by_zoom_linesearch(MOST_EVALUATIONS, initial_guess_strategy="one")
    return chain(direction, scale_by_learning_rate(1.0), search if linesearch is None else linesearch)
