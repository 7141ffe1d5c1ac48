"""Put learned optimizers of published results into the package: `python -m experiments.ship DIRECTORY`.

What is shipped are the weights that the results hold, with the command and the seed that made them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from experiments import results
from experiments.learning import Learner, LearnToLearn, restored
from experiments.studies import STUDIES
from experiments.studies.learn_to_learn import MNIST, STUDY, UNIFORM
from gradtx import GradientTransformation, learned

PACKAGE = Path(learned.__file__).parent / "pretrained"
SHIPPED = {
    "lstm-quadratics": f"Learned LSTM, {UNIFORM}",
    "mlp-quadratics": f"Learned MLP, {UNIFORM}",
    "mlp-mnist": f"Learned MLP, {MNIST}",
}
"""Names in the package, and labels of the results."""


def shipped(found: xr.Dataset, name: str) -> tuple[GradientTransformation, dict[str, Any]]:
    """The optimizer of that name, and its metadata."""
    tier: LearnToLearn = STUDIES[STUDY.name].tiers[found.attrs["tier"]]
    learner: Learner = next(one for one in tier.learners if one.label == SHIPPED[name])
    one = found.sel(learner=learner.label)
    metadata = {
        "command": found.attrs["command"],
        "seed": tier.seed,
        "trained_on": learner.home,
        "recipe": repr(learner.recipe),
        "log10_validation_loss": round(float(np.nanmin(one.validation)), 4),
        "jax_version": found.attrs["jax_version"],
    }
    return restored(learner.recipe, one.weights.values), metadata


def main(directory: Path) -> None:
    """Write them all."""
    found = results.read(directory)
    PACKAGE.mkdir(exist_ok=True)
    for name in SHIPPED:
        tx, metadata = shipped(found, name)
        learned.save(PACKAGE / f"{name}.npz", tx, **metadata)
        print(f"{name}: {(PACKAGE / f'{name}.npz').stat().st_size:,} bytes, {metadata}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
