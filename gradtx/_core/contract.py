"""The contract: a pair of pure functions as the methods of a class whose fields are its hyperparameters."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from .._trees.precision import restore, widen
from .._types import OptState, Params, Updates
from .calls import Needs, annotated_states, checked_point, checked_update
from .data import PyTreeNode, layout, roots, trusted
from .paths import Path, children, shortest_names
from .schedule import Schedule, value_at

if TYPE_CHECKING:
    # optax's types are nominal: to `optax.chain(tx)` and `nnx.Optimizer(model, tx)` a transformation has to be one by
    # name. Type checkers are told that ours is; at run time those ask for `init` and `update` only, and optax need not
    # be installed. `tests/gradtx/typed.py` has what must pass and what must not.
    from optax import GradientTransformationExtraArgs as _Optax

    # Without optax the name is unknown, and a class of unknown bases is not checked at all; this makes it `object`.
    assert issubclass(_Optax, object)

    # An order of bases that is not possible at run time: pyright says so, and goes on with it. The bare tuple comes
    # first, so that unpacking and indexing have its types and not those of optax's two fields.
    class _OptaxType(tuple[Callable[..., Any], ...], _Optax):  # pyright: ignore[reportGeneralTypeIssues]
        count: Any  # fields may have the names of tuple's methods
        index: Any

        def __new__(cls, *args: Any, **kwargs: Any) -> Self: ...
        def __getitem__(self, index: Any, /) -> Any: ...
        def init(self, params: Any) -> Any: ...  # pyright: ignore[reportIncompatibleVariableOverride]
        def update(  # pyright: ignore[reportIncompatibleVariableOverride]
            self, updates: Any, state: Any, *args: Any, **kwargs: Any
        ) -> tuple[Any, Any]: ...
else:
    _OptaxType = object


class EmptyState(NamedTuple):
    """The state of a transformation that remembers nothing."""


class GradientTransformation(PyTreeNode, _OptaxType):
    """A gradient transformation: a pair of pure functions, and a pytree whose leaves are its hyperparameters.

    A subclass is a frozen dataclass. Its annotated fields are hyperparameters, and it has two methods:

        class scale_by_lion(GradientTransformation):
            b1: Decay = 0.9
            b2: Decay = 0.99

            def init(self, params): ...
            def update(self, updates, state, params=None): ...

    The keyword-only parameters of `update` are the extra arguments that it declares: it gets those and no others.
    `init, update = tx` unpacks a transformation. `GradientTransformation(init, update)` makes one out of two functions,
    as in optax; its numbers are then hidden in them.
    """

    describes = "a gradient transformation (a pair of init and update)"
    _owns_step = False
    """Whether its state follows the parameters, so that the updates which it returns have to be the step itself."""
    _gathers = False
    """Whether it makes one step of several updates, and none in between."""
    _rounds_step = False
    """Whether a step of half-precision parameters leads to a point that is rounded, and not as far as in float32."""

    if TYPE_CHECKING:

        def __init__(self, init: Callable[..., Any], update: Callable[..., Any]) -> None: ...
    else:

        def __new__(cls, *args: Any, **kwargs: Any):
            # The base is no transformation by itself; of two functions it makes a pair.
            return (
                object.__new__(_Functions) if cls is GradientTransformation else super().__new__(cls, *args, **kwargs)
            )

        def __iter__(self) -> Iterator[Callable[..., Any]]:
            yield self.init
            yield self.update

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # Inherited from a class that is no transformation, too.
        if cls.update is not GradientTransformation.update and not hasattr(cls.update, "needs"):
            cls.update = checked_update(cls.update, cls.__name__)
        for name in ("gradient_params", "eval_params"):
            if name in cls.__dict__:
                setattr(cls, name, checked_point(cls.__dict__[name]))

    def _check(self) -> None:
        _check_hands_on(type(self))
        super()._check()

    def init(self, params: Params) -> OptState:
        """The state for `params`: arrays, tracers, or `ShapeDtypeStruct`s under `jax.eval_shape`."""
        raise NotImplementedError(f"{type(self).__name__} has no method `init(self, params)`")

    def update(self, updates: Updates, state: OptState, *args: Any, **extra: Any) -> tuple[Updates, OptState]:
        """Transform `updates`; returns them with the new state.

        Args:
            updates: Gradients, of the structure, shapes and (usually) dtypes of `params`.
            state: What `init` or the last `update` returned.
            args: `params`, the parameters, for those transformations that read them.
            extra: What transformations declare (`value=loss`); what nobody declared is ignored.

        Raises:
            ValueError: if a structure or shape differs, or `params` are missing.
            TypeError: if a declared extra argument is missing, or the state is another transformation's.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method `update(self, updates, state, params=None)`")

    def gradient_params(self, params: Params, state: OptState) -> Params:
        """Where to differentiate the loss: `params`, unless the method looks ahead (`nag`)."""
        return self._delegate("gradient_params", params, state)

    def eval_params(self, params: Params, state: OptState) -> Params:
        """The point to evaluate or ship: `params`, unless the method carries another iterate."""
        return self._delegate("eval_params", params, state)

    def _state_classes(self) -> tuple[type, ...]:
        """The classes of state that `init` returns, by its annotation; () where it names none."""
        return annotated_states(type(self))

    def _inside(self, state: object) -> list[tuple[Path, GradientTransformation, Any]]:
        """The transformations in this one's fields, with their paths and states (`None` if `state` is)."""
        held = {name: self.__dict__[name] for name in _holders(type(self)) if self.__dict__[name] is not None}
        found: list[tuple[Path, GradientTransformation, Any]] = []
        for name, value in held.items():
            part = _state_inside(state, name, len(held))
            if isinstance(value, GradientTransformation):
                found.append(((name,), value, part))
                continue
            parts = children(part)
            found += [((name, key), tx, parts.get(key)) for key, tx in children(value).items()]
        return found

    def _has_own(self, method: str) -> bool:
        """Whether this transformation itself has a `method` of its own."""
        return getattr(type(self), method) is not getattr(GradientTransformation, method)

    def _first_inside(self, is_one: Callable[[GradientTransformation], bool]) -> str | None:
        """The name of this transformation, or of the first one inside it, that is one of those."""
        if is_one(self):
            return type(self).__name__
        return next(filter(None, (tx._first_inside(is_one) for _, tx, _ in self._inside(None))), None)

    def _definer(self, method: str) -> str | None:
        """The name of this transformation, or of one inside it, that has a `method` of its own."""
        return self._first_inside(lambda tx: tx._has_own(method))

    def _defines(self, method: str) -> bool:
        """Whether this transformation, or one inside it, has a `method` of its own."""
        return self._definer(method) is not None

    def _step_owner(self) -> str | None:
        """The name of this transformation, or of one inside it, that owns the step."""
        return self._first_inside(lambda tx: tx._owns_step)

    def _delegate(self, method: str, params: Params, state: OptState) -> Params:
        defining = [(tx, part) for _, tx, part in self._inside(state) if tx._defines(method)]
        if len(defining) > 1:
            names = " and ".join(str(tx._definer(method)) for tx, _ in defining)
            raise ValueError(f"{type(self).__name__}: {names} inside both define {method}; only one can")
        return getattr(defining[0][0], method)(params, defining[0][1]) if defining else params

    def _scheduled(self, state: OptState) -> list[tuple[Path, ArrayLike]]:
        """Every field that may be a schedule, with its path and its value at the next update."""
        reports: list[tuple[Path, ArrayLike]] = []
        if "count" in getattr(state, "_fields", ()):
            reports += [
                ((name,), value_at(field.name, value, state.count, jnp.result_type(float)))
                for field in layout(type(self)).fields
                if Schedule in field.spec.nodes and self.__dict__[field.name] is not None
                for name, value in _alternatives(field.name, self.__dict__[field.name])
            ]
        for path, tx, part in self._inside(state):
            reports += [((*path, *inner), value) for inner, value in tx._scheduled(part)]
        return reports

    @classmethod
    def coerce(cls, value: object) -> GradientTransformation | None:
        """A foreign pair (optax's, or a tuple of two functions) as a transformation; `None` for what is no pair."""
        if isinstance(value, type):
            return None
        if isinstance(value, tuple) and not hasattr(value, "init") and len(value) == 2 and all(map(callable, value)):
            return GradientTransformation(*value)
        init, update = getattr(value, "init", None), getattr(value, "update", None)
        return GradientTransformation(init, update) if callable(init) and callable(update) else None


def _alternatives(name: str, value: Any) -> list[tuple[str, Any]]:
    """The number or schedule of a field, or those that it has for each rule."""
    by_rule = isinstance(value, PyTreeNode) and not isinstance(value, Schedule)
    return [(f"{name}.{rule}", each) for rule, each in children(value).items()] if by_rule else [(name, value)]


def refuse_step_owner(owner: str, inner: GradientTransformation) -> None:
    """For wrappers that change the updates of what is inside. Raises ValueError if that owns the step."""
    inside = inner._step_owner()
    if inside:
        raise ValueError(
            f"{owner} changes the updates of {inside}, which keeps track of the parameters that they lead to. Put "
            f"{inside} outside: {inside}({owner}(...))"
        )


def refuse_look_ahead(owner: str, inner: GradientTransformation, *, why: str = "") -> None:
    """For wrappers inside which nothing may say where to differentiate.

    Args:
        owner: The name of the wrapper.
        inner: What it wraps.
        why: What is wrong with it; default: that the wrapper says so itself.

    Raises:
        ValueError: if `inner` defines `gradient_params`.
    """
    inside = inner._definer("gradient_params")
    if inside:
        why = why or f"{owner} and {inside} both define gradient_params, the point to differentiate at; only one can"
        raise ValueError(why.format(owner=owner, inside=inside))


def refuse_changed_step(owner: str, inner: GradientTransformation) -> None:
    """For wrappers whose updates are others than those of what is inside.

    Raises:
        ValueError: if what is inside owns the step, or looks ahead from the step that it proposes.
    """
    refuse_step_owner(owner, inner)
    why = (
        "{owner} changes the updates of {inside}, whose gradient_params assume that they are the step. "
        "Put {inside} outside, or leave {owner} out"
    )
    refuse_look_ahead(owner, inner, why=why)


GradientTransformationExtraArgs = GradientTransformation
"""optax's name for a transformation with extra arguments; here every one may have them."""

roots.append(GradientTransformation)


@functools.cache
def _check_hands_on(cls: type[GradientTransformation]) -> None:
    """Refuse a wrapper that would keep extra arguments from what it wraps, which would then miss them."""
    needs = getattr(cls.update, "needs", None)
    if _holders(cls) and needs is not None and not needs.everything:
        raise TypeError(
            f"{cls.__name__}: a transformation with transformations inside takes **extra in `update` and hands it on: "
            "self.inner.update(updates, state, params, **extra)"
        )


@functools.cache
def _holders(cls: type[GradientTransformation]) -> tuple[str, ...]:
    """The fields that hold transformations, one or a container of them, by their annotations."""
    specs = {field.name: (field.spec, field.spec.items) for field in layout(cls).fields}
    return tuple(name for name, both in specs.items() if any(s and GradientTransformation in s.nodes for s in both))


def _state_inside(state: object, name: str, number: int) -> Any:
    """The state of what is in the field `name`: in a field of that name, or optax's `inner_state` or `inner_states`."""
    for field in (name, f"{name}_state", *(["inner_state", "inner_states"] if number == 1 else [])):
        if field in getattr(state, "_fields", ()):
            return getattr(state, field)
    if number > 1 and state is not None:
        raise TypeError(
            f"the state of `{name}` cannot be told from a {type(state).__name__}: put it into a field `{name}` or "
            f"`{name}_state` of a NamedTuple"
        )
    return state


class _Functions(GradientTransformation):
    """Two functions as a transformation: what optax's are. Static: the numbers in them are fixed.

    Parameters are widened like ours, so that the state is float32 for half precision and keeps its dtype.
    """

    init_fn: Callable
    update_fn: Callable

    def __init__(self, init: Callable[..., Any], update: Callable[..., Any]) -> None:
        self._set_fields(init_fn=init, update_fn=update)

    def __check_init__(self) -> None:
        if not (callable(self.init_fn) and callable(self.update_fn)):
            raise TypeError(f"GradientTransformation takes two functions, got {self.init_fn!r} and {self.update_fn!r}")
        if not Needs.of(self.update_fn).takes_params:
            raise TypeError(f"{self!r}: write the function as update(updates, state, params=None)")

    def init(self, params: Params) -> OptState:
        return self.init_fn(widen(params))

    def update(
        self, updates: Updates, state: OptState, params: Params | None = None, **extra: object
    ) -> tuple[Updates, OptState]:
        selected = Needs.of(self.update_fn).select(repr(self), params, extra)
        new, state = self.update_fn(widen(updates), state, widen(params), **selected)
        return restore(new, updates), state

    def __repr__(self) -> str:
        names = [getattr(f, "__qualname__", type(f).__name__) for f in (self.init_fn, self.update_fn)]
        return f"GradientTransformation({', '.join(names)})"


class Stateless(GradientTransformation):
    """Base of transformations that remember nothing; they have the method `update` alone."""

    def init(self, params: Params) -> EmptyState:
        """`EmptyState()`."""
        return EmptyState()


class Recipe(GradientTransformation):
    """An optimizer as named hyperparameters and the parts that it is made of, in order.

        class lion(Recipe):
            learning_rate: LearningRate
            b1: Decay = 0.9
            b2: Decay = 0.99

            def parts(self):
                return chain(scale_by_lion(self.b1, self.b2), scale_by_learning_rate(self.learning_rate))

    The state is that of the parts. `parts` does no arithmetic on hyperparameters, which may be
    tracers or batches there.
    """

    def _check(self) -> None:
        super()._check()
        self.__dict__["_parts_made"] = self._made()  # which may refuse what does not fit

    def parts(self) -> GradientTransformation:
        """The parts, made of the fields."""
        raise NotImplementedError(f"{type(self).__name__} has no method `parts(self)`")

    def _made(self) -> GradientTransformation:
        parts = self.parts()
        made = parts if isinstance(parts, GradientTransformation) else GradientTransformation.coerce(parts)
        if made is None:
            name = type(self).__name__
            raise TypeError(f"{name}.parts() must return a transformation, got {parts!r}; use gradtx.chain(...)")
        return made

    def _parts(self) -> GradientTransformation:
        if "_parts_made" not in self.__dict__:
            with trusted():
                self.__dict__["_parts_made"] = self._made()
        return self.__dict__["_parts_made"]

    def init(self, params: Params) -> OptState:
        """The state of the parts."""
        return self._parts().init(params)

    def update(
        self, updates: Updates, state: OptState, params: Params | None = None, **extra: object
    ) -> tuple[Updates, OptState]:
        """The update of the parts."""
        return self._parts().update(updates, state, params, **extra)

    def _inside(self, state: object) -> list[tuple[Path, GradientTransformation, Any]]:
        return [((), self._parts(), state)]

    def _scheduled(self, state: object) -> list[tuple[Path, ArrayLike]]:
        # By the names of the recipe's own fields, not by where a part stands.
        reports = self._parts()._scheduled(state)
        names = shortest_names([path for path, _ in reports])
        return [((name,), value) for name, (_, value) in zip(names, reports, strict=True)]


def current(tx: GradientTransformation, state: OptState) -> dict[str, jax.Array]:
    """What the next update will use of each hyperparameter that may be a schedule, for a training loop to log.

    A key is the field's name, `"learning_rate"`, or the whole path where several places have one of that name:
    `"0.learning_rate"`, `"1.learning_rate"`.
    """
    if not isinstance(tx, GradientTransformation):
        raise TypeError(f"current takes a gradtx transformation, whose hyperparameters are data; got {tx!r}")
    reports = tx._scheduled(state)
    names = shortest_names([path for path, _ in reports])
    return {name: jnp.asarray(value) for name, (_, value) in zip(names, reports, strict=True)}
