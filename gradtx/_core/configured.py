"""Functions as data: a call is remembered as a pytree of its arguments.

A factory is a plain function from hyperparameters to what they configure (an `(init, update)` pair, a schedule).
Decorated, a call of it does not run it: it returns a `Configured`, a pytree that knows which function and which
arguments. Children are the arguments annotated as data, the rest is static (`arguments.py`). The function runs when
its result is wanted, each time anew: a cached pair would keep the tracers of the trace that made it.

The constructor does all the work (binding, conversion, validation). Unflattening does none, because JAX puts
anything in the place of a leaf: tracers, `None`, axis numbers, shapes.
"""

import contextlib
import contextvars
import functools
import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, ParamSpec, TypeVar

import jax
import numpy as np
from jax.core import Tracer

from .arguments import Argument

P = ParamSpec("P")
C = TypeVar("C", bound="Configured")

# Why a factory's body runs: "" not at all, "check" when it is configured, "use" in init or update. In use, arguments
# were validated already, and reading arrays back would stall the device.
_inside: contextvars.ContextVar[str] = contextvars.ContextVar("inside a factory", default="")


@contextlib.contextmanager
def _body(why: str) -> Iterator[None]:
    token = _inside.set(_inside.get() or why)
    try:
        yield
    finally:
        _inside.reset(token)


class Factory:
    """A decorated function: its signature, read once, and how to store a call of it."""

    def __init__(
        self,
        function: Callable[..., Any],
        cls: type["Configured"],
        name: str | None,
        check: Callable[..., None] | None,
    ):
        self.function, self.cls, self.check = function, cls, check
        self.short = function.__name__
        self.name = name or _public_name(function)
        self.constructor: Callable[..., Any] = function  # replaced by the wrapper
        self.signature = inspect.signature(function)
        parameters = self.signature.parameters.values()
        if any(p.kind is p.VAR_KEYWORD for p in parameters):
            raise TypeError(f"{self.short}: a factory names its arguments; **kwargs cannot be data")
        hidden = [p.name for p in parameters if p.name.startswith("_") or hasattr(cls, p.name)]
        if hidden:
            raise TypeError(f"{self.short}: tx.{hidden[0]} is taken; give the parameter `{hidden[0]}` another name")
        self.arguments = tuple(Argument.read(function, p) for p in parameters)
        self.data = tuple(a.name for a in self.arguments if a.kind == "data")
        self.static = tuple(a.name for a in self.arguments if a.kind == "static")
        self.positional = tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))
        self.variadic = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
        self.defaults = {p.name: p.default for p in parameters if p.default is not p.empty}

    def configure(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> "Configured":
        """The call as data. Raises TypeError or ValueError that names the argument."""
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            known = ", ".join(map(str, self.signature.parameters)) or "nothing"
            raise TypeError(f"{self.short}: {error}; it takes {known}") from None
        bound.apply_defaults()
        return self.store(bound.arguments)

    def store(self, values: dict[str, Any]) -> "Configured":
        """Arguments by name, all of them, into a checked pytree; its function is run once to let it refuse."""
        where = _inside.get()
        validate = where != "use"
        taken = {a.name: a.take(values[a.name], self.short, validate=validate) for a in self.arguments}
        static = _Static(self.short, {name: taken[name] for name in self.static})
        configured = self.cls._of(self, tuple(taken[name] for name in self.data), static)
        if validate and self.check and not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(configured)):
            self.check(**taken)
        if not where:
            with _body("check"):
                configured._check()
        return configured

    def __repr__(self) -> str:
        return f"<factory {self.name}>"


def _public_name(function: Callable[..., Any]) -> str:
    # The library's own names do not tell the private file, so that moving a file breaks no saved configuration.
    package, _, _ = function.__module__.partition(".")
    return f"{package if package == 'gradtx' else function.__module__}.{function.__qualname__}"


registry: dict[str, Factory] = {}


def configured(
    cls: type[C], function: Callable[P, Any], name: str | None = None, check: Callable[..., None] | None = None
) -> Callable[P, C]:
    """Decorate `function` so that its calls become instances of `cls`. Registers it under its name.

    `check` gets the arguments by name when they are given and concrete; it raises what a range of one argument
    cannot express.
    """
    factory = Factory(function, cls, name, check)
    known = registry.get(factory.name)
    if known is not None and known.function.__module__ != function.__module__:
        raise ValueError(f"the name {factory.name!r} is taken by a function in {known.function.__module__}")

    @functools.wraps(function)
    def constructor(*args: P.args, **kwargs: P.kwargs) -> C:
        return factory.configure(args, kwargs)  # type: ignore[return-value]

    constructor.factory = factory  # type: ignore[attr-defined]
    factory.constructor = constructor
    registry[factory.name] = factory
    return constructor


class Configured:
    """A call of a factory as a pytree: children are its data, the rest is static. Immutable."""

    __slots__ = ("__weakref__", "_data", "_factory", "_static")  # jax.jit(schedule) refers to it weakly
    _data: tuple[Any, ...]
    _factory: Factory
    _static: "_Static"
    describes: ClassVar[str] = "a configured function"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        jax.tree_util.register_pytree_with_keys(
            cls,
            lambda tx: (
                tuple(zip(map(jax.tree_util.GetAttrKey, tx._factory.data), tx._data, strict=True)),
                tx._aux,
            ),
            lambda aux, children: cls._of(aux[0], tuple(children), aux[1]),
            lambda tx: (tx._data, tx._aux),
        )

    def __init__(self) -> None:
        raise TypeError(f"{type(self).__name__} is made by calling a decorated function, gradtx.adam(1e-3) say")

    @classmethod
    def _of(cls: type[C], factory: Factory, data: tuple[Any, ...], static: "_Static") -> C:
        self = object.__new__(cls)
        object.__setattr__(self, "_factory", factory)
        object.__setattr__(self, "_data", data)
        object.__setattr__(self, "_static", static)
        return self

    @property
    def _aux(self) -> tuple[Factory, "_Static"]:
        return self._factory, self._static

    @property
    def arguments(self) -> dict[str, Any]:
        """Every argument by name, in the order of the signature."""
        values = {**dict(zip(self._factory.data, self._data, strict=True)), **self._static.values}
        return {argument.name: values[argument.name] for argument in self._factory.arguments}

    def replace(self: C, **changes: Any) -> C:
        """The same call with some arguments changed, validated anew. The pytree's structure stays.

        Raises:
            TypeError: A name is not an argument.
        """
        unknown = [name for name in changes if name not in self.arguments]
        if unknown:
            known = ", ".join(self.arguments)
            raise TypeError(f"{self._factory.short} has no argument {unknown[0]!r}; it has {known}")
        return self._factory.store({**self.arguments, **changes})  # type: ignore[return-value]

    def _check(self) -> None:
        """Let the function refuse its arguments when they are given, not when it is first used."""
        self._run()

    def _run(self) -> Any:
        """Run the factory's body on the arguments."""
        values = self.arguments
        given = [values.pop(name) for name in self._factory.positional]
        if self._factory.variadic is not None:
            rest = values.pop(self._factory.variadic)
            # A mapping that a `Convert` made out of pairs is handed back as pairs.
            given += rest.items() if isinstance(rest, dict) else rest
        with _body("use"):
            return self._factory.function(*given, **values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self.arguments[name]
        except KeyError:
            raise AttributeError(f"{self._factory.short} has no argument or attribute {name!r}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{self._factory.short} is immutable; use .replace({name}=...)")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{self._factory.short} is immutable")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.arguments]

    def __repr__(self) -> str:
        shown = []
        for name, value in self.arguments.items():
            if name == self._factory.variadic:
                items = value.items() if isinstance(value, dict) else value
                shown += [repr(item) for item in items]
            elif name in self._factory.data or not _same(value, self._factory.defaults.get(name, _MISSING)):
                shown.append(f"{name}={_show(value)}")
        return f"{self._factory.short}({', '.join(shown)})"

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Configured):
            return NotImplemented
        ours, theirs = jax.tree.flatten(self), jax.tree.flatten(other)
        return ours[1] == theirs[1] and all(map(_same, ours[0], theirs[0]))

    def __hash__(self) -> int:
        leaves, structure = jax.tree.flatten(self)
        return hash((structure, tuple(map(_key, leaves))))

    def __reduce__(self) -> tuple[Any, ...]:
        # The public constructor pickles by its name; data and static values go along unvalidated.
        return _restore, (self._factory.constructor, self._data, self._static.values)


def _restore(constructor: Any, data: tuple[Any, ...], static: dict[str, Any]) -> Configured:
    factory: Factory = constructor.factory
    return factory.cls._of(factory, data, _Static(factory.short, static))


_MISSING = object()


class _Static:
    """The static arguments of one call: values to use, and a key to compare and hash by."""

    __slots__ = ("hash", "key", "values")

    def __init__(self, owner: str, values: dict[str, Any]):
        try:
            self.values = {name: jax.tree.map(_frozen, value) for name, value in values.items()}
            self.key = tuple((name, _static_key(value)) for name, value in self.values.items())
            self.hash = hash(self.key)
        except (TypeError, ValueError) as error:
            # Unhashable, a tracer, or a dict whose keys JAX cannot sort.
            problem = f"{owner}: a static argument must be concrete and hashable: {error}; got {values}"
            raise TypeError(problem) from error

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, _Static) and self.key == other.key)

    def __hash__(self) -> int:
        return self.hash

    def __repr__(self) -> str:
        return repr(self.values)


def _frozen(leaf: Any) -> Any:
    if isinstance(leaf, Tracer):
        raise TypeError(f"a static argument must be concrete, got the tracer {leaf}")
    if isinstance(leaf, (jax.Array, np.ndarray)):
        leaf = np.array(leaf)
        leaf.setflags(write=False)
    return leaf


def _static_key(value: Any) -> Any:
    leaves, structure = jax.tree.flatten(value)
    return structure, tuple(map(_key, leaves))


def _key(leaf: Any) -> Any:
    """Hashable, equal for the same value of the same kind: 1, 1.0, True and a float32 array of 1 all differ."""
    if isinstance(leaf, Tracer):
        raise TypeError(f"{leaf} is a tracer: only concrete hyperparameters hash")
    if isinstance(leaf, (jax.Array, np.ndarray)):
        weak = getattr(leaf, "weak_type", False)
        kind = "jax" if isinstance(leaf, jax.Array) else "numpy"
        return kind, leaf.shape, str(leaf.dtype), weak, np.asarray(leaf).tobytes()
    return type(leaf), leaf


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if isinstance(a, Tracer) or isinstance(b, Tracer):
        return False
    try:
        return _key(a) == _key(b)
    except TypeError:
        return False


def _show(value: Any) -> str:
    if isinstance(value, (jax.Array, np.ndarray)) and not isinstance(value, Tracer):
        # As many figures as name a float32: 0.001, not 0.0010000000474974513.
        return f"{np.array2string(np.asarray(value), separator=', ', threshold=8)}:{value.dtype}"
    if callable(value) and not isinstance(value, Configured):
        return getattr(value, "__qualname__", repr(value))
    if isinstance(value, dict) and (leaves := jax.tree.leaves(value)) and all(hasattr(x, "shape") for x in leaves):
        # Weights: thousands of numbers that nobody reads.
        return f"<{sum(math.prod(x.shape) for x in leaves):,} numbers in {len(leaves)} arrays>"
    return repr(value)
