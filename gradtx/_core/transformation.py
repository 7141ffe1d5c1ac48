"""The contract: a pair of pure functions, and the pytree that configures it.

`Transform` is what a factory's body returns. `GradientTransformation` is what the decorated factory returns: the
call as data, with the pair's functions as methods.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Annotated, Any, NamedTuple, ParamSpec, Protocol, TypeVar, overload, runtime_checkable

import jax

from .configured import Configured, configured

P = ParamSpec("P")
F = TypeVar("F", bound=Callable[..., Any])


class EmptyState(NamedTuple):
    """The state of a transformation that remembers nothing."""


@dataclasses.dataclass(frozen=True)
class Needs:
    """What an `update` asks for beyond updates and state. Read from its signature, united by whatever wraps it."""

    params: bool = False
    required: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    everything: bool = False  # a foreign update with **kwargs

    def __or__(self, other: "Needs") -> "Needs":
        required = self.required | other.required
        return Needs(
            self.params or other.params,
            required,
            (self.optional | other.optional) - required,
            self.everything or other.everything,
        )

    def select(self, owner: str, params: Any, extra: dict[str, Any]) -> dict[str, Any]:
        """The extra arguments to hand on. Raises for what is missing, ignores what nobody declared."""
        if self.params and params is None:
            raise ValueError(f"{owner} needs params: call tx.update(updates, state, params)")
        for name in sorted(self.required):
            if name not in extra:
                raise TypeError(
                    f"{owner} needs the extra argument `{name}`: call tx.update(updates, state, params, {name}=...)"
                )
        if self.everything:
            return extra
        return {name: value for name, value in extra.items() if name in self.required or name in self.optional}


def needs_of(update: Callable[..., Any]) -> Needs:
    """Keyword-only parameters are extra arguments; `params` without a default is needed."""
    code = getattr(update, "__code__", None)
    if code is None or hasattr(update, "__wrapped__") or inspect.ismethod(update):
        return _read_needs(update)
    defaults = getattr(update, "__defaults__", None) or ()
    kwdefaults = getattr(update, "__kwdefaults__", None) or {}
    return _cached_needs(code, len(defaults), frozenset(kwdefaults))


@functools.lru_cache(maxsize=1024)
def _cached_needs(code: Any, defaults: int, kwdefaults: frozenset[str]) -> Needs:
    # Pairs are made anew for each call; their code objects are not.
    names = code.co_varnames
    required = code.co_argcount - defaults
    extra = names[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    return Needs(
        params=required > 2,
        required=frozenset(extra) - kwdefaults,
        optional=frozenset(kwdefaults),
        everything=bool(code.co_flags & inspect.CO_VARKEYWORDS),
    )


def _read_needs(update: Callable[..., Any]) -> Needs:
    parameters = list(inspect.signature(update).parameters.values())
    keyword = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    return Needs(
        params=len(parameters) > 2
        and parameters[2].kind is parameters[2].POSITIONAL_OR_KEYWORD
        and parameters[2].default is parameters[2].empty,
        required=frozenset(p.name for p in keyword if p.default is p.empty),
        optional=frozenset(p.name for p in keyword if p.default is not p.empty),
        everything=any(p.kind is p.VAR_KEYWORD for p in parameters),
    )


class Evaluated(NamedTuple):
    """What an update has evaluated on its way: the objective and its gradient at the new params.

    `count` is of all evaluations so far, and `outcome` says how the last search for a step ended (`Outcome`).
    """

    value: jax.Array
    grad: Any
    count: jax.Array
    outcome: jax.Array


@dataclasses.dataclass(frozen=True)
class Transform:
    """A gradient transformation as functions: what the body of a `@transformation` returns.

    Args:
        init: `params -> state`. Works on `ShapeDtypeStruct`s under `jax.eval_shape`; allocates what it returns only.
        update: `(updates, state, params=None, *, extras) -> (updates, state)`. `params` without a default is
            required; keyword-only parameters are the extra arguments it declares.
        gradient_params: `(params, state) -> params`: where the loss should be differentiated. `None`: at `params`.
        eval_params: `(params, state) -> params`: the point to evaluate or ship. `None`: `params`.
        state_type: The class of the state, so that another optimizer's is refused by name.
        current: `state -> {name: value}`: what the next update will use (a scheduled learning rate), for logs.
        needs: What `update` asks for; read from its signature where it is not given.
        evaluated: `state -> Evaluated`: what the last update knows of the objective at the params it leads to.
    """

    init: Callable[[Any], Any]
    update: Callable[..., tuple[Any, Any]]
    gradient_params: Callable[[Any, Any], Any] | None = None
    eval_params: Callable[[Any, Any], Any] | None = None
    state_type: type | None = None
    current: Callable[[Any], dict[str, jax.Array]] | None = None
    needs: Needs | None = None
    evaluated: Callable[[Any], Evaluated] | None = None

    @property
    def declared(self) -> Needs:
        """What `update` asks for."""
        return needs_of(self.update) if self.needs is None else self.needs

    def apply(self, owner: str, updates: Any, state: Any, params: Any, extra: dict[str, Any]) -> tuple[Any, Any]:
        """`update`, with the extra arguments that it declares and no others; errors name `owner`."""
        # A composed update hands everything on; its parts select, and name themselves in errors.
        own = needs_of(self.update)
        selected = extra if own.everything else own.select(owner, params, extra)
        if self.state_type is not None and not isinstance(state, self.state_type):
            raise TypeError(
                f"{owner} expected a state of type {self.state_type.__name__}, got {type(state).__name__}. "
                "Make it with tx.init(params), or bring an optax state in with gradtx.interop.from_optax"
            )
        return self.update(updates, state, params, **selected)


@runtime_checkable
class Pair(Protocol):
    """Anything with `init` and `update`; optax's transformations are."""

    @property
    def init(self) -> Callable[..., Any]: ...
    @property
    def update(self) -> Callable[..., Any]: ...


class GradientTransformation(Configured):
    """A gradient transformation whose hyperparameters are data: a pytree, and a pair.

    `init, update = tx` unpacks it. Its leaves are its hyperparameters, so `jit`, `vmap` and `grad` apply to it.
    """

    __slots__ = ()
    describes = "a gradient transformation (a pair of init and update)"

    def transform(self) -> Transform:
        """The pair, made anew from the arguments."""
        made = self._run()
        if isinstance(made, GradientTransformation):
            return made.transform()
        if not isinstance(made, Transform):
            raise TypeError(f"{self._factory.short} returned {made!r}, expected Transform(init, update)")
        return made

    def _check(self) -> None:
        self.transform()

    def init(self, params: Any) -> Any:
        """The state for `params`: arrays, tracers, or `ShapeDtypeStruct`s under `jax.eval_shape`."""
        return self.transform().init(params)

    def update(self, updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        """Transform `updates`; returns them with the new state.

        Args:
            updates: Gradients, of the structure, shapes and (usually) dtypes of `params`.
            state: What `init` or the last `update` returned.
            params: The parameters, for those transformations that read them.
            extra: What transformations declare (`value=loss`); what nobody declared is ignored.

        Raises:
            ValueError: A structure or shape differs, or `params` are missing.
            TypeError: A declared extra argument is missing, or the state is another transformation's.
        """
        return self.transform().apply(self._factory.short, updates, state, params, extra)

    def gradient_params(self, params: Any, state: Any) -> Any:
        """Where to differentiate the loss: `params`, unless the method looks ahead (`nag`)."""
        where = self.transform().gradient_params
        return params if where is None else where(params, state)

    def eval_params(self, params: Any, state: Any) -> Any:
        """The point to evaluate or ship: `params`, unless the method carries another iterate."""
        where = self.transform().eval_params
        return params if where is None else where(params, state)

    def __iter__(self) -> Iterator[Callable[..., Any]]:
        yield self.init
        yield self.update

    @classmethod
    def adopt(cls, value: Any) -> "GradientTransformation | None":
        """A foreign pair as a static node; `None` for what is not a pair."""
        if isinstance(value, type):
            return None
        if isinstance(value, tuple) and not hasattr(value, "init") and len(value) == 2 and all(map(callable, value)):
            return foreign(*value)
        init, update = getattr(value, "init", None), getattr(value, "update", None)
        return foreign(init, update) if callable(init) and callable(update) else None


TransformLike = Annotated[GradientTransformation | Pair, "data"]


@overload
def transformation(
    function: Callable[P, Transform | GradientTransformation],
) -> Callable[P, GradientTransformation]: ...
@overload
def transformation(
    *, name: str | None = None, check: Callable[..., None] | None = None
) -> Callable[[Callable[P, Transform | GradientTransformation]], Callable[P, GradientTransformation]]: ...
def transformation(function: Any = None, *, name: str | None = None, check: Callable[..., None] | None = None) -> Any:
    """Make calls of a factory of gradient transformations into data.

    The factory's body takes hyperparameters and returns `Transform(init, update)`, or another transformation. It
    does no arithmetic on them: that belongs into `init` and `update`, where tracers are at home.

    Args:
        function: The factory. Each parameter is annotated: `Scalar`, `ScalarOrSchedule`, a transformation or a
            schedule become children of the pytree; bool, int, str, dtypes, callables and masks are static.
        name: The name in saved configurations (`to_config`). Default: module and function name.
        check: A function of the arguments by name that raises where they do not fit each other. It is called when
            they are given and concrete.

    Raises:
        TypeError: A parameter's annotation does not decide between data and static.
    """
    if function is None:
        return functools.partial(configured, GradientTransformation, name=name, check=check)
    return configured(GradientTransformation, function, name, check)


@transformation
def foreign(init_fn: Callable, update_fn: Callable) -> Transform:
    """Somebody else's pair (optax's) as a static node.

    Its parameters are widened like ours, so that its state is float32 for half precision and keeps its dtype.
    """
    from .precision import restore, widen

    needs = needs_of(update_fn)

    def foreign_update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        selected = needs.select("a foreign update", params, extra)
        new, state = update_fn(widen(updates), state, widen(params), **selected)
        return restore(new, updates), state

    return Transform(lambda params: init_fn(widen(params)), foreign_update, needs=needs)


def memoryless(function: Callable[[Any, Any], Any]) -> Transform:
    """A pair that remembers nothing, from a function `(updates, params) -> updates`."""
    return Transform(
        lambda params: EmptyState(),
        lambda updates, state, params=None: (function(updates, params), state),
        state_type=EmptyState,
    )


@transformation
def stateless(function: Callable) -> Transform:
    """A transformation from a function `(updates, params) -> updates` that remembers nothing.

    State: `EmptyState()`. `function` is static: what it closes over is fixed in a compiled step.

    Args:
        function: Pure; keeps structure, shapes and dtypes. `params` is `None` where the caller gives none.
    """
    return memoryless(function)


@transformation
def identity() -> Transform:
    """Updates pass unchanged. State: `EmptyState()`."""
    return memoryless(lambda updates, params: updates)


def batch_axes(tx: Configured) -> Any:
    """`in_axes` for `jax.vmap` over a batch of hyperparameters: 0 for array leaves, `None` for single numbers.

    >>> import jax, jax.numpy as jnp, gradtx
    >>> def first_step(tx):
    ...     return tx.update(jnp.ones(()), tx.init(jnp.zeros(())))[0]
    >>> txs = gradtx.sgd(jnp.array([0.1, 0.2]))
    >>> jax.vmap(first_step, in_axes=(gradtx.batch_axes(txs),))(txs)
    Array([-0.1, -0.2], dtype=float32)
    """
    return jax.tree.map(lambda leaf: 0 if getattr(leaf, "ndim", 0) else None, tx)


def current(tx: GradientTransformation, state: Any) -> dict[str, jax.Array]:
    """What the next update will use, by name: `{"learning_rate": 0.00098}`, for a training loop to log.

    Two stages of a chain with the same name are told apart by their position or name: `"0.learning_rate"`.
    """
    report = tx.transform().current
    return {} if report is None else report(state)
