"""Each optimizer as its paper prints it, in a few lines of NumPy: generators of iterates.

`gradient(t, x)` is what the loss answers at step t = 1, 2, ...; `rates` are the learning rates of the steps. No code
is shared with the library, and nothing is rearranged for speed.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

Array = np.ndarray
Gradient = Callable[[int, Array], Array]
Rates = Iterable[float]


def sgd(x: Array, gradient: Gradient, rates: Rates, momentum=0.0, nesterov=False) -> Iterator[Array]:
    """Sutskever et al., 2013, with the learning rate outside the buffer."""
    buffer = np.zeros_like(x)
    for t, rate in enumerate(rates, start=1):
        g = gradient(t, x)
        buffer = momentum * buffer + g
        x = x - rate * (g + momentum * buffer if nesterov else buffer)
        yield x


def nag(x: Array, gradient: Gradient, rates: Rates, momentum=0.9) -> Iterator[Array]:
    """Nesterov, 1983, as in Sutskever et al., 2013: the gradient at the look-ahead point."""
    velocity = np.zeros_like(x)
    for t, rate in enumerate(rates, start=1):
        velocity = momentum * velocity + rate * gradient(t, x - momentum * velocity)
        x = x - velocity
        yield x


def adagrad(
    x: Array, gradient: Gradient, rates: Rates, initial_accumulator_value=0.1, eps=1e-7, eps_in_sqrt=True
) -> Iterator[Array]:
    """Duchi, Hazan and Singer, 2011."""
    total = np.full(x.shape, initial_accumulator_value)
    for t, rate in enumerate(rates, start=1):
        g = gradient(t, x)
        total = total + np.abs(g) ** 2
        x = x - rate * g / (np.sqrt(total + eps) if eps_in_sqrt else np.sqrt(total) + eps)
        yield x


def adadelta(x: Array, gradient: Gradient, rates: Rates, rho=0.9, eps=1e-6, weight_decay=0.0) -> Iterator[Array]:
    """Zeiler, 2012, algorithm 1."""
    e_g = e_x = np.zeros(x.shape)
    for t, rate in enumerate(rates, start=1):
        g = gradient(t, x) + weight_decay * x
        e_g = rho * e_g + (1 - rho) * np.abs(g) ** 2
        delta = np.sqrt(e_x + eps) / np.sqrt(e_g + eps) * g
        e_x = rho * e_x + (1 - rho) * np.abs(delta) ** 2
        x = x - rate * delta
        yield x


def rmsprop(
    x: Array,
    gradient: Gradient,
    rates: Rates,
    decay=0.9,
    eps=1e-8,
    initial_scale=0.0,
    eps_in_sqrt=True,
    momentum=0.0,
    nesterov=False,
    bias_correction=False,
    centered=False,
) -> Iterator[Array]:
    """Hinton, lecture 6e, 2012; Graves, 2013, if centred; the learning rate is inside the momentum's buffer."""
    nu, mu, buffer = np.full(x.shape, initial_scale), np.zeros_like(x), np.zeros_like(x)
    for t, rate in enumerate(rates, start=1):
        g = gradient(t, x)
        nu = decay * nu + (1 - decay) * np.abs(g) ** 2
        mu = decay * mu + (1 - decay) * g
        weight = 1 - decay**t if bias_correction else 1.0
        hat = nu / weight - (np.abs(mu / weight) ** 2 if centered else 0.0)
        step = rate * g / (np.sqrt(hat + eps) if eps_in_sqrt else np.sqrt(hat) + eps)
        buffer = momentum * buffer + step
        x = x - (step + momentum * buffer if nesterov else buffer)
        yield x


def adam(
    x: Array,
    gradient: Gradient,
    rates: Rates,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    eps_root=0.0,
    nesterov=False,
    weight_decay=0.0,
) -> Iterator[Array]:
    """Kingma and Ba, 2015, algorithm 1; Loshchilov and Hutter, 2019; NAdam without a momentum schedule."""
    mu, nu = np.zeros_like(x), np.zeros(x.shape)
    for t, rate in enumerate(rates, start=1):
        g = gradient(t, x)
        mu = b1 * mu + (1 - b1) * g
        nu = b2 * nu + (1 - b2) * np.abs(g) ** 2
        mu_hat = mu / (1 - b1**t)
        if nesterov:
            mu_hat = b1 * mu / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1**t)
        x = x - rate * (mu_hat / (np.sqrt(nu / (1 - b2**t) + eps_root) + eps) + weight_decay * x)
        yield x
