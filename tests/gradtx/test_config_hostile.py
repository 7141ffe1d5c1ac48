"""Configurations that somebody made up to do harm, or by mistake: each is a clear no."""

import json
import math
from typing import Any

import numpy as np
import pytest

from gradtx import from_config
from gradtx._core.configured import registry


def adam(**arguments: Any) -> dict[str, Any]:
    return {"name": "gradtx.adam", "arguments": {"learning_rate": 0.1, **arguments}}


def array(**changes: Any) -> dict[str, Any]:
    """Adam with an array for a rate."""
    return adam(learning_rate={"$array": {"kind": "jax", "dtype": "float32", "shape": [1], "data": [0.1], **changes}})


CONSTANT = {"name": "gradtx.constant_schedule", "arguments": {"value": 1}}
SHARED: list[Any] = []
SHARED.append(SHARED)

HOSTILE = {
    "nothing": (None, "takes a dict"),
    "a list": ([adam()], "takes a dict"),
    "a string": (json.dumps(adam()), "takes a dict"),
    "an empty dict": ({}, "must have `name` and `arguments`"),
    "no arguments": ({"name": "gradtx.adam"}, "must have `name` and `arguments`"),
    "another version": ({"version": 2, **adam()}, "version is 2 .*reads version 1"),
    "a version of another type": ({"version": True, **adam()}, "version is True"),
    "a version inside": (adam(learning_rate={"version": 1, **adam()}), "unknown key 'version'"),
    "an unknown name": ({**adam(), "name": "gradtx.adm"}, "did you mean gradtx.adam"),
    "an importable name": (
        {"name": "os.system", "arguments": {"command": "true"}},
        "nothing is registered as 'os.system'",
    ),
    "a private name": ({**adam(), "name": "gradtx._core.configured.registry"}, "import the module that defines it"),
    "a function that is not a factory": ({**adam(), "name": "gradtx.apply_updates"}, "nothing is registered"),
    "a long name": ({**adam(), "name": "gradtx.adam" * 10**5}, "nothing is registered"),
    "a name of another type": ({**adam(), "name": ["gradtx.adam"]}, "nothing is registered"),
    "a dunder": ({**adam(), "name": "__import__"}, "nothing is registered"),
    "foreign": ({"name": "gradtx.foreign", "arguments": {"init": "print", "update": "print"}}, "holds a function"),
    "stateless": ({"name": "gradtx.stateless", "arguments": {"function": adam()}}, "holds a function"),
    "a schedule by name": (adam(learning_rate="builtins.eval"), "learning_rate` must be a number"),
    "a callable mask by name": ({"name": "gradtx.adamw", "arguments": {}}, "needs the argument `learning_rate`"),
    "arguments as a list": ({"name": "gradtx.adam", "arguments": [0.1]}, "arguments must be a dict"),
    "an unknown argument": (adam(beta1=0.9), "adam has no argument 'beta1'.*did you mean b1"),
    "an argument with a private name": (adam(_factory=1), "no argument '_factory'"),
    "an argument that is no string": ({"name": "gradtx.adam", "arguments": {1: 0.1}}, "no argument 1"),
    "an unknown key": ({"__class__": "x", **adam()}, "unknown key '__class__'"),
    "an unknown key inside": (adam(learning_rate={"evil": 1, **adam()}), "config.learning_rate: unknown key 'evil'"),
    "a negative rate": (adam(learning_rate=-0.1), "learning_rate` must be a finite number >= 0, got -0.1"),
    "a decay of 1": (adam(b1=1), r"b1` must be in \[0, 1\)"),
    "a string for a number": (adam(b1="0.9"), "b1` must be a number"),
    "a bool for a number": (adam(b1=True), "b1` must be a number"),
    "a number for a bool": (adam(nesterov=1), "nesterov` must be bool"),
    "null for a number": (adam(nesterov=None), "nesterov` must be bool"),
    "a dict for a number": (adam(b1={"a": 1}), "b1` must be a number"),
    "a list for a number": (adam(b1=[0.9]), "b1` must be a number"),
    "a transformation for a number": (adam(b1=adam()), "b1` must be a number"),
    "a transformation for a rate": (adam(learning_rate=adam()), "learning_rate` must be a number"),
    "a schedule for a stage": (
        {
            "name": "gradtx.chain",
            "arguments": {"transforms": [{"name": "gradtx.constant_schedule", "arguments": {"value": 1}}]},
        },
        r"transforms`\[0\] must be a gradient transformation",
    ),
    "NaN as Python reads it": (json.loads(json.dumps(adam(b1=math.nan))), r'nan is not JSON; write {"\$float": "nan"}'),
    "infinity": (adam(eps=math.inf), "inf is not JSON"),
    "NaN as we write it": (adam(b1={"$float": "nan"}), r"b1` must be in \[0, 1\), got nan"),
    "a float in words": (adam(b1={"$float": "0.5"}), "must be nan, inf or -inf"),
    "a float of another type": (adam(b1={"$float": [1]}), "must be nan, inf or -inf"),
    "a huge integer": (adam(b1=10**400), "int too large"),
    "an unknown tag": (adam(b1={"$eval": "1"}), r"expected one of \$tuple"),
    "a tag and more": (adam(b1={"$float": "nan", "x": 1}), "alone"),
    "a tag of another type": (adam(b1={"$tuple": 5}), "must be a list"),
    "keys that are not strings": (adam(b1={1: 2}), "is not what JSON holds"),
    "an object": (adam(b1=object()), "is not what JSON holds"),
    "an array that JSON does not hold": (adam(b1=np.float32(0.5)), "is not what JSON holds"),
    "a list that holds itself": (adam(b1=SHARED), "nested more than 64 deep"),
    "unhashable keys": (adam(b1={"$dict": [[[1], 2]]}), "key must be hashable"),
    "equal keys": (adam(b1={"$dict": [["a", 2], ["a", 3]]}), "keys must differ"),
    "pairs of three": (adam(b1={"$ordered": [[1, 2, 3]]}), "list of pairs"),
    "a dtype that runs code": (adam(mu_dtype={"$dtype": "object"}), "must be one of bool, int8"),
    "a dtype in words": (adam(mu_dtype="O"), "floating or complex dtype"),
    "a dtype of another kind": (adam(mu_dtype={"$dtype": "int32"}), "floating or complex dtype"),
    "bytes that are not base64": (adam(b1={"$bytes": "?"}), "must be base64"),
    "bytes of another type": (adam(b1={"$bytes": 5}), "must be base64"),
    "stages as a dict": ({"name": "gradtx.chain", "arguments": {"transforms": {}}}, "transforms must be a list"),
    "stages that are numbers": (
        {"name": "gradtx.chain", "arguments": {"transforms": [1]}},
        "must be a gradient transf",
    ),
    "names that are equal": (
        {"name": "gradtx.named_chain", "arguments": {"transforms": [{"$tuple": ["a", adam()]}] * 2}},
        "names must differ",
    ),
    "names that are missing": ({"name": "gradtx.named_chain", "arguments": {"transforms": [adam()]}}, "expected pairs"),
    "too few boundaries": (
        {"name": "gradtx.join_schedules", "arguments": {"schedules": [0.1, 0.2], "boundaries": []}},
        "2 schedules need 1 boundaries",
    ),
    "schedules that are null": (
        {"name": "gradtx.join_schedules", "arguments": {"schedules": None, "boundaries": []}},
        "config: ",
    ),
    "boundaries that are a string": (
        {"name": "gradtx.piecewise_constant_schedule", "arguments": {"init_value": 1, "boundaries_and_scales": "ab"}},
        "config: ",
    ),
    "an array that is a list": (adam(b1={"$array": [1]}), "must be a dict of kind, dtype, shape and data"),
    "an array with more fields": (array(pickle=""), "must be a dict of kind"),
    "an array of objects": (array(dtype="object"), "dtype must be one of"),
    "an array of a structured dtype": (array(dtype="i4,O"), "dtype must be one of"),
    "an array of an unknown kind": (array(kind="torch"), "kind must be jax"),
    "a weak array of NumPy": (array(kind="numpy", weak_type=True), "which alone may be weak"),
    "an array of a huge shape": (array(shape=[10**12]), r"shape \[1000000000000\] does not fit 1 entries"),
    "an array of a huge empty shape": (array(shape=[0, 10**30], data=[]), "does not fit 0 entries"),
    "an array too large to address": (array(shape=[0, 2**40, 2**40], data=[]), "config.learning_rate"),
    "an array of many dimensions": (array(shape=[1] * 99), "shape must be a list of sizes"),
    "an array of a negative shape": (array(shape=[-1]), "shape must be a list of sizes"),
    "an array of a shape of bools": (array(shape=[True]), "shape must be a list of sizes"),
    "an array with a string inside": (array(data=["0.1"]), "data has '0.1'"),
    "an array with a list inside": (array(data=[[0.1]]), r"data has \[0.1\]"),
    "an array with a bool inside": (array(data=[True]), "data has True"),
    "an array with a float for an integer": (array(dtype="int32", data=[0.5]), "not of dtype int32"),
    "an array with too large a number": (array(data=[1e300]), "a number that float32 cannot hold"),
    "an array with a huge integer": (array(data=[10**400]), "a number that float32 cannot hold"),
    "an array with too large an integer": (array(dtype="int8", data=[300]), "a number that int8 cannot hold"),
    "an array of bytes that do not fit": (array(data="AAA="), "float32 entries in base64"),
    "an array of bytes that are not": (array(data="%"), "in base64"),
    "an array of null": (array(data=None), "in base64"),
    "an array of bools that are not": (array(dtype="bool", data="Ag=="), "neither 0 nor 1"),
    "a scalar with a shape": (array(kind="scalar"), "does not fit"),
    "an array with a NaN for a rate": (array(data=["nan"]), r"must be a finite number >= 0, got \[nan\]"),
    "an array of complex numbers": (array(dtype="complex64", data="AAAAAAAAAAA="), "must be real"),
    "an array of bools for a rate": (array(dtype="bool", data=[True]), "must be a number"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_configurations(name):
    config, words = HOSTILE[name]
    with pytest.raises(ValueError, match=words):
        from_config(config)


def test_nothing_is_imported_or_run(monkeypatch):
    import builtins

    def forbidden(*args: Any, **kwargs: Any) -> None:
        raise AssertionError(f"called with {args}")

    registered = dict(registry)
    monkeypatch.setattr("os.system", forbidden)
    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", forbidden)
        for name in ("os.system", "builtins.eval", "tests.gradtx.study.anything"):
            with pytest.raises(ValueError, match="nothing is registered"):
                from_config({"name": name, "arguments": {}})
    assert registry == registered
