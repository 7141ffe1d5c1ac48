"""What a person who comes from optax is told where a name is missing."""

import operator
import re
import subprocess
import sys

import optax
import optax.contrib
import pytest

import gradtx
from gradtx import _from_optax

HERE = set(dir(gradtx))
MODULES = (optax, optax.contrib, optax.losses, optax.schedules, optax.transforms)
# Helpers that a module of optax's happens to show.
NOT_FOR_USE = {"StatefulSchedule", "ConditionFn", "unitwise_clip", "unitwise_norm"}
THEIRS = sorted({name for module in MODULES for name in dir(module) if not name.startswith("_")} - NOT_FOR_USE)


def test_every_name_of_optax_is_here_or_has_a_hint():
    assert not [name for name in THEIRS if name not in HERE and not _from_optax.hint(name)]


def test_no_hint_is_for_a_name_that_is_here():
    """But for optax's own optimizers and parts: what gradtx gets of them needs no change of the hints."""
    assert not [name for name in HERE & set(_from_optax._HINTS) if "as it is" not in _from_optax.hint(name)]


@pytest.mark.parametrize("name", sorted(_from_optax._HINTS))
def test_hints_name_what_exists(name):
    """Each `optax.x.y` and `gradtx.x` in a hint is there."""
    hint = _from_optax.hint(name)
    references = re.findall(r"\b(optax|gradtx)\.([\w.]*\w)", hint)
    assert references or "tx." in hint
    for package, path in references:
        operator.attrgetter(path)({"optax": optax, "gradtx": gradtx}[package])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("softmax_cross_entropy", "has no attribute 'softmax_cross_entropy': losses are optax's: `optax.softmax_"),
        ("inject_hyperparams", r"not needed: hyperparameters are data.*tx\.replace\(learning_rate=\.\.\.\)"),
        ("MaskedNode", r"what a mask .*leaves out is `None`"),
        ("muon", r"gradtx\.chain\(optax\.contrib\.muon\(\.\.\.\)\)"),
        ("MuonState", r"a state is what `tx.init\(params\)` returns"),
        ("momentum", r"it is `gradtx\.trace`"),
        ("adamm", r"has no attribute 'adamm': did you mean .*adam"),
        ("qqqqqqqqqq", r"has no attribute 'qqqqqqqqqq'$"),
        ("__wrapped__", r"has no attribute '__wrapped__'$"),
    ],
)
def test_a_missing_name_says_what_to_write(name, words):
    with pytest.raises(AttributeError, match=words):
        getattr(gradtx, name)


def test_modules_load_when_asked_for():
    """In a process of its own: here, other tests may have imported them."""
    code = f"""
import sys, gradtx
lazy = {_from_optax.LAZY}
assert not [name for name in lazy if f"gradtx.{{name}}" in sys.modules]
assert set(lazy) <= set(dir(gradtx))
assert gradtx.testing.check_transformation and gradtx.learned.lstm and gradtx.interop.as_optax
from gradtx import learned
assert "optax" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
