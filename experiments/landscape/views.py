"""Which planes are looked at: some of the first seed, for pictures, and two of every seed, which are measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import xarray as xr
from jaxtyping import Float

from experiments.landscape import planes
from experiments.landscape.directions import Principal
from experiments.landscape.planes import Plane
from experiments.landscape.training import Flat, start
from experiments.models import Classifier

Trained = Mapping[str, xr.Dataset]
"""What `training.train` returned, by optimizer. The first optimizer's solutions are those of all seeds."""

STARTS = 3
"""Seeds whose weights are corners of the shown planes."""
EARLY, MIDDLE = 1, 1 / 3
"""Moments at which the optimizers' weights are shown: the first that is kept, and a part of all."""

SHOWN = ("starts", "solutions", "early", "middle", "optimizers", "polygon", "path", "random")
"""What `shown` makes."""


def optimizers(model: Classifier, trained: Trained, seed: int) -> Plane:
    """Through what each optimizer reaches from one start."""
    del model
    return _of_each([one.weights.sel(seed=seed).values for one in trained.values()])


def around(model: Classifier, trained: Trained, seed: int) -> Plane:
    """Around the first optimizer's solution."""
    return planes.random_plane(model, _first(trained).weights.sel(seed=seed).values, seed)


MEASURED: Mapping[str, Callable[[Classifier, Trained, int], Plane]] = {"optimizers": optimizers, "random": around}
"""The planes of every seed."""


def shown(model: Classifier, trained: Trained) -> dict[str, Plane]:
    """The planes of the first seed; the corners of some are of the next seeds too."""
    solutions = _first(trained).weights
    seeds = [int(seed) for seed in solutions.seed[:STARTS]]
    paths = [one.path.values for one in trained.values()]
    middle = round(MIDDLE * (len(paths[0]) - 1))
    return {
        "starts": planes.quadrilateral([*(start(model, seed) for seed in seeds[:2]), *solutions.values[:2]]),
        "solutions": planes.triangle(list(solutions.values[:STARTS])),
        "early": _of_each([path[EARLY] for path in paths]),
        "middle": _of_each([path[middle] for path in paths]),
        "optimizers": optimizers(model, trained, seeds[0]),
        "polygon": planes.polygon([paths[0][0], *(path[-1] for path in paths)]),
        "path": _way(model, trained)[0],
        "random": around(model, trained, seeds[0]),
    }


def explained(model: Classifier, trained: Trained) -> Float[np.ndarray, "2"]:
    """Parts of the trajectory's variance that its plane holds, by axis."""
    return _way(model, trained)[1].explained


def _way(model: Classifier, trained: Trained) -> tuple[Plane, Principal]:
    name, one = next(iter(trained.items()))
    return planes.trajectory_plane(model, one.path.values, f"the training by {name} from seed {int(one.seed[0])}")


def _of_each(vectors: Sequence[Flat]) -> Plane:
    """Four corners, a vector each. Where there are fewer they begin again."""
    return planes.quadrilateral([vectors[i % len(vectors)] for i in range(4)])


def _first(trained: Trained) -> xr.Dataset:
    return next(iter(trained.values()))
