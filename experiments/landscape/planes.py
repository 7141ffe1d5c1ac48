"""Planes through the weights of trainings: their corners, and the part of each that is looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from experiments.errors import ExperimentError
from experiments.landscape import coordinates
from experiments.landscape.directions import Principal, principal, random_direction
from experiments.landscape.training import Flat, flat, parameters, unravel
from experiments.models import Classifier, Variables
from experiments.sweep import key_of

MOST = 5
"""Corners of a plane. Planes with fewer repeat one that has no part in anything, so that one program does them all."""
DIRECTION_KEY = 12
"""Folded into a seed's key, so that its directions are apart from all else that it draws."""

Square = tuple[float, float]
OUTSIDE: Square = (-0.5, 1.5)
"""How far beyond two corners, at 0 and 1, is looked."""
AROUND: Square = (-1.0, 1.0)
"""Of random directions: up to where a filter is as far from its own value as 0 is."""
POLYGON: Square = (-1.15, 1.15)
"""Around a polygon on the unit circle."""
MARGIN = 0.35
"""Of a trajectory's greater extent, around it."""


@dataclass(frozen=True)
class Plane:
    """A part of a plane, which is a square or a rectangle.

    Attributes:
        corners: Vectors of weights, of which every point is a combination.
        coefficients: From points to those of the corners.
        x, y: From where to where.
        marks: Points that a picture shows: corners, or a trajectory.
    """

    corners: Flat
    coefficients: Callable[[coordinates.Points], coordinates.Coefficients]
    x: Square
    y: Square
    marks: Float[np.ndarray, "marks 2"]

    def axes(self, side: int) -> tuple[Float[np.ndarray, " side"], Float[np.ndarray, " side"]]:
        """The grid's columns and rows."""
        return np.linspace(*self.x, side), np.linspace(*self.y, side)

    def grid(self, side: int) -> Float[np.ndarray, "points corners"]:
        """The coefficients of all points, row by row."""
        across, up = np.meshgrid(*self.axes(side))
        return padded(self.coefficients(np.stack([across.ravel(), up.ravel()], axis=-1)))


def padded(coefficients: coordinates.Coefficients) -> Float[np.ndarray, "points corners"]:
    """With zeros, to `MOST` corners."""
    return np.pad(coefficients, ((0, 0), (0, MOST - coefficients.shape[1])))


def stacked(model: Classifier, corners: Flat) -> Variables:
    """The corners as the model's variables, `MOST` of them."""
    return unravel(model, np.pad(corners, ((0, MOST - len(corners)), (0, 0)), "edge"))


def quadrilateral(corners: Sequence[Flat]) -> Plane:
    """Through four vectors, by bilinear coordinates."""
    return Plane(np.stack(corners), coordinates.bilinear, OUTSIDE, OUTSIDE, coordinates.SQUARE)


def triangle(corners: Sequence[Flat]) -> Plane:
    """Through three vectors, by barycentric coordinates."""
    places = coordinates.regular(3)
    return Plane(np.stack(corners), lambda points: coordinates.barycentric(points, places), POLYGON, POLYGON, places)


def polygon(corners: Sequence[Flat]) -> Plane:
    """Through any number of vectors, by mean-value coordinates."""
    places = coordinates.regular(len(corners))
    return Plane(np.stack(corners), lambda points: coordinates.mean_value(points, places), POLYGON, POLYGON, places)


def random_plane(model: Classifier, origin: Flat, seed: int) -> Plane:
    """Around a vector, along two random directions whose filters are as long as its own."""
    at = unravel(model, origin)
    keys = jax.random.split(jax.random.fold_in(key_of(jnp.asarray(seed, jnp.uint32)), DIRECTION_KEY))
    still = jax.tree.map(np.zeros_like, at.stats)
    directions = [np.asarray(flat(Variables(random_direction(at.params, key), still))) for key in keys]
    return Plane(np.stack([origin, *directions]), coordinates.affine, AROUND, AROUND, np.zeros((1, 2)))


def trajectory_plane(
    model: Classifier, path: Float[np.ndarray, "moments weights"], whose: str = "a training"
) -> tuple[Plane, Principal]:
    """The plane nearest to a trajectory, which it shows; running statistics have no part in it.

    What comes after a training has diverged to NaN is left out. An error says by `whose` which training it was.

    Raises:
        ExperimentError: Too little is left, or all of it is on a line.
    """
    count = parameters(model)
    path = path[np.isfinite(path).all(axis=1)]
    try:
        found = principal(path[:, :count])
    except ValueError as error:
        raise ExperimentError(f"{whose} has no plane: {error}; give it a lower rate in its tier") from error
    least, most = found.path.min(axis=0), found.path.max(axis=0)
    room = MARGIN * (most - least).max()
    x, y = ((float(low), float(high)) for low, high in zip(least - room, most + room, strict=True))
    corners = np.zeros((3, path.shape[1]), np.float32)
    corners[0] = path[-1]
    corners[:, :count] = [found.mean, *found.components]
    return Plane(corners, coordinates.affine, x, y, found.path), found
