"""One table of every part and every optimizer, with what each is allowed to refuse."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import gradtx
from gradtx._core.tree import inner


class Entry(NamedTuple):
    """A transformation, and the columns of the conformance table."""

    tx: Any
    refuses: tuple[str, ...] = ()
    sign: Any = "auto"
    extra: Any = None


def paraboloid(params: Any, grads: Any) -> dict[str, Any]:
    """What a line search asks for: an objective whose gradient at params is what it is given."""

    def value_fn(there: Any) -> jax.Array:
        moved = jax.tree.map(lambda a, b: a - b, there, params)
        return inner(grads, there) + 0.5 * inner(moved, moved)

    return {"value": value_fn(params), "grad": grads, "value_fn": value_fn}


def composed(params: Any, grads: Any) -> dict[str, Any]:
    """The same objective as a loss of outputs, which are the params themselves."""
    known = paraboloid(params, grads)
    return known | {"outputs_fn": lambda params: params, "loss_fn": known["value_fn"]}


def matrices(params: Any) -> Any:
    """A mask that leaves vectors out, where there are matrices."""
    wide = jax.tree.map(lambda p: p.ndim > 1, params)
    return wide if any(jax.tree.leaves(wide)) else True


EVERYTHING = {
    "identity": Entry(gradtx.identity()),
    "stateless": Entry(gradtx.stateless(lambda updates, params: updates)),
    "scale": Entry(gradtx.scale(2.0)),
    "scale_by_schedule": Entry(gradtx.scale_by_schedule(gradtx.linear_schedule(1.0, 0.5, 10))),
    "scale_by_learning_rate": Entry(gradtx.scale_by_learning_rate(0.1)),
    "scale_by_learning_rate(flip_sign=False)": Entry(gradtx.scale_by_learning_rate(0.1, flip_sign=False), sign="keeps"),
    "set_to_zero": Entry(gradtx.set_to_zero()),
    "momentum": Entry(gradtx.momentum(0.9)),
    "momentum(nesterov)": Entry(gradtx.trace(0.9, nesterov=True)),
    "momentum(accumulator_dtype)": Entry(gradtx.momentum(0.9, accumulator_dtype=jnp.float32), ("complex",)),
    "ema": Entry(gradtx.ema(0.9)),
    "ema(debias=False)": Entry(gradtx.ema(0.9, debias=False)),
    "bias_correction": Entry(gradtx.bias_correction(0.9)),
    "scale_by_rms": Entry(gradtx.scale_by_rms()),
    "scale_by_rms(outside, corrected)": Entry(gradtx.scale_by_rms(0.9, 1e-8, 0.1, False, True)),
    "scale_by_rss": Entry(gradtx.scale_by_rss()),
    "scale_by_rss(0, outside)": Entry(gradtx.scale_by_rss(0.0, 1e-10, eps_in_sqrt=False)),
    "scale_by_adadelta": Entry(gradtx.scale_by_adadelta()),
    "scale_by_adam": Entry(gradtx.scale_by_adam()),
    "scale_by_adam(nesterov, eps_root)": Entry(gradtx.scale_by_adam(eps_root=1e-6, nesterov=True)),
    "scale_by_adam(no eps)": Entry(gradtx.scale_by_adam(eps=0.0)),
    "add_decayed_weights": Entry(gradtx.add_decayed_weights(0.01)),
    "clip": Entry(gradtx.clip(1.0), ("complex",)),
    "clip_by_global_norm": Entry(gradtx.clip_by_global_norm(1.0)),
    "chain": Entry(gradtx.chain(gradtx.clip_by_global_norm(1.0), gradtx.ema(0.9), gradtx.scale(0.5))),
    "named_chain": Entry(gradtx.named_chain(("norm", gradtx.scale_by_rms()), ("rate", gradtx.scale(0.5)))),
    "sgd": Entry(gradtx.sgd(0.1)),
    "sgd(momentum)": Entry(gradtx.sgd(0.1, 0.9)),
    "sgd(nesterov)": Entry(gradtx.sgd(0.1, 0.9, nesterov=True)),
    "nag": Entry(gradtx.nag(0.1, 0.9)),
    "adagrad": Entry(gradtx.adagrad(0.1)),
    "adadelta": Entry(gradtx.adadelta()),
    "rmsprop": Entry(gradtx.rmsprop(0.1)),
    "rmsprop(momentum)": Entry(gradtx.rmsprop(0.1, momentum=0.9, nesterov=True, bias_correction=True)),
    "adam": Entry(gradtx.adam(0.1)),
    "adam(schedule)": Entry(gradtx.adam(gradtx.warmup_cosine_decay_schedule(0.01, 0.1, 2, 10))),
    "adam(plain callable)": Entry(gradtx.adam(lambda count: 0.1 / (1.0 + jnp.asarray(count, jnp.float32)))),
    "adamw": Entry(gradtx.adamw(0.1)),
    "adamw(mask)": Entry(gradtx.adamw(0.1, mask=matrices)),
    "scale_by_lbfgs": Entry(gradtx.scale_by_lbfgs(2)),
    "scale_by_lbfgs(from 1)": Entry(gradtx.scale_by_lbfgs(2, scale_init_precond=False)),
    "zoom": Entry(
        gradtx.chain(gradtx.scale_by_learning_rate(1.0), gradtx.scale_by_zoom_linesearch(10)), extra=paraboloid
    ),
    "lbfgs": Entry(gradtx.lbfgs(2), extra=paraboloid),
    "backtracking": Entry(
        gradtx.chain(gradtx.scale_by_learning_rate(1.0), gradtx.scale_by_backtracking_linesearch(10)), extra=paraboloid
    ),
    "scale_by_newton": Entry(gradtx.scale_by_newton(0.5), ("complex",), extra=paraboloid),
    "scale_by_newton(saddle_free)": Entry(gradtx.scale_by_newton(0.5, True), ("complex",), extra=paraboloid),
    "scale_by_newton_cg": Entry(gradtx.scale_by_newton_cg(5, 0.5), ("complex",), extra=paraboloid),
    "scale_by_gauss_newton_cg": Entry(gradtx.scale_by_gauss_newton_cg(5, 0.5), ("complex",), extra=composed),
    "newton": Entry(gradtx.newton(0.5, 0.1), ("complex",), extra=paraboloid),
    "newton_cg": Entry(gradtx.newton_cg(5), ("complex",), extra=paraboloid),
    "gauss_newton_cg": Entry(gradtx.gauss_newton_cg(5), ("complex",), extra=composed),
    "scale_by_stochastic_lbfgs": Entry(gradtx.scale_by_stochastic_lbfgs(2, 1), ("complex",), extra=paraboloid),
    "scale_by_stochastic_lbfgs(gradients)": Entry(
        gradtx.scale_by_stochastic_lbfgs(2, 1, 0.1, "gradients"), ("complex",), extra=paraboloid
    ),
    "stochastic_lbfgs": Entry(gradtx.stochastic_lbfgs(0.1, 2, 2), ("complex",), extra=paraboloid),
    "learned.lstm": Entry(
        gradtx.learned.lstm(gradtx.learned.lstm_weights(jax.random.key(0), 3), hidden=3), ("complex",), sign="any"
    ),
    "learned.mlp": Entry(
        gradtx.learned.mlp(gradtx.learned.mlp_weights(jax.random.key(0), 4), hidden=4), ("complex",), sign="any"
    ),
    "foreign": Entry(gradtx.chain(optax.scale(2.0), gradtx.scale_by_rms())),
}
