"""The 35 test problems of Moré, Garbow and Hillstrom, 1981 (Testing unconstrained optimization software, ACM TOMS 7).

Each is a sum of squares, in the order and with the numbers of the paper's section 3, and is started at the paper's
standard point. Sizes that the paper leaves open are those of MINPACK's own tests, or 10. `minima` are the values that
the paper lists, and the trigonometric function's local one; a method may end at any of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from experiments.minima import Problem

Residuals = Callable[[jax.Array], jax.Array]

BARD = [0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39]
GAUSSIAN = [0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521, 0.3989]
"""Its first half, with the middle; the second mirrors it."""
MEYER = [34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744, 8261, 7030, 6005, 5147, 4427, 3820, 3307, 2872]
KOWALIK = [0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246]
KOWALIK_AT = [4.0, 2.0, 1.0, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625]
OSBORNE_1 = [
    0.844, 0.908, 0.932, 0.936, 0.925, 0.908, 0.881, 0.850, 0.818, 0.784, 0.751, 0.718, 0.685, 0.658, 0.628, 0.603,
    0.580, 0.558, 0.538, 0.522, 0.506, 0.490, 0.478, 0.467, 0.457, 0.448, 0.438, 0.431, 0.424, 0.420, 0.414, 0.411,
    0.406,
]  # fmt: skip
OSBORNE_2 = [
    1.366, 1.191, 1.112, 1.013, 0.991, 0.885, 0.831, 0.847, 0.786, 0.725, 0.746, 0.679, 0.608, 0.655, 0.616, 0.606,
    0.602, 0.626, 0.651, 0.724, 0.649, 0.649, 0.694, 0.644, 0.624, 0.661, 0.612, 0.558, 0.533, 0.495, 0.500, 0.423,
    0.395, 0.375, 0.372, 0.391, 0.396, 0.405, 0.428, 0.429, 0.523, 0.562, 0.607, 0.653, 0.672, 0.708, 0.633, 0.668,
    0.645, 0.632, 0.591, 0.559, 0.597, 0.625, 0.739, 0.710, 0.729, 0.720, 0.636, 0.581, 0.428, 0.292, 0.162, 0.098,
    0.054,
]  # fmt: skip
PENALTY = 1e-5


def squares(residuals: Residuals) -> Residuals:
    """The sum of their squares."""

    @functools.wraps(residuals)
    def objective(x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.square(residuals(x)))

    return objective


def like(x: jax.Array, data: npt.ArrayLike) -> jax.Array:
    """Data in the precision of `x`."""
    return jnp.asarray(data, x.dtype)


def upto(x: jax.Array, count: int) -> jax.Array:
    """1, ..., `count`."""
    return jnp.arange(1, count + 1, dtype=x.dtype)


@squares
def rosenbrock(x: jax.Array) -> jax.Array:
    """1 and 21: pairs that do not interact."""
    a, b = x.reshape(-1, 2).T
    return jnp.concatenate([10 * (b - a**2), 1 - a])


@squares
def freudenstein_roth(x: jax.Array) -> jax.Array:
    """2."""
    a, b = x
    return jnp.stack([-13 + a + ((5 - b) * b - 2) * b, -29 + a + ((b + 1) * b - 14) * b])


@squares
def powell_badly_scaled(x: jax.Array) -> jax.Array:
    """3."""
    a, b = x
    return jnp.stack([1e4 * a * b - 1, jnp.exp(-a) + jnp.exp(-b) - 1.0001])


@squares
def brown_badly_scaled(x: jax.Array) -> jax.Array:
    """4."""
    a, b = x
    return jnp.stack([a - 1e6, b - 2e-6, a * b - 2])


@squares
def beale(x: jax.Array) -> jax.Array:
    """5."""
    return like(x, [1.5, 2.25, 2.625]) - x[0] * (1 - jnp.stack([x[1], x[1] ** 2, x[1] ** 3]))


@squares
def jennrich_sampson(x: jax.Array) -> jax.Array:
    """6, with m = 10."""
    i = upto(x, 10)
    return 2 + 2 * i - (jnp.exp(i * x[0]) + jnp.exp(i * x[1]))


@squares
def helical_valley(x: jax.Array) -> jax.Array:
    """7. The angle jumps where x[0] is 0, and so not at the start, which is where `arctan2` itself jumps."""
    a, b, c = x
    is_left = a < 0
    sign = jnp.where(is_left, like(x, -1), like(x, 1))
    angle = jnp.arctan2(sign * b, sign * a) / (2 * np.pi) + jnp.where(is_left, like(x, 0.5), like(x, 0))
    return jnp.stack([10 * (c - 10 * angle), 10 * (jnp.sqrt(a**2 + b**2) - 1), c])


@squares
def bard(x: jax.Array) -> jax.Array:
    """8."""
    u = upto(x, 15)
    v = 16 - u
    return like(x, BARD) - (x[0] + u / (v * x[1] + jnp.minimum(u, v) * x[2]))


@squares
def gaussian(x: jax.Array) -> jax.Array:
    """9."""
    t = (8 - upto(x, 15)) / 2
    return x[0] * jnp.exp(-x[1] * (t - x[2]) ** 2 / 2) - like(x, GAUSSIAN + GAUSSIAN[-2::-1])


@squares
def meyer(x: jax.Array) -> jax.Array:
    """10."""
    return x[0] * jnp.exp(x[1] / (45 + 5 * upto(x, 16) + x[2])) - like(x, MEYER)


@squares
def gulf(x: jax.Array) -> jax.Array:
    """11, with m = 99. (The paper's "mi" is a minus: so in Algorithm 566, its authors' program.)"""
    t = np.arange(1, 100) / 100
    y = 25 + (-50 * np.log(t)) ** (2 / 3)
    return jnp.exp(-(jnp.abs(like(x, y) - x[1]) ** x[2]) / x[0]) - like(x, t)


@squares
def box(x: jax.Array) -> jax.Array:
    """12, with m = 10."""
    i = upto(x, 10)
    t = i / 10
    return jnp.exp(-t * x[0]) - jnp.exp(-t * x[1]) - x[2] * (jnp.exp(-t) - jnp.exp(-i))


@squares
def powell_singular(x: jax.Array) -> jax.Array:
    """13 and 22: fours that do not interact."""
    a, b, c, d = x.reshape(-1, 4).T
    return jnp.concatenate([a + 10 * b, 5**0.5 * (c - d), (b - 2 * c) ** 2, 10**0.5 * (a - d) ** 2])


@squares
def wood(x: jax.Array) -> jax.Array:
    """14."""
    a, b, c, d = x
    left, right = [10 * (b - a**2), 1 - a], [90**0.5 * (d - c**2), 1 - c]
    return jnp.stack([*left, *right, 10**0.5 * (b + d - 2), (b - d) / 10**0.5])


@squares
def kowalik_osborne(x: jax.Array) -> jax.Array:
    """15."""
    u = like(x, KOWALIK_AT)
    return like(x, KOWALIK) - x[0] * (u**2 + u * x[1]) / (u**2 + u * x[2] + x[3])


@squares
def brown_dennis(x: jax.Array) -> jax.Array:
    """16, with m = 20."""
    t = upto(x, 20) / 5
    return (x[0] + t * x[1] - jnp.exp(t)) ** 2 + (x[2] + x[3] * jnp.sin(t) - jnp.cos(t)) ** 2


@squares
def osborne_1(x: jax.Array) -> jax.Array:
    """17."""
    t = 10 * (upto(x, 33) - 1)
    return like(x, OSBORNE_1) - (x[0] + x[1] * jnp.exp(-t * x[3]) + x[2] * jnp.exp(-t * x[4]))


@squares
def biggs(x: jax.Array) -> jax.Array:
    """18, with m = 13."""
    t = upto(x, 13) / 10
    y = jnp.exp(-t) - 5 * jnp.exp(-10 * t) + 3 * jnp.exp(-4 * t)
    return x[2] * jnp.exp(-t * x[0]) - x[3] * jnp.exp(-t * x[1]) + x[5] * jnp.exp(-t * x[4]) - y


@squares
def osborne_2(x: jax.Array) -> jax.Array:
    """19."""
    t = (upto(x, 65) - 1) / 10
    bells = x[1:4, None] * jnp.exp(-((t[None] - x[8:, None]) ** 2) * x[5:8, None])
    return like(x, OSBORNE_2) - (x[0] * jnp.exp(-t * x[4]) + jnp.sum(bells, axis=0))


@squares
def watson(x: jax.Array) -> jax.Array:
    """20."""
    degrees = np.arange(x.size)
    powers = (np.arange(1, 30) / 29)[:, None] ** degrees
    slope = like(x, powers[:, :-1] * degrees[1:]) @ x[1:]
    return jnp.concatenate([slope - (like(x, powers) @ x) ** 2 - 1, jnp.stack([x[0], x[1] - x[0] ** 2 - 1])])


@squares
def penalty_1(x: jax.Array) -> jax.Array:
    """23."""
    return jnp.append(PENALTY**0.5 * (x - 1), jnp.sum(x**2) - 0.25)


@squares
def penalty_2(x: jax.Array) -> jax.Array:
    """24."""
    known, n = np.exp(np.arange(1, x.size + 1) / 10), x.size
    powers = jnp.exp(x / 10)
    pairs = powers[1:] + powers[:-1] - like(x, known[1:] + known[:-1])
    ends = jnp.stack([x[0] - 0.2, jnp.sum((n + 1 - upto(x, n)) * x**2) - 1])
    return jnp.concatenate([ends, PENALTY**0.5 * pairs, PENALTY**0.5 * (powers[1:] - np.exp(-0.1).item())])


@squares
def variably_dimensioned(x: jax.Array) -> jax.Array:
    """25."""
    total = jnp.sum(upto(x, x.size) * (x - 1))
    return jnp.concatenate([x - 1, jnp.stack([total, total**2])])


@squares
def trigonometric(x: jax.Array) -> jax.Array:
    """26."""
    return x.size - jnp.sum(jnp.cos(x)) + upto(x, x.size) * (1 - jnp.cos(x)) - jnp.sin(x)


@squares
def brown_almost_linear(x: jax.Array) -> jax.Array:
    """27."""
    return jnp.append(x[:-1] + jnp.sum(x) - (x.size + 1), jnp.prod(x) - 1)


@squares
def discrete_boundary_value(x: jax.Array) -> jax.Array:
    """28."""
    step, padded = 1 / (x.size + 1), jnp.pad(x, 1)
    return 2 * x - padded[:-2] - padded[2:] + step**2 * (x + step * upto(x, x.size) + 1) ** 3 / 2


@squares
def discrete_integral(x: jax.Array) -> jax.Array:
    """29."""
    step = 1 / (x.size + 1)
    t = step * upto(x, x.size)
    cubes = (x + t + 1) ** 3
    before, after = jnp.cumsum(t * cubes), jnp.cumsum((1 - t) * cubes)
    return x + step * ((1 - t) * before + t * (after[-1] - after)) / 2


@squares
def broyden_tridiagonal(x: jax.Array) -> jax.Array:
    """30."""
    padded = jnp.pad(x, 1)
    return (3 - 2 * x) * x - padded[:-2] - 2 * padded[2:] + 1


@squares
def broyden_banded(x: jax.Array) -> jax.Array:
    """31."""
    ahead = np.subtract.outer(np.arange(x.size), np.arange(x.size)) * -1
    band = (ahead >= -5) & (ahead <= 1) & (ahead != 0)
    return x * (2 + 5 * x**2) + 1 - like(x, band) @ (x * (1 + x))


@squares
def linear_full_rank(x: jax.Array) -> jax.Array:
    """32, with m = 2 n."""
    return jnp.pad(x, (0, x.size)) - 2 / (2 * x.size) * jnp.sum(x) - 1


@squares
def linear_rank_1(x: jax.Array) -> jax.Array:
    """33, with m = 2 n."""
    return upto(x, 2 * x.size) * jnp.sum(upto(x, x.size) * x) - 1


@squares
def linear_rank_1_zeros(x: jax.Array) -> jax.Array:
    """34, with m = 2 n: columns and rows of zeros."""
    return jnp.pad(upto(x, 2 * x.size - 2), 1) * jnp.sum((upto(x, x.size) * x)[1:-1]) - 1


@squares
def chebyquad(x: jax.Array) -> jax.Array:
    """35, with m = n."""
    shifted = 2 * x - 1
    before, now, means = jnp.ones_like(x), shifted, []
    for _ in range(x.size):
        means.append(jnp.mean(now))
        before, now = now, 2 * shifted * now - before
    integrals = [0.0 if i % 2 else -1 / (i**2 - 1) for i in range(1, x.size + 1)]
    return jnp.stack(means) - like(x, integrals)


_GRID = [i / 11 for i in range(1, 11)]
_PARABOLA = [t * (t - 1) for t in _GRID]

PROBLEMS = {
    "rosenbrock": Problem(rosenbrock, [-1.2, 1.0], minima=(0.0,)),
    "freudenstein-roth": Problem(freudenstein_roth, [0.5, -2.0], minima=(0.0, 48.98425)),
    "powell-badly-scaled": Problem(powell_badly_scaled, [0.0, 1.0], minima=(0.0,)),
    "brown-badly-scaled": Problem(brown_badly_scaled, [1.0, 1.0], minima=(0.0,)),
    "beale": Problem(beale, [1.0, 1.0], minima=(0.0,)),
    "jennrich-sampson": Problem(jennrich_sampson, [0.3, 0.4], minima=(124.362,)),
    "helical-valley": Problem(helical_valley, [-1.0, 0.0, 0.0], minima=(0.0,)),
    "bard": Problem(bard, [1.0, 1.0, 1.0], minima=(8.21487e-3, 17.4286)),
    "gaussian": Problem(gaussian, [0.4, 1.0, 0.0], minima=(1.12793e-8,)),
    "meyer": Problem(meyer, [0.02, 4000.0, 250.0], minima=(87.9458,)),
    "gulf": Problem(gulf, [5.0, 2.5, 0.15], minima=(0.0,)),
    "box": Problem(box, [0.0, 10.0, 20.0], minima=(0.0,)),
    "powell-singular": Problem(powell_singular, [3.0, -1.0, 0.0, 1.0], minima=(0.0,)),
    "wood": Problem(wood, [-3.0, -1.0, -3.0, -1.0], minima=(0.0,)),
    "kowalik-osborne": Problem(kowalik_osborne, [0.25, 0.39, 0.415, 0.39], minima=(3.07505e-4, 1.02734e-3)),
    "brown-dennis": Problem(brown_dennis, [25.0, 5.0, -5.0, -1.0], minima=(85822.2,)),
    "osborne-1": Problem(osborne_1, [0.5, 1.5, -1.0, 0.01, 0.02], minima=(5.46489e-5,)),
    "biggs": Problem(biggs, [1.0, 2.0, 1.0, 1.0, 1.0, 1.0], minima=(0.0, 5.65565e-3)),
    "osborne-2": Problem(osborne_2, [1.3, 0.65, 0.65, 0.7, 0.6, 3.0, 5.0, 7.0, 2.0, 4.5, 5.5], minima=(4.01377e-2,)),
    "watson-6": Problem(watson, [0.0] * 6, minima=(2.28767e-3,)),
    "extended-rosenbrock": Problem(rosenbrock, [-1.2, 1.0] * 5, minima=(0.0,)),
    "extended-powell": Problem(powell_singular, [3.0, -1.0, 0.0, 1.0] * 3, minima=(0.0,)),
    "penalty-1": Problem(penalty_1, [float(i) for i in range(1, 11)], minima=(7.08765e-5,)),
    "penalty-2": Problem(penalty_2, [0.5] * 10, minima=(2.93660e-4,)),
    "variably-dimensioned": Problem(variably_dimensioned, [1 - i / 10 for i in range(1, 11)], minima=(0.0,)),
    "trigonometric": Problem(trigonometric, [0.1] * 10, minima=(0.0, 2.79506e-5)),
    "brown-almost-linear": Problem(brown_almost_linear, [0.5] * 10, minima=(0.0, 1.0)),
    "discrete-boundary": Problem(discrete_boundary_value, _PARABOLA, minima=(0.0,)),
    "discrete-integral": Problem(discrete_integral, _PARABOLA, minima=(0.0,)),
    "broyden-tridiagonal": Problem(broyden_tridiagonal, [-1.0] * 10, minima=(0.0,)),
    "broyden-banded": Problem(broyden_banded, [-1.0] * 10, minima=(0.0,)),
    "linear-full-rank": Problem(linear_full_rank, [1.0] * 5, minima=(5.0,)),
    "linear-rank-1": Problem(linear_rank_1, [1.0] * 5, minima=(90 / 42,)),
    "linear-rank-1-zeros": Problem(linear_rank_1_zeros, [1.0] * 5, minima=(124 / 34,)),
    "chebyquad": Problem(chebyquad, [i / 9 for i in range(1, 9)], minima=(3.51687e-3,)),
}
