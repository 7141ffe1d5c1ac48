"""Which way an update points."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from .._core.contract import current
from .case import Case, LawBroken, law, ramp


@law("sign")
def sign(case: Case) -> None:
    """The update points along the gradient; against it if there is a learning rate. `case.sign` says which."""
    if case.sign == "any":
        return
    # Zeros, so that no weight decay or projection has a part in it; the state is of the same parameters.
    params = {"w": jnp.zeros((4, 3), np.float32)}
    state, grads = case.tx.init(params), {"w": ramp((4, 3), np.float32)}
    names = [path.rpartition(".")[2] for path in current(case.tx, state)]
    flips = case.sign == "flips" or (case.sign == "auto" and "learning_rate" in names)
    updates, _ = case.update(case.tx, grads, state, params)
    along = float(jnp.sum(updates["w"] * grads["w"]))
    if along * (-1 if flips else 1) < 0:
        way = "along the gradient though it has a learning rate" if flips else "against the gradient"
        raise LawBroken(f"the first update points {way}; only scale_by_learning_rate flips the sign")
