"""24 more test problems: 15 of CUTE's (larger, sparse), five of others', and four of our own.

CUTE: Bongartz, Conn, Gould and Toint, 1995 (ACM TOMS 21), with the names and minima that its files have. Of others:
a chained Rosenbrock, Himmelblau's and Griewank's functions, and Watson's in two more sizes. Our own are two quadratics
of known condition, a logistic regression and a small network.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench.more_garbow_hillstrom import upto, watson
from experiments.minima import Problem


def chained_rosenbrock(x: jax.Array) -> jax.Array:
    """A valley in as many dimensions. Lowest at ones: 0."""
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def genrose(x: jax.Array) -> jax.Array:
    """The same with another start and the other end of each link. Lowest at ones: 1."""
    return 1 + jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (x[1:] - 1) ** 2)


def himmelblau(x: jax.Array) -> jax.Array:
    """Four minima, all 0 (Himmelblau, 1972)."""
    return (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2


def tridia(x: jax.Array) -> jax.Array:
    """A tridiagonal quadratic."""
    return (x[0] - 1) ** 2 + jnp.sum(upto(x, x.size)[1:] * (2 * x[1:] - x[:-1]) ** 2)


def dqdrtic(x: jax.Array) -> jax.Array:
    """A diagonal quadratic."""
    return jnp.sum(x[:-2] ** 2 + 100 * x[1:-1] ** 2 + 100 * x[2:] ** 2)


def power(x: jax.Array) -> jax.Array:
    """Its Hessian is 0 at the minimum."""
    return jnp.sum(upto(x, x.size) * x**2) ** 2


def cragglvy(x: jax.Array) -> jax.Array:
    """Cragg and Levy's: powers from 2 to 8, which overlap."""
    a, b, c, d = x[:-2:2], x[1:-2:2], x[2::2], x[3::2]
    far = (jnp.exp(a) - b) ** 4 + 100 * (b - c) ** 6
    return jnp.sum(far + (jnp.tan(c - d) + c - d) ** 4 + a**8 + (d - 1) ** 2)


def cosine(x: jax.Array) -> jax.Array:
    """Many minima and saddles."""
    return jnp.sum(jnp.cos(x[:-1] ** 2 - x[1:] / 2))


def schmvett(x: jax.Array) -> jax.Array:
    """Schmidt and Vetters'. Each term is at least -3."""
    a, b, c = x[:-2], x[1:-1], x[2:]
    terms = -1 / (1 + (a - b) ** 2) - jnp.sin((np.pi * b + c) / 2) - jnp.exp(-(((a + c) / b - 2) ** 2))
    return jnp.sum(terms)


def sinquad(x: jax.Array) -> jax.Array:
    """Its Hessian is singular where it is lowest, at ones: 0."""
    first, inner, last = x[0], x[1:-1], x[-1]
    terms = (jnp.sin(inner - last) - first**2 + inner**2) ** 2
    return (first - 1) ** 4 + jnp.sum(terms) + (last**2 - first**2) ** 2


def arwhead(x: jax.Array) -> jax.Array:
    """Its Hessian is an arrowhead."""
    return jnp.sum((x[:-1] ** 2 + x[-1] ** 2) ** 2 - 4 * x[:-1] + 3)


def bdqrtic(x: jax.Array) -> jax.Array:
    """A banded quartic."""
    bands = x[:-4] ** 2 + 2 * x[1:-3] ** 2 + 3 * x[2:-2] ** 2 + 4 * x[3:-1] ** 2 + 5 * x[-1] ** 2
    return jnp.sum((3 - 4 * x[:-4]) ** 2 + bands**2)


def engval1(x: jax.Array) -> jax.Array:
    """A chain of quartics."""
    return jnp.sum((x[:-1] ** 2 + x[1:] ** 2) ** 2 - 4 * x[:-1] + 3)


def edensch(x: jax.Array) -> jax.Array:
    """Dennis and Schnabel's, extended."""
    return 16 + jnp.sum((x[:-1] - 2) ** 4 + (x[:-1] * x[1:] - 2 * x[1:]) ** 2 + (x[1:] + 1) ** 2)


def nondia(x: jax.Array) -> jax.Array:
    """Shanno's nondiagonal valley. Lowest at ones: 0."""
    return (x[0] - 1) ** 2 + jnp.sum(100 * (x[0] - x[:-1] ** 2) ** 2)


def liarwhd(x: jax.Array) -> jax.Array:
    """An arrowhead of valleys. Lowest at ones: 0."""
    return jnp.sum(4 * (x**2 - x[0]) ** 2 + (x - 1) ** 2)


def fletchcr(x: jax.Array) -> jax.Array:
    """Fletcher's chain: each entry moves only when the one before it has."""
    return jnp.sum(100 * (x[1:] - x[:-1] + 1 - x[:-1] ** 2) ** 2)


def griewank(x: jax.Array) -> jax.Array:
    """Griewank's, 1981: a bowl with ripples. Lowest at zeros: 0."""
    return 1 + jnp.sum(x**2) / 4000 - jnp.prod(jnp.cos(x / jnp.sqrt(upto(x, x.size))))


def quadratic(x: jax.Array, scales: jax.Array) -> jax.Array:
    """Half of the squares, scaled."""
    return jnp.sum(scales.astype(x.dtype) * x * x) / 2


def logistic(x: jax.Array, features: jax.Array, signs: jax.Array) -> jax.Array:
    """The mean of log(1 + exp(-margin)), and a small penalty."""
    margins = signs.astype(x.dtype) * (features.astype(x.dtype) @ x)
    return jnp.mean(jax.nn.softplus(-margins)) + 1e-3 / 2 * jnp.sum(x**2)


def network(x: jax.Array, inputs: jax.Array, targets: jax.Array) -> jax.Array:
    """The mean squared error of a network with eight units."""
    slopes, shifts, weights, bias = x[:8], x[8:16], x[16:24], x[24]
    hidden = jnp.tanh(inputs.astype(x.dtype)[:, None] * slopes[None] + shifts[None])
    return jnp.mean((hidden @ weights + bias - targets.astype(x.dtype)) ** 2)


def _classes() -> tuple[np.ndarray, np.ndarray]:
    """100 points with features of scales from 0.1 to 10, and the noisy signs of a linear teacher."""
    rng = np.random.RandomState(0)
    features = rng.normal(size=(100, 10)) * np.logspace(-1, 1, 10)
    signs = np.sign(features @ np.ones(10) + 5 * rng.normal(size=100))
    return features, signs


_INPUTS = np.linspace(-1, 1, 20)

PROBLEMS = {
    "watson-9": Problem(watson, [0.0] * 9, minima=(1.39976e-6,)),
    "watson-12": Problem(watson, [0.0] * 12, minima=(4.72238e-10,)),
    "rosenbrock-100": Problem(chained_rosenbrock, [-1.2, 1.0] * 50, minima=(0.0,)),
    "genrose": Problem(genrose, [i / 51 for i in range(1, 51)], minima=(1.0,)),
    "himmelblau": Problem(himmelblau, [0.0, 0.0], minima=(0.0,)),
    "tridia": Problem(tridia, [1.0] * 50, minima=(0.0,)),
    "dqdrtic": Problem(dqdrtic, [3.0] * 50, minima=(0.0,)),
    "power": Problem(power, [1.0] * 50, minima=(0.0,)),
    "cragglvy": Problem(cragglvy, [1.0] + [2.0] * 49, minima=(15.372,)),
    "cosine-100": Problem(cosine, [1.0] * 100, minima=(-99.0,)),
    "schmvett": Problem(schmvett, [3.0] * 50, minima=(-144.0,)),
    "sinquad": Problem(sinquad, [0.1] * 50, minima=(0.0,)),
    "arwhead": Problem(arwhead, [1.0] * 100, minima=(0.0,)),
    "bdqrtic": Problem(bdqrtic, [1.0] * 100, minima=(378.769,)),
    "engval1": Problem(engval1, [2.0] * 100, minima=(109.088,)),
    "edensch": Problem(edensch, [0.0] * 36, minima=(219.28,)),
    "nondia": Problem(nondia, [-1.0] * 50, minima=(0.0,)),
    "liarwhd": Problem(liarwhd, [4.0] * 50, minima=(0.0,)),
    "fletchcr": Problem(fletchcr, [0.0] * 50, minima=(0.0,)),
    "griewank": Problem(griewank, [1.0] * 10, minima=(0.0,)),
    "quadratic-1e6": Problem(quadratic, [1.0] * 10, (np.logspace(0, 6, 10),), (0.0,)),
    "quadratic-1e12": Problem(quadratic, [1.0] * 10, (np.logspace(0, 12, 10),), (0.0,)),
    "logistic": Problem(logistic, [0.0] * 10, _classes()),
    "network": Problem(network, np.random.RandomState(0).normal(size=25).tolist(), (_INPUTS, np.sin(3 * _INPUTS))),
}
