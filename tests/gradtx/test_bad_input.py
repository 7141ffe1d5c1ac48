"""Bad input, as a table: every row raises, and says what came, what was expected, where, and how to mend it."""

# The rows are wrong on purpose, and pyright sees many of them too.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradtx

PARAMS = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
ADAM = gradtx.adam(1e-3)
STATE = ADAM.init(PARAMS)


def plain(function: Any) -> Callable[..., Any]:
    """The function as users call it, without the type checks that tests add to it."""
    return inspect.unwrap(function)


def update(tx: Any, updates: Any = PARAMS, params: Any = None, state: Any = None) -> Any:
    return tx.update(updates, tx.init(PARAMS) if state is None else state, params)


ROWS: dict[str, tuple[type[Exception], str, Callable[[], Any]]] = {
    # Arguments
    "a negative rate": (ValueError, "adam: `learning_rate` must be a finite number >= 0, got -0.1. The step goes "
                        "against the gradient already", lambda: gradtx.adam(-0.1)),
    "a NaN rate": (ValueError, "sgd: `learning_rate` must be a finite number >= 0, got nan", lambda: gradtx.sgd(np.nan)),
    "an infinite rate": (ValueError, "got inf", lambda: gradtx.sgd(float("inf"))),
    "a batch with one bad rate": (ValueError, r"`learning_rate` must be .* got \[ 0.1 -0.2\]",
                                  lambda: gradtx.sgd(np.array([0.1, -0.2]))),
    "a JAX array with a NaN": (ValueError, "`learning_rate` must be", lambda: gradtx.sgd(jnp.array([0.1, jnp.nan]))),
    "a string for a rate": (TypeError, r"adam: `learning_rate` must be a number or an array of floats or a schedule "
                            r"\(a function of the step\), got '0.1' \(str\)", lambda: gradtx.adam("0.1")),
    "a bool for a rate": (TypeError, r"`learning_rate` must be .* got True \(bool\)", lambda: gradtx.adam(True)),
    "a bool array": (TypeError, "`step_size` must be", lambda: gradtx.scale(np.array([True]))),
    "a complex number": (TypeError, "`step_size` must be", lambda: gradtx.scale(1j)),
    "a complex array": (TypeError, "`step_size` must be real, got an array of complex64",
                        lambda: gradtx.scale(jnp.ones(2, jnp.complex64))),
    "a list of rates": (TypeError, "`learning_rate` must be", lambda: gradtx.sgd([0.1, 0.2])),
    "a decay of 1": (ValueError, r"ema: `decay` must be in \[0, 1\), got 1.0. A decay of 1", lambda: gradtx.ema(1)),
    "a sum that grows": (ValueError, r"trace: `decay` must be in \[0, 1\], got 1.1", lambda: gradtx.trace(1.1)),
    "a decay above 1": (ValueError, r"adam: `b2` must be in \[0, 1\), got 1.5", lambda: gradtx.adam(1e-3, b2=1.5)),
    "a negative eps": (ValueError, "rmsprop: `eps` must be a finite number >= 0", lambda: gradtx.rmsprop(1e-3, eps=-1)),
    "a negative accumulator": (ValueError, "adagrad: `initial_accumulator_value` must", lambda: gradtx.adagrad(1e-3, -1.0)),
    "a memory of nothing": (ValueError, "lbfgs: `memory_size` must be a whole number >= 1, got 0",
                            lambda: gradtx.lbfgs(memory_size=0)),
    "a search that may not look": (ValueError, "`max_linesearch_steps` must be a whole number >= 1, got 0",
                                   lambda: gradtx.scale_by_zoom_linesearch(0)),
    "conditions that no step satisfies": (ValueError, "`curv_rtol` must be above `slope_rtol`",
                                          lambda: gradtx.scale_by_zoom_linesearch(5, slope_rtol=0.5, curv_rtol=0.1)),
    "an unknown first step": (ValueError, "`initial_guess_strategy` must be 'keep' or 'one', got 'two'",
                              lambda: gradtx.scale_by_zoom_linesearch(5, initial_guess_strategy="two")),
    "a line search without its function": (TypeError, "needs the extra arguments `grad`, `value`, `value_fn`: call",
                                           lambda: update(gradtx.lbfgs(), params=PARAMS)),
    "an objective of many values": (TypeError, r"what fun returns must be one real number, got float32\[3\]; take the mean",
                                    lambda: gradtx.minimize(lambda x: x, jnp.ones(3), gradtx.lbfgs())),
    "a search that may not shorten": (ValueError, "`max_backtracking_steps` must be a whole number >= 1, got 0",
                                      lambda: gradtx.scale_by_backtracking_linesearch(0)),
    "a search that does not shorten": (ValueError, "`decrease_factor` must be above 0 and below 1, got 1.0",
                                       lambda: gradtx.scale_by_backtracking_linesearch(5, decrease_factor=1.0)),
    "a search that shortens to nothing": (ValueError, "`decrease_factor` must be above 0 and below 1, got 0.0",
                                          lambda: gradtx.scale_by_backtracking_linesearch(5, decrease_factor=0.0)),
    "a search that begins shorter": (ValueError, "`increase_factor` must be a number >= 1, or infinity, got 0.5",
                                     lambda: gradtx.scale_by_backtracking_linesearch(5, increase_factor=0.5)),
    "no products with the Hessian": (ValueError, "newton_cg: `max_cg_steps` must be a whole number >= 1, got 0",
                                     lambda: gradtx.newton_cg(0)),
    "no products with its like": (ValueError, "gauss_newton_cg: `max_cg_steps` must be a whole number >= 1, got -1",
                                  lambda: gradtx.gauss_newton_cg(-1)),
    "a negative damping": (ValueError, "newton: `damping` must be a finite number >= 0, got -0.1",
                           lambda: gradtx.newton(damping=-0.1)),
    "a stochastic memory of nothing": (ValueError, "stochastic_lbfgs: `memory_size` must be a whole number >= 1",
                                       lambda: gradtx.stochastic_lbfgs(0.1, 0)),
    "a pair in no updates": (ValueError, "stochastic_lbfgs: `every` must be a whole number >= 1, got 0",
                             lambda: gradtx.stochastic_lbfgs(0.1, every=0)),
    "pairs without damping": (ValueError, "stochastic_lbfgs: `damping` must be a finite number > 0, got 0.0",
                              lambda: gradtx.stochastic_lbfgs(0.1, damping=0.0)),
    "an unknown curvature": (ValueError, "`curvature` must be 'gradients' or 'products', got 'secants'",
                             lambda: gradtx.scale_by_stochastic_lbfgs(curvature="secants")),
    "a second derivative without its function": (TypeError, "needs the extra argument `value_fn`",
                                                 lambda: update(gradtx.newton(), params=PARAMS)),
    "a loss that is not one of outputs": (TypeError, "needs the extra arguments? .*`loss_fn`", lambda: gradtx.minimize(
        lambda x: jnp.sum(x * x), jnp.ones(3), gradtx.gauss_newton_cg())),
    "complex params of Newton": (TypeError, r"scale_by_newton: params\['z'\] is complex, expected real numbers: give real "
                                 "and imaginary parts", lambda: gradtx.newton().init({"z": jnp.ones(2, jnp.complex64)})),
    "a negative norm": (ValueError, "clip_by_global_norm: `max_norm` must be a finite number >= 0, got -1.0",
                        lambda: gradtx.clip_by_global_norm(-1)),
    "a negative weight decay": (ValueError, "adamw: `weight_decay` must be", lambda: gradtx.adamw(1e-3, weight_decay=-1)),
    "no rate": (TypeError, r"sgd: `learning_rate` must be a number .*, got None \(NoneType\)", lambda: gradtx.sgd(None)),
    "an int too large": (ValueError, "`learning_rate` must be .* too large for a float", lambda: gradtx.sgd(10**400)),
    "a random key": (TypeError, "`learning_rate` must be a number", lambda: gradtx.sgd(jax.random.key(0))),
    "an array of strings": (TypeError, "`learning_rate` must be a number", lambda: gradtx.sgd(np.array("a"))),
    "a schedule that was not called": (TypeError, "`learning_rate` must be a number",
                                       lambda: gradtx.sgd(gradtx.linear_schedule)),
    "no stage": (TypeError, r"chain: `transforms`\[0\] must be a gradient transformation", lambda: gradtx.chain(None)),
    "a list of stages": (TypeError, r"chain: `transforms`\[0\] must be a gradient", lambda: gradtx.chain([ADAM])),
    "complex gradients of real parameters": (TypeError, r"mu\['b'\] would become complex where it is float32, since updates\['b'\] is: ",
                                             lambda: update(ADAM, jax.tree.map(lambda p: p.astype(jnp.complex64), PARAMS))),
    "a path of replace that is none": (TypeError, "adam.replace takes names or paths with new values, .* got 0.2",
                                       lambda: plain(type(ADAM).replace)(ADAM, 0.2)),
    "replaced by position": (TypeError, "chain.replace takes names or paths .* got {0: ",
                             lambda: plain(gradtx.chain.replace)(gradtx.chain(ADAM), {0: ADAM})),
    "hyperparameters of a closure": (TypeError, "current takes a gradtx transformation, .* got GradientTransformation",
                                     lambda: plain(gradtx.current)(optax.sgd(0.1), ())),
    "a function without params": (TypeError, r"write the function as update\(updates, state, params=None\)",
                                  lambda: gradtx.GradientTransformation(lambda p: (), lambda u, s: (u, s))),
    "an optimizer that was not called": (TypeError, r"must be a gradient .*got <class .*; call it: lbfgs\(\.\.\.\)",
                                         lambda: plain(gradtx.minimize)(jnp.sum, jnp.ones(3), gradtx.lbfgs)),
    "a negative number of steps": (ValueError, "minimize: max_steps must be at least 0, got -1",
                                   lambda: gradtx.minimize(jnp.sum, jnp.ones(3), gradtx.lbfgs(), max_steps=-1)),
    "a complex tolerance": (TypeError, "minimize: tol must be a real number, got Array",
                            lambda: gradtx.minimize(jnp.sum, jnp.ones(3), gradtx.lbfgs(), tol=jnp.asarray(1j))),
    "a kernel that forgets a tree": (TypeError, "must return a leaf for each of updates, mu, got .*float32",
                                     lambda: gradtx.map_leaves(lambda updates, mu: mu, {"updates": PARAMS, "mu": PARAMS})),
    "a kernel that sums": (ValueError, r"must return a leaf for each of u, of its shape: u has \(2, 3\), got \(\)",
                           lambda: gradtx.map_leaves(lambda u: u.sum(), {"u": {"w": jnp.ones((2, 3))}})),
    "an optional tree that is none": (ValueError, "map_leaves: optional='mu' is none of the trees, which are u",
                                      lambda: gradtx.map_leaves(jnp.sign, {"u": PARAMS}, optional="mu")),
    "integer updates": (TypeError, r"updates\['w'\] has dtype int32", lambda: gradtx.apply_updates(
        {"w": jnp.ones(3)}, {"w": jnp.arange(3)})),
    "a string for a flag": (TypeError, r"sgd: `nesterov` must be bool, got 'yes' \(str\)",
                            lambda: gradtx.sgd(0.1, nesterov="yes")),
    "an integer accumulator": (TypeError, "an accumulator needs a floating or complex dtype, got int32",
                               lambda: gradtx.trace(0.9, accumulator_dtype=jnp.int32)),
    "a missing rate": (TypeError, "missing .*required .*argument: 'learning_rate'",
                       lambda: gradtx.adam()),
    "an unknown argument": (TypeError, "adam has no argument 'lr'; it has learning_rate",
                            lambda: gradtx.adam(0.1, lr=0.1)),
    "a transformation for a rate": (TypeError, "sgd: `learning_rate` must be a number", lambda: gradtx.sgd(ADAM)),
    "a negative step count": (ValueError, "linear_schedule: `transition_steps` must be",
                              lambda: gradtx.linear_schedule(1.0, 0.0, -5)),
    "no steps to decay over": (ValueError, "cosine_decay_schedule: `decay_steps` must be a finite number > 0",
                               lambda: gradtx.cosine_decay_schedule(1.0, 0)),
    "a bad boundary": (ValueError, r"piecewise_constant_schedule: `boundaries_and_scales`\[0\]\[1\] must be",
                       lambda: gradtx.piecewise_constant_schedule(1.0, {10: -0.5})),
    "too few boundaries": (ValueError, "2 schedules need 1 boundaries, got 0",
                           lambda: gradtx.join_schedules([gradtx.constant_schedule(1.0)] * 2, [])),
    "a number in a chain": (TypeError, r"chain: `transforms`\[1\] must be a gradient transformation \(a pair of init "
                            r"and update\), got 3 \(int\)", lambda: gradtx.chain(ADAM, 3)),
    "an uncalled factory in a chain": (TypeError, r"chain: `transforms`\[0\] must be a gradient transformation",
                                       lambda: gradtx.chain(gradtx.adam)),
    "an unnamed stage": (TypeError, r"named_chain: expected pairs like \('clip', gradtx.clip\(1.0\)\)",
                         lambda: gradtx.named_chain(ADAM)),
    "two stages of one name": (ValueError, r"named_chain: names must differ, got \['a', 'a'\]",
                               lambda: gradtx.named_chain(("a", ADAM), ("a", ADAM))),
    "a stage with a dot in its name": (ValueError, "named_chain: 'a.b' cannot name a stage; use another word",
                                       lambda: gradtx.named_chain(("a.b", ADAM))),
    # Trees
    "a gradient less": (ValueError, r"updates has nothing at \['b'\], but mu has float32\[3\] there",
                        lambda: update(ADAM, {"w": PARAMS["w"]})),
    "a gradient more": (ValueError, r"updates\['extra'\] is float32\[1\], but mu has nothing there",
                        lambda: update(ADAM, {**PARAMS, "extra": jnp.ones(1)})),
    "a shape that would broadcast": (ValueError, r"updates\['b'\] has shape \(1,\), but mu\['b'\] has shape \(3,\); they "
                                     "must be equal, nothing is broadcast", lambda: update(ADAM, {**PARAMS, "b": jnp.ones(1)})),
    "another container": (ValueError, r"updates has nothing at \['b'\], but mu has",
                          lambda: update(ADAM, [PARAMS["b"], PARAMS["w"]])),
    "updates that do not fit the params": (ValueError, r"params\['b'\] has shape \(3,\), but updates\['b'\] has shape \(2,\)",
                                           lambda: gradtx.apply_updates(PARAMS, {**PARAMS, "b": jnp.ones(2)})),
    "missing params": (ValueError, r"add_decayed_weights needs params: call tx.update\(updates, state, params\)",
                       lambda: update(gradtx.adamw(1e-3))),
    "integer params": (TypeError, r"params\['n'\] has dtype int32, expected a floating or complex array. Leave what is "
                       "not trained out", lambda: ADAM.init({"n": jnp.arange(3)})),
    "integer params of an optimizer without state": (TypeError, r"params\['n'\] has dtype int32",
                                                     lambda: gradtx.sgd(0.1).init({"n": jnp.arange(3)})),
    "integer gradients": (TypeError, r"updates\['n'\] has dtype int32", lambda: gradtx.scale(2.0).update(
        {"n": jnp.arange(3)}, gradtx.EmptyState())),
    "a string in the tree": (TypeError, r"params\['name'\] has type str \('w'\)", lambda: ADAM.init({"name": "w"})),
    "complex updates to clip": (TypeError, "clip: complex updates have no order; use clip_by_global_norm",
                                lambda: gradtx.clip(1.0).update({"w": jnp.ones(2, jnp.complex64)}, gradtx.EmptyState())),
    # States
    "another optimizer's state": (TypeError, "scale_by_adam expected a state of type ScaleByAdamState, got EmptyState. "
                                  r"Make it with tx.init\(params\)", lambda: update(ADAM, state=gradtx.sgd(0.1).init(PARAMS))),
    "a state of another length": (TypeError, "chain expected a tuple of 2 states, got tuple of 3",
                                  lambda: update(ADAM, state=(*STATE, STATE[0]))),
    "a state restored as a list": (TypeError, "chain expected a tuple of 2 states, got list of 2",
                                   lambda: update(ADAM, state=list(STATE))),
    "no state": (TypeError, "scale_by_rms expected a state of type ScaleByRmsState, got dict",
                 lambda: update(gradtx.scale_by_rms(), state={})),
    "a named chain's state by other names": (TypeError, r"named_chain expected a dict of states for \['a'\], got dict",
                                             lambda: update(gradtx.named_chain(("a", ADAM)), state={"b": STATE})),
    # Masks
    "a mask of other names": (ValueError, "the mask does not fit the tree: expected bools like .*or a prefix",
                              lambda: gradtx.adamw(1e-3, mask={"weights": True}).init(PARAMS)),
    "a mask that selects nothing": (ValueError, "the mask selects nothing in the tree: .* Leave the weight decay out",
                                    lambda: gradtx.adamw(1e-3, mask={"w": False, "b": False}).init(PARAMS)),
    "a mask of numbers": (TypeError, r"mask\['b'\] must be True or False, got 0",
                          lambda: gradtx.adamw(1e-3, mask={"w": 1, "b": 0})),
    "a function to a mask of numbers": (
        TypeError, r"mask\['b'\] must be True or False, got 0",
        lambda: gradtx.adamw(1e-3, mask=lambda params: {"w": 1, "b": 0}).init(PARAMS)),
    "a name that nothing has as a mask": (ValueError, r"the mask selects nothing in the tree: by_path\('kernel'\)",
                                          lambda: gradtx.adamw(0.1, mask="kernel").init(PARAMS)),
    "a rule that was not called": (TypeError, r"adamw: `mask`: a mask must be bools, .* got <class .*by_rank",
                                   lambda: gradtx.adamw(0.1, mask=gradtx.by_rank)),
    "an optimizer as a mask": (TypeError, r"adamw: `mask`: a mask must be bools, .* got sgd\(",
                               lambda: gradtx.adamw(0.1, mask=gradtx.sgd(0.1))),
    "a schedule as a mask": (TypeError, r"adadelta: `weight_decay_mask`: a mask must be bools",
                             lambda: gradtx.adadelta(weight_decay=0.1, weight_decay_mask=gradtx.constant_schedule(1.0))),
    "a flag for a size": (TypeError, "lbfgs: `memory_size` must be int, got True",
                          lambda: gradtx.lbfgs(memory_size=True)),
    "a mask whose keys cannot be sorted": (TypeError, "adamw: a static argument must be concrete and hashable: ",
                                           lambda: gradtx.adamw(0.1, mask={"": True, 0: True})),
    "a mask without weight decay": (ValueError, "adadelta: `weight_decay_mask` needs a `weight_decay`",
                                    lambda: gradtx.adadelta(weight_decay_mask={"w": True})),
    "a warm-up longer than all steps": (ValueError, r"`decay_steps` counts the warm-up too and must be more than "
                                        r"`warmup_steps`, got 10.0 and 20.0",
                                        lambda: gradtx.warmup_cosine_decay_schedule(0, 1, 20, 10)),
    # Batches and traces
    "a batch without vmap": (ValueError, r"`learning_rate` has shape \(2,\), expected one number. .*jax.vmap",
                             lambda: update(gradtx.sgd(jnp.array([0.1, 0.2])))),
    "a tracer as a static argument": (TypeError, "add_decayed_weights: a static argument must be concrete .* got the tracer", lambda: jax.jit(
        lambda m: gradtx.add_decayed_weights(0.1, mask={"w": m}).init(PARAMS))(True)),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_bad_input(row: str) -> None:
    error, words, call = ROWS[row]
    with pytest.raises(error, match=words):
        call()


def test_tracers_are_not_asked() -> None:
    rates = jnp.array([-1.0, jnp.nan])
    jax.vmap(lambda rate: gradtx.adam(rate).learning_rate)(rates)
