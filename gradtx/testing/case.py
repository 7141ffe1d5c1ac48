"""What a law is tried on: a transformation, parameters, and gradients that differ from step to step."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from .._core.contract import GradientTransformation, _Functions
from .._core.paths import walk
from .._trees.apply import apply_updates
from .._types import OptState, Params, PyTree, Updates
from .compare import LawBroken, expect_close
from .program import Counted, Flow
from .samples import cast, ramps, sample_params

STEPS = 6
"""Updates in a run: the first ones are special in many methods, and every second or fourth in some."""

Sign: TypeAlias = Literal["auto", "keeps", "flips", "any"]
Step: TypeAlias = Callable[..., tuple[Updates, OptState, Params]]

registry: dict[str, Callable[[Case], None]] = {}
"""Every law by its name. Its number is its place."""


def law(name: str) -> Callable[[Callable[[Case], None]], Callable[[Case], None]]:
    """Register a function as the law `name`, which `check_transformation(tx, laws=[name])` then tries.

        @law("bounded")
        def bounded(case):
            updates, _, _ = case.run(case.tx)
            if max(jnp.max(jnp.abs(leaf), initial=0) for leaf in jax.tree.leaves(updates)) > 1:
                raise LawBroken("an update exceeds 1")

    The function raises `LawBroken` where `case.tx` does not keep the law, and calls `case.note` where there is
    something to know though it does.

    Raises:
        ValueError: if another law has the name.
    """

    def register(function: Callable[[Case], None]) -> Callable[[Case], None]:
        known = registry.get(name, function)
        # A cell of a notebook that is run again defines the same law anew.
        if (known.__module__, known.__qualname__) != (function.__module__, function.__qualname__):
            raise ValueError(f"there is a law {name!r} already; the laws are {', '.join(registry)}")
        registry[name] = function
        return function

    return register


@contextlib.contextmanager
def works(doing: str) -> Iterator[None]:
    """An exception in here breaks the law."""
    try:
        yield
    except LawBroken:
        raise
    except Exception as error:
        raise LawBroken(f"{doing} raised {type(error).__name__}: {error}") from error


def names_path(tree: PyTree) -> Callable[[Exception], bool]:
    """Whether an error says which leaf it is about, or that the mask is at fault: a refusal, and not an accident."""
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(tree, is_leaf=lambda x: x is None)]

    def refused(error: Exception) -> bool:
        message = str(error)

        def names(path: str) -> bool:
            return path in message if path else "params" in message or "updates" in message

        # JAX names a path, too, where `jax.tree.map` fails on trees that differ: nobody has thought of it.
        accident = "pytree structure error" in message
        return not accident and ("mask" in message or any(map(names, paths)))

    return refused


def names_dtype(dtype: np.dtype) -> Callable[[Exception], bool]:
    """Whether an error says that it is about complex numbers (JAX's own name the dtype, complex64), or the dtype."""
    word = r"\bcomplex\b" if dtype.kind == "c" else dtype.name
    return lambda error: re.search(word, str(error)) is not None


@dataclasses.dataclass(frozen=True)
class Case:
    """A transformation with parameters to try it on, the extra arguments it asks for, and what it may do."""

    tx: GradientTransformation
    params: Params
    extra: Callable[[Params, Updates], Mapping[str, Any]] = lambda params, grads: {}
    sign: Sign = "auto"
    refuses: tuple[str, ...] = ()
    dtype: DTypeLike = np.float32
    given: bool = False
    """Whether the parameters were given: all laws then take these, in other dtypes, with `None` in places."""
    notes: list[str] = dataclasses.field(default_factory=list)

    def note(self, text: str) -> None:
        """Report something to know of a law that holds: that it does vacuously, what is refused, what was adapted."""
        if text not in self.notes:
            self.notes.append(text)

    def sample(self, dtype: DTypeLike) -> Params:
        """The parameters in another dtype."""
        return cast(self.params, dtype) if self.given else sample_params(dtype)

    def gradients(self, step: int, like: PyTree = None) -> Updates:
        """Gradients for one step: of the parameters' structure, different for each leaf and step."""
        return ramps(self.params if like is None else like, step)

    @contextlib.contextmanager
    def may_refuse(self, doing: str, refused: Callable[[Exception], bool]) -> Iterator[None]:
        """An exception in here breaks the law, but for one that is a refusal, which is noted."""
        try:
            with works(doing):
                yield
        except LawBroken as broken:
            error = broken.__cause__
            if not isinstance(error, (TypeError, ValueError)) or not refused(error):
                hint = "; a refusal on purpose names the leaf's path, the mask, or complex numbers" if error else ""
                raise LawBroken(f"{broken}{hint}") from error
            self.note(f"refused by name: {doing} ({str(error).splitlines()[0]})")

    @functools.cached_property
    def asks_for_functions(self) -> bool:
        """Whether an extra argument is a function, which then is another at each call."""
        return any(map(callable, jax.tree.leaves(dict(self.extra(self.params, self.gradients(0))))))

    @functools.cached_property
    def flow(self) -> Flow:
        """What reaches new state, updates and random numbers: state, gradients, parameters, extra arrays.

        In this order; the hyperparameters are constants.
        """
        state, grads = jax.eval_shape(self.tx.init, self.params), self.gradients(0)
        given = self.extra(self.params, grads)
        arrays = {name: value for name, value in given.items() if isinstance(value, (jax.Array, np.ndarray))}

        def update(state: OptState, grads: Updates, params: Params, arrays: dict[str, Any]) -> tuple[OptState, Updates]:
            updates, new = self.tx.update(grads, state, params, **{**self.extra(params, grads), **arrays})
            return new, updates

        return Flow.of(update, state, grads, self.params, arrays)

    @functools.cached_property
    def adapted(self) -> list[_Functions]:
        """The foreign pairs in the transformation."""
        found, inside = [], [self.tx]
        while inside:
            tx = inside.pop()
            found += [tx] if isinstance(tx, _Functions) else []
            inside += [part for _, part, _ in tx._inside(None)] if not isinstance(tx, _Functions) else []
        return found

    @functools.cached_property
    def chosen_dtypes(self) -> set[np.dtype]:
        """The dtypes among the arguments: those of accumulators that were asked for."""
        return {value for _, value in walk(self.tx) if isinstance(value, np.dtype)}

    def update(
        self, tx: GradientTransformation, grads: Updates, state: OptState, params: Params
    ) -> tuple[Updates, OptState]:
        """One update with the extra arguments. Raises LawBroken if it changes in place what it is given."""
        extra = self.extra(params, grads)
        given = {"the updates": grads, "the state": state, "params": params}
        before = {name: jax.tree.flatten(tree) for name, tree in given.items()}
        result = tx.update(grads, state, params, **extra)
        for name, tree in given.items():
            leaves, structure = jax.tree.flatten(tree)
            old, old_structure = before[name]
            if structure != old_structure or any(a is not b for a, b in zip(leaves, old, strict=True)):
                raise LawBroken(f"an update changes {name} that it is given in place; return new containers")
        return result

    def kinds(self, params: Params, grads: Updates) -> tuple[Updates, OptState, OptState]:
        """Shapes and dtypes of updates and new state, and the state before; nothing is computed."""
        state = jax.eval_shape(self.tx.init, params)
        return *jax.eval_shape(self.update, self.tx, grads, state, params), state

    def run(
        self,
        tx: GradientTransformation,
        params: Params = None,
        *,
        step: Step | None = None,
        zero: bool = False,
        steps: int = STEPS,
    ) -> tuple[Updates, OptState, Params]:
        """A few steps: the last updates, the state, the parameters. Without jit, unless `step` is jitted."""
        params = self.params if params is None else params
        state, updates = tx.init(params), None
        for i in range(steps):
            grads = self.gradients(i, params)
            grads = jax.tree.map(lambda g: jax.device_put(np.zeros(g.shape, g.dtype)), grads) if zero else grads
            updates, state, params = (step or self.step)(tx, params, state, grads)
        return updates, state, params

    def step(
        self, tx: GradientTransformation, params: Params, state: OptState, grads: Updates
    ) -> tuple[Updates, OptState, Params]:
        """Update and apply."""
        updates, state = self.update(tx, grads, state, params)
        return updates, state, apply_updates(params, updates)

    @functools.cached_property
    def jitted(self) -> Counted:
        """The step, compiled once for all laws, with the number of its traces."""
        return Counted(self.step)

    @functools.cached_property
    def start(self) -> Counted:
        """`init` of a transformation and parameters, compiled."""
        return Counted(lambda tx, params: tx.init(params))

    @functools.cached_property
    def jitted_update(self) -> Counted:
        """The update alone, compiled."""
        return Counted(self.update)

    @functools.cached_property
    def first_run(self) -> tuple[Updates, OptState, Params]:
        """The run of the compiled step, from the parameters as they are."""
        return self.run(self.tx, step=self.jitted)

    def expect_close(self, what: str, got: PyTree, expected: PyTree) -> None:
        """Equal but for a few roundings of `dtype`: fused and unfused programs differ by them.

        They are roundings of a leaf's largest entry, since inner products and products of matrices mix entries.
        """
        # 2e-5 and 2e-6 in float32, 4e-14 and 4e-15 in float64: what the second-order methods need in their few steps.
        eps = float(jnp.finfo(self.dtype).eps)
        expect_close(what, got, expected, rtol=170 * eps, atol=17 * eps, of_largest=True)
