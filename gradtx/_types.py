"""Names for what goes through a transformation. They say what is meant; `checks.py` and `fields.py` enforce it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import numpy as np
from jaxtyping import Array, Float, Inexact, Int, PyTree

if TYPE_CHECKING:
    # To pyright a jaxtyping `PyTree` is unknown on purpose, which in strict mode is noise for users; `Any` is silent.
    Tree: TypeAlias = Any
else:
    Tree = PyTree

Params: TypeAlias = Tree
"""A pytree of floating or complex arrays (or tracers, or `ShapeDtypeStruct`s in `init`)."""

Updates: TypeAlias = Tree
"""A pytree like the parameters; `None` where a parameter is not to be touched."""

OptState: TypeAlias = Tree
"""What `init` returns: a pytree of arrays."""

Number: TypeAlias = float | jax.Array | np.ndarray | np.floating | np.integer
"""A hyperparameter's value: a Python float, a floating array, or a tracer."""

Leaf: TypeAlias = Inexact[Array, "*shape"]
"""One leaf inside a kernel. Leaves in one signature have one shape."""

RealLeaf: TypeAlias = Float[Array, "*shape"]
"""A leaf that is real where its parameter is complex (a second moment)."""

ScalarArray: TypeAlias = Float[Array, ""]
"""A once-per-step number inside a kernel."""

if TYPE_CHECKING:
    Count: TypeAlias = Int[Array, ""]
else:  # restored checkpoints hold NumPy's, and other programs' Python's or floats
    Count = Int[Array, ""] | Float[Array, ""] | Int[np.ndarray, ""] | np.number | int
"""A number of updates, int32."""

ValueFn: TypeAlias = Callable[[Any], jax.Array]
"""An objective: a pure function of the parameters whose value is one real number."""
