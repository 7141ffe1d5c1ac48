r"""Newton's method in three sizes: with the whole Hessian, with products, and with the Gauss-Newton matrix."""

from __future__ import annotations

from .._core.chain import chain
from .._core.contract import GradientTransformation, Recipe
from .._core.fields import AtLeastOne, NonNegative
from .._core.schedule import LearningRate
from .._curvature.gauss_newton import scale_by_gauss_newton_cg
from .._curvature.newton import scale_by_newton
from .._curvature.newton_cg import scale_by_newton_cg
from .._transforms.scale import scale_by_learning_rate
from .lbfgs import WOLFE_SEARCH


class newton(Recipe):
    r"""Newton's method: $\theta_{t+1} = \theta_t - \alpha\, (H + \lambda I)^{-1} g$; saddle-free, with $|H|$.

    `scale_by_newton`, `scale_by_learning_rate`, then the line search if there is one. For a few thousand parameters at
    most. Without a line search it converges quadratically to whatever stationary point is near; with one, such as
    `scale_by_backtracking_linesearch(20, store_grad=True)`, every step goes down, or the search says that the direction
    does not.

        updates, state = tx.update(grads, state, params, value_fn=loss)

    State: a tuple of `NewtonState`, `ScaleByLearningRateState`, and the line search's. Units: updates are in the
    parameters'.

    Args:
        learning_rate: alpha, a number or a schedule.
        damping: lambda, added to each eigenvalue. Unit: the Hessian's.
        saddle_free: Whether eigenvalues are taken as absolute values.
        linesearch: Scales what comes out, and asks for `value`, `grad` and `value_fn`; `None`: no search.

    Raises:
        TypeError: from `init`, if a parameter is complex.
        ValueError: if a number is negative.

    Source: Dauphin et al., 2014, for the absolute eigenvalues. Not in optax.
    """

    learning_rate: LearningRate = 1.0
    damping: NonNegative = 0.0
    saddle_free: bool = False
    linesearch: GradientTransformation | None = None

    def parts(self) -> chain:
        return _searched(scale_by_newton(self.damping, self.saddle_free), self.learning_rate, self.linesearch)


class newton_cg(Recipe):
    r"""Newton's method for many parameters: truncated conjugate gradients, and a line search.

    `scale_by_newton_cg`, `scale_by_learning_rate(1)`, then the line search. `gradtx.minimize` runs it to convergence;
    in your own training loop:

        value_and_grad = gradtx.value_and_grad_from_state(loss)
        value, grads = value_and_grad(params, state=state)
        updates, state = tx.update(grads, state, params, value=value, grad=grads, value_fn=loss)

    State: a tuple of `NewtonCGState`, `ScaleByLearningRateState`, and the line search's. Units: updates are in the
    parameters'.

    Args:
        max_cg_steps: Hessian-vector products per update, at least 1.
        damping: lambda at first; it adapts. Unit: the Hessian's.
        rtol: The residual that is always small enough, relative to the gradient.
        linesearch: Scales the direction. The default: strong Wolfe with a first step of 1; `None`: no search.

    Raises:
        TypeError: from `init`, if a parameter is complex.
        ValueError: if `max_cg_steps` is less than 1, or another number is negative.

    Source: Nocedal and Wright, 2006, algorithm 7.1; Martens, 2010. Not in optax.
    """

    max_cg_steps: AtLeastOne = 100
    damping: NonNegative = 0.0
    rtol: NonNegative = 0.5
    linesearch: GradientTransformation | None = WOLFE_SEARCH

    def parts(self) -> chain:
        return _searched(scale_by_newton_cg(self.max_cg_steps, self.damping, self.rtol), 1.0, self.linesearch)


class gauss_newton_cg(Recipe):
    r"""`newton_cg` with the Gauss-Newton matrix, for a loss of a model's outputs.

    `scale_by_gauss_newton_cg`, `scale_by_learning_rate(1)`, then the line search. With `gradtx.minimize`, give it a
    `CompositeLoss`; in your own training loop, `outputs_fn` and `loss_fn` go in beside the others:

        updates, state = tx.update(
            grads, state, params, value=value, grad=grads, value_fn=loss, outputs_fn=model, loss_fn=loss_of_outputs
        )

    State, units and errors: those of `newton_cg`.

    Args:
        linesearch: See `gradtx.newton_cg`.

    Source: Schraudolph, 2002; Martens, 2010. Not in optax.
    """

    max_cg_steps: AtLeastOne = 100
    damping: NonNegative = 0.0
    rtol: NonNegative = 0.5
    linesearch: GradientTransformation | None = WOLFE_SEARCH

    def parts(self) -> chain:
        return _searched(scale_by_gauss_newton_cg(self.max_cg_steps, self.damping, self.rtol), 1.0, self.linesearch)


def _searched(
    direction: GradientTransformation, learning_rate: LearningRate, linesearch: GradientTransformation | None
) -> chain:
    """The direction, against the gradient, and the line search if there is one."""
    stages = direction, scale_by_learning_rate(learning_rate)
    return chain(*stages) if linesearch is None else chain(*stages, linesearch)
