r"""From points of a plane to coefficients of corners: the weights at a point are $\sum_i c_i \theta_i$.

All but `affine` have coefficients that sum to 1, and are 1 at their own corner and 0 at the others, so that a corner's
weights come out to the bit. In float64, for points inside and outside alike.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

Points = Float[np.ndarray, "n 2"]
Corners = Float[np.ndarray, "corners 2"]
Coefficients = Float[np.ndarray, "n corners"]

SQUARE = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
"""The corners of `bilinear`, in its order."""


def line(places: Float[np.ndarray, " n"]) -> Coefficients:
    """Of two corners, at 0 and at 1."""
    return np.stack([1 - places, places], axis=-1)


def barycentric(points: Points, triangle: Float[np.ndarray, "3 2"]) -> Coefficients:
    """Of the corners of a triangle: the only affine ones.

    Raises:
        ValueError: The corners are on a line.
    """
    origin, first, second = triangle
    sides = np.stack([first - origin, second - origin], axis=-1)
    if np.linalg.matrix_rank(sides) < 2:
        raise ValueError(f"expected three corners that are not on a line, got {triangle.tolist()}; move one")
    along = np.linalg.solve(sides, (points - origin).T).T
    return np.concatenate([1 - along.sum(axis=1, keepdims=True), along], axis=1)


def bilinear(points: Points) -> Coefficients:
    """Of the corners of `SQUARE`. Lines parallel to a side stay lines in the space of weights."""
    x, y = points.T
    return np.stack([(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y], axis=-1)


def mean_value(points: Points, polygon: Corners) -> Coefficients:
    r"""Of the corners of a simple polygon, counter-clockwise or clockwise.

    $$w_i = \frac{\tan(\alpha_{i-1}/2) + \tan(\alpha_i/2)}{|v_i - p|}, \qquad c_i = w_i / \sum_j w_j$$

    with $\alpha_i$ the signed angle at p between corners i and i + 1. On an edge they are those of its line.

    Raises:
        ValueError: There are fewer than three corners, or two neighbours are one point.

    Source: Floater, 2003; the tangent without angles, and points outside: Hormann and Floater, 2006.
    """
    edges = np.roll(polygon, -1, axis=0) - polygon
    if len(polygon) < 3 or not np.hypot(*edges.T).all():
        raise ValueError(f"expected three corners or more, all neighbours apart, got {polygon.tolist()}")
    return np.stack([_mean_value(point, polygon) for point in points])


def _mean_value(point: Float[np.ndarray, "2"], polygon: Corners) -> Float[np.ndarray, " corners"]:
    count = len(polygon)
    away = polygon - point
    distance = np.hypot(*away.T)
    beside, distance_beside = np.roll(away, -1, axis=0), np.roll(distance, -1)
    cross = away[:, 0] * beside[:, 1] - away[:, 1] * beside[:, 0]
    dot = (away * beside).sum(axis=1)
    for i in range(count):
        if distance[i] == 0:
            return np.eye(count)[i]
        if cross[i] == 0 and dot[i] < 0:
            share = distance[i] / (distance[i] + distance_beside[i])
            return (1 - share) * np.eye(count)[i] + share * np.eye(count)[(i + 1) % count]
    with np.errstate(invalid="ignore", divide="ignore"):
        tangent = np.where(cross == 0, 0.0, (distance * distance_beside - dot) / cross)
    weights = (tangent + np.roll(tangent, 1)) / distance
    return weights / weights.sum()


def affine(points: Points) -> Coefficients:
    """Of an origin and two directions: (1, x, y)."""
    return np.concatenate([np.ones((len(points), 1)), points], axis=1)


def regular(count: int) -> Corners:
    """A polygon on the unit circle, its first corner at the top, counter-clockwise."""
    angle = np.pi / 2 + 2 * np.pi * np.arange(count) / count
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)
