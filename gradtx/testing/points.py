"""What a transformation says of itself: where to differentiate and evaluate, and the numbers it uses."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from .._core.contract import current
from .case import Case, law, works
from .compare import LawBroken, expect_finite, expect_same_kind


@law("points")
def points(case: Case) -> None:
    """`gradient_params` and `eval_params` are of the parameters' kind; `current` reports finite numbers of rank 0."""
    for dtype in (None, jnp.bfloat16):
        params = case.params if dtype is None else case.sample(dtype)
        state = jax.eval_shape(case.tx.init, params)
        like = jax.eval_shape(lambda p: p, params)
        for name in ("gradient_params", "eval_params"):
            with works(name):
                expect_same_kind(name, jax.eval_shape(getattr(case.tx, name), params, state), like)
    with works("current"):
        for when, state in (("at first", case.start(case.tx, case.params)), ("after steps", case.first_run[1])):
            for name, value in current(case.tx, state).items():
                if np.ndim(value) != 0 or not jnp.issubdtype(jnp.result_type(value), jnp.number):
                    raise LawBroken(f"current reports {name!r} {when} as {value!r}, expected one number")
                expect_finite(f"what current reports as {name!r} {when}", value)
