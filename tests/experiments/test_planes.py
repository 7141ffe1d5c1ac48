"""Planes through weights: coordinates by what defines them, directions by lengths, a trajectory by its variance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.errors import ExperimentError
from experiments.landscape import coordinates, planes
from experiments.landscape.directions import filter_normalized, principal, random_direction
from experiments.landscape.evaluate import combine
from experiments.landscape.training import flat, parameters
from experiments.models import lenet5, mlp

RANDOM = np.random.default_rng(0)
POINTS = RANDOM.uniform(-2, 2, (60, 2))
PENTAGON = coordinates.regular(5)
ARROW = np.array([[0.0, 0.0], [2.0, -1.0], [0.7, 0.1], [1.5, 1.5]])  # not convex
TINY = mlp(16, (5,), 3)
TOLERANCE = 1e-9
"""Of sums of a few float64 numbers, some of them large and of both signs near a prolonged edge."""


def weights(model, key=0):
    """Made up: drawing them by the model takes seconds."""
    rng = np.random.default_rng(key)
    like = jax.eval_shape(model.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), like)


def all_coordinates():
    triangle = RANDOM.normal(size=(3, 2))
    return {
        "line": (lambda points: coordinates.line(points[:, 0]), np.array([[0.0, 0.0], [1.0, 0.0]])),
        "barycentric": (lambda points: coordinates.barycentric(points, triangle), triangle),
        "bilinear": (coordinates.bilinear, coordinates.SQUARE),
        "mean value": (lambda points: coordinates.mean_value(points, PENTAGON), PENTAGON),
        "mean value, not convex": (lambda points: coordinates.mean_value(points, ARROW), ARROW),
    }


@pytest.mark.parametrize("name", all_coordinates())
def test_coefficients_are_a_partition_of_unity_and_one_at_their_corner(name):
    function, corners = all_coordinates()[name]
    np.testing.assert_allclose(function(POINTS).sum(axis=1), 1, atol=TOLERANCE)
    at_corners = function(corners)
    np.testing.assert_allclose(at_corners, np.eye(len(corners)), atol=1e-15)


@pytest.mark.parametrize("name", [name for name in all_coordinates() if name != "line"])
def test_affine_functions_are_reproduced_inside_and_outside(name):
    function, corners = all_coordinates()[name]
    slope, shift = RANDOM.normal(size=(2, 3)), RANDOM.normal(size=3)
    np.testing.assert_allclose(
        function(POINTS) @ (corners @ slope + shift), POINTS @ slope + shift, rtol=TOLERANCE, atol=TOLERANCE
    )


def test_mean_values_on_a_triangle_are_barycentric():
    triangle = RANDOM.normal(size=(3, 2))
    expected = coordinates.barycentric(POINTS, triangle)
    np.testing.assert_allclose(coordinates.mean_value(POINTS, triangle), expected, rtol=1e-7, atol=TOLERANCE)
    np.testing.assert_allclose(coordinates.mean_value(POINTS, triangle[::-1])[:, ::-1], expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("polygon", [PENTAGON, ARROW], ids=["convex", "not convex"])
def test_mean_values_on_an_edge_are_those_of_its_line_and_continuous(polygon):
    for i in range(len(polygon)):
        j = (i + 1) % len(polygon)
        for share in (0.25, 0.5, 0.9):
            on_edge = (1 - share) * polygon[i] + share * polygon[j]
            expected = (1 - share) * np.eye(len(polygon))[i] + share * np.eye(len(polygon))[j]
            beside = on_edge + 1e-7 * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
            np.testing.assert_allclose(
                coordinates.mean_value(np.vstack([on_edge, beside]), polygon), expected[None].repeat(5, 0), atol=1e-5
            )


def test_mean_values_are_positive_within_a_convex_polygon():
    inside = POINTS[np.hypot(*POINTS.T) < 1.6] / 2  # less than the pentagon's inner radius, 0.809
    assert len(inside) > 5
    assert (coordinates.mean_value(inside, PENTAGON) > 0).all()


def test_what_makes_no_polygon_is_refused():
    with pytest.raises(ValueError, match="three corners that are not on a line"):
        coordinates.barycentric(POINTS, np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]))
    with pytest.raises(ValueError, match="three corners or more, all neighbours apart"):
        coordinates.mean_value(POINTS, PENTAGON[:2])
    with pytest.raises(ValueError, match="all neighbours apart"):
        coordinates.mean_value(POINTS, PENTAGON[[0, 0, 1]])


def test_corners_come_out_to_the_bit():
    """Through float32 coefficients, padding and a sum over all corners."""
    model = TINY
    vectors = [np.asarray(flat(weights(model, i))) for i in range(5)]
    for plane in (
        planes.quadrilateral(vectors[:4]),
        planes.triangle(vectors[:3]),
        planes.polygon(vectors),
    ):
        corners = jax.tree.map(jnp.asarray, planes.stacked(model, plane.corners))
        for place, vector in zip(plane.marks, vectors, strict=False):
            coefficients = planes.padded(plane.coefficients(place[None]))[0]
            np.testing.assert_allclose(coefficients @ np.eye(5), coefficients)
            exact = np.round(coefficients, 15)  # 1 and 0, but for a triangle's linear system
            point = jax.jit(combine)(corners, jnp.asarray(exact, jnp.float32))
            np.testing.assert_array_equal(flat(point), vector)


def test_edges_of_a_quadrilateral_are_lines_of_weights():
    vectors = RANDOM.normal(size=(4, 7))
    across = np.linspace(-0.5, 1.5, 9)
    for height, (left, right) in ((0.0, (0, 1)), (1.0, (2, 3))):
        points = np.stack([across, np.full(9, height)], axis=-1)
        expected = np.outer(1 - across, vectors[left]) + np.outer(across, vectors[right])
        np.testing.assert_allclose(coordinates.bilinear(points) @ vectors, expected, atol=1e-12)
    between = coordinates.bilinear(np.stack([across, np.full(9, 0.3)], axis=-1)) @ vectors
    np.testing.assert_allclose(np.diff(between, 2, axis=0), 0, atol=1e-12)  # parallels to a side are lines too


def norms(kernel):
    return np.sqrt(np.square(np.asarray(kernel)).sum(tuple(range(kernel.ndim - 1))))


def test_filters_of_a_random_direction_are_as_long_as_the_weights():
    params = weights(lenet5(normalized=True)).params
    params["first"]["kernel"] = params["first"]["kernel"].at[..., 2].set(0)  # a dead filter
    found = jax.jit(random_direction)(params, jax.random.key(1))
    assert jax.tree.structure(found) == jax.tree.structure(params)
    for param, direction in zip(jax.tree.leaves(params), jax.tree.leaves(found), strict=True):
        if param.ndim > 1:
            np.testing.assert_allclose(norms(direction), norms(param), rtol=1e-5)
            assert np.isfinite(direction).all()
        else:
            assert not direction.any()


def test_scaled_filters_have_scaled_directions():
    params, drawn = (weights(TINY, key).params for key in (0, 1))
    once = filter_normalized(drawn, params)
    many = filter_normalized(jax.tree.map(lambda leaf: 3 * leaf, drawn), jax.tree.map(lambda leaf: 8 * leaf, params))
    for a, b in zip(jax.tree.leaves(once), jax.tree.leaves(many), strict=True):
        np.testing.assert_allclose(8 * a, b, rtol=1e-5)
    zero = filter_normalized(jax.tree.map(jnp.zeros_like, params), params)
    assert not any(leaf.any() for leaf in jax.tree.leaves(zero))


@pytest.mark.slow
def test_both_networks_start_alike_and_are_moved_alike():
    plain, normalized = (jax.jit(model.init)(jax.random.key(3)).params for model in (lenet5(), lenet5(normalized=True)))
    for params in (
        (plain, normalized),
        tuple(jax.jit(random_direction)(one, jax.random.key(4)) for one in (plain, normalized)),
    ):
        kernels = [[leaf for leaf in jax.tree.leaves(one) if leaf.ndim > 1] for one in params]
        assert len(kernels[0]) == 5
        for a, b in zip(*kernels, strict=True):
            np.testing.assert_array_equal(a, b)


def test_principal_components_hold_the_most_variance():
    trajectory = np.cumsum(RANDOM.normal(size=(12, 40)), axis=0)
    found = principal(trajectory)
    values = np.linalg.eigvalsh(np.cov(trajectory.T))[::-1]
    np.testing.assert_allclose(found.explained, values[:2] / values.sum(), rtol=1e-10)
    np.testing.assert_allclose(found.components @ found.components.T, np.eye(2), atol=1e-12)
    on_plane = found.mean + found.path @ found.components
    np.testing.assert_allclose((trajectory - on_plane) @ found.components.T, 0, atol=1e-10)  # nearest points
    assert (found.path[-1] >= 0).all()


def test_a_trajectory_on_a_plane_is_reproduced():
    flat_one = RANDOM.normal(size=(6, 2)) @ RANDOM.normal(size=(2, 30)) + RANDOM.normal(size=30)
    found = principal(flat_one)
    np.testing.assert_allclose(found.explained.sum(), 1, rtol=1e-12)
    np.testing.assert_allclose(found.mean + found.path @ found.components, flat_one, atol=1e-10)


def test_a_trajectory_that_has_no_plane_is_refused():
    with pytest.raises(ValueError, match="three moments or more that are not on a line, got 2"):
        principal(RANDOM.normal(size=(2, 9)))
    with pytest.raises(ValueError, match="not on a line, got 5 that are"):
        principal(np.outer(np.arange(5.0), np.ones(9)))
    with pytest.raises(ValueError, match="has diverged"):
        principal(np.full((5, 9), np.nan))
    lost = np.full((5, len(flat(weights(TINY)))), np.nan, np.float32)
    with pytest.raises(ExperimentError, match=r"a training has no plane: .* got 0; give it a lower rate"):
        planes.trajectory_plane(TINY, lost)


def test_the_plane_of_a_trajectory_shows_it():
    """Its grid holds the trajectory with room around it, and running statistics stay out of it."""
    model = lenet5(normalized=True)
    start = np.asarray(flat(weights(model)))
    path = start + np.cumsum(RANDOM.normal(size=(6, len(start))), axis=0).astype(np.float32)
    broken = np.vstack([path, np.full((2, len(start)), np.nan, np.float32)])
    plane, found = planes.trajectory_plane(model, broken)
    np.testing.assert_array_equal(plane.marks, found.path)
    for window, places in zip((plane.x, plane.y), found.path.T, strict=True):
        assert window[0] < places.min() < places.max() < window[1]
    point = plane.coefficients(found.path[-1:]) @ plane.corners
    count = parameters(model)
    expected = found.mean + found.path[-1] @ found.components
    np.testing.assert_allclose(point[0, :count], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(point[0, count:], path[-1, count:], rtol=1e-6)
