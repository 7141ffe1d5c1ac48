"""The test problems are those of the literature: their values at the standard starts, and their minima."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from experiments.bench import more_garbow_hillstrom, other_minima

PROBLEMS = more_garbow_hillstrom.PROBLEMS | other_minima.PROBLEMS

MINPACK = {
    "rosenbrock": 4.919350,
    "freudenstein-roth": 20.01250,
    "jennrich-sampson": 64.58565,
    "helical-valley": 50.0,
    "bard": 6.456136,
    "meyer": 41153.47,
    "box": 32.11158,
    "powell-singular": 14.66288,
    "kowalik-osborne": 0.07289151,
    "brown-dennis": 2815.438,
    "osborne-1": 0.9375640,
    "osborne-2": 1.446865,
    "watson-6": 5.477226,
    "watson-9": 5.477226,
    "watson-12": 5.477226,
    "trigonometric": 0.08411753,
    "brown-almost-linear": 16.53022,
    "discrete-boundary": 0.02808058,
    "discrete-integral": 0.2518270,
    "broyden-tridiagonal": 4.582576,
    "broyden-banded": 18.97367,
    "linear-full-rank": 5.0,
    "linear-rank-1": 291.5219,
    "linear-rank-1-zeros": 126.0397,
    "chebyquad": 0.1965139,
}
"""Norms of the residuals at the start, which MINPACK's own test programs print to seven figures."""

OTHERS = {
    # Of Moré, Garbow and Hillstrom: by hand, or to the figures that others have published.
    "powell-badly-scaled": 1 + (1 + np.exp(-1) - 1.0001) ** 2,
    "brown-badly-scaled": (1 - 1e6) ** 2 + (1 - 2e-6) ** 2 + 1,
    "beale": 1.5**2 + 2.25**2 + 2.625**2,
    "gaussian": 3.888107e-6,
    "gulf": 12.11071,
    "wood": 19192.0,
    "biggs": 0.7790701,
    "extended-rosenbrock": 5 * 24.2,
    "extended-powell": 3 * 215.0,
    "penalty-1": 1e-5 * 285 + (385 - 0.25) ** 2,
    "penalty-2": 162.6528,
    # The jth entry is 1 - j / 10, so that the sum of j times (entry - 1) is -38.5.
    "variably-dimensioned": 3.85 + 38.5**2 + 38.5**4,
    # Of CUTE: every entry is the same at the start, mostly.
    "rosenbrock-100": 50 * 24.2 + 49 * 484,
    "genrose": 1 + sum(100 * ((i + 1) / 51 - (i / 51) ** 2) ** 2 + ((i + 1) / 51 - 1) ** 2 for i in range(1, 50)),
    "himmelblau": 11.0**2 + 7**2,
    "tridia": 50 * 51 / 2 - 1,
    "dqdrtic": 48 * 9 * 201.0,
    "power": (50 * 51 / 2) ** 2,
    "cragglvy": (np.e - 2) ** 4 + 2 + 23 * ((np.e**2 - 2) ** 4 + 2**8 + 1),
    "cosine-100": 99 * np.cos(0.5),
    "schmvett": -48 * (2 + np.sin(1.5 * (np.pi + 1))),
    "sinquad": 0.9**4,
    "arwhead": 99 * 3.0,
    "bdqrtic": 96 * (1 + 15.0**2),
    "engval1": 99 * (64 - 8 + 3.0),
    "edensch": 16 + 35 * 17.0,
    "nondia": 4 + 49 * 400.0,
    "liarwhd": 50 * (4 * 144 + 9.0),
    "fletchcr": 49 * 100.0,
    # Of our own, and Griewank's.
    "griewank": 1 + 10 / 4000 - np.prod(np.cos(1 / np.sqrt(np.arange(1, 11)))),
    "quadratic-1e6": sum(10 ** (6 * i / 9) for i in range(10)) / 2,
    "quadratic-1e12": sum(10 ** (12 * i / 9) for i in range(10)) / 2,
    "logistic": np.log(2),
    "network": 2.789206,
}
STARTS = {name: norm**2 for name, norm in MINPACK.items()} | OTHERS

NEAR = {
    # From the start, BFGS in float64 meets rounding first. To the seven figures of MINPACK's solution.
    "watson-12": [
        -0.6638060e-8, 1.000002, -0.5639322e-3, 0.3478205, -0.1567315, 1.052815,
        -3.247271, 7.288435, -10.27185, 9.074114, -4.541375, 1.012012,
    ],
}  # fmt: skip


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def pair(name):
    """Value and gradient, compiled, of NumPy arrays."""
    problem = PROBLEMS[name]
    both = jax.jit(jax.value_and_grad(problem.function))
    args = tuple(map(jnp.asarray, problem.args))
    return lambda x: tuple(map(np.asarray, both(jnp.asarray(x), *args)))


def test_there_are_59():
    assert len(more_garbow_hillstrom.PROBLEMS) == 35
    assert len(other_minima.PROBLEMS) == 24
    assert set(STARTS) == set(PROBLEMS)
    assert len(PROBLEMS) == 59


@pytest.mark.parametrize("name", PROBLEMS)
def test_at_the_start(name):
    value, grad = pair(name)(PROBLEMS[name].start)
    assert value == pytest.approx(STARTS[name], rel=1e-6)  # the square of what is printed to seven figures
    assert grad.shape == (len(PROBLEMS[name].start),)
    assert np.isfinite(grad).all()
    assert grad.any()


@pytest.mark.parametrize("name", PROBLEMS)
def test_in_float32_all_of_it_is(name):
    """Data comes in the parameters' precision: a float64 constant would be an error here, or widen the value."""
    problem = PROBLEMS[name]
    start = jax.ShapeDtypeStruct((len(problem.start),), jnp.float32)
    value, grad = jax.eval_shape(jax.value_and_grad(problem.function), start, *map(jnp.asarray, problem.args))
    assert value.dtype == grad.dtype == jnp.float32


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, problem in PROBLEMS.items() if problem.minima])
def test_the_minimum_is_the_one_that_is_known(name):
    """SciPy's BFGS ends at one of them. They are printed to six figures; a 0 is met to where the gradient is 1e-8."""
    start, options = NEAR.get(name, PROBLEMS[name].start), {"gtol": 1e-8, "maxiter": 5000}
    found = scipy.optimize.minimize(pair(name), np.asarray(start), jac=True, method="BFGS", options=options)
    known = min(PROBLEMS[name].minima, key=lambda value: abs(value - found.fun))
    # Of a quartic, where the gradient is 1e-8 the value is 1e-12 or so; the least of the other minima is 4.7e-10.
    assert found.fun == pytest.approx(known, rel=5e-5, abs=0 if known else 1e-11)


def test_the_logistic_regression_has_newtons_minimum():
    """In NumPy: it is strictly convex, so that a few of Newton's steps find its minimum."""
    features, signs = PROBLEMS["logistic"].args
    data, x = signs[:, None] * features, np.zeros(10)
    for _ in range(20):
        odds = 1 / (1 + np.exp(data @ x))
        grad = -data.T @ odds / 100 + 1e-3 * x
        hessian = (data.T * (odds * (1 - odds))) @ data / 100 + 1e-3 * np.eye(10)
        x -= np.linalg.solve(hessian, grad)
    value, grad = pair("logistic")(x)
    np.testing.assert_allclose(grad, 0, atol=1e-14)
    assert value == pytest.approx(np.mean(np.log1p(np.exp(-data @ x))) + 1e-3 / 2 * x @ x, rel=1e-12)


def test_the_network_is_a_network():
    start = np.asarray(PROBLEMS["network"].start)
    inputs, targets = PROBLEMS["network"].args
    outputs = [np.tanh(at * start[:8] + start[8:16]) @ start[16:24] + start[24] for at in inputs]
    assert pair("network")(start)[0] == pytest.approx(np.mean((np.asarray(outputs) - targets) ** 2), rel=1e-12)
