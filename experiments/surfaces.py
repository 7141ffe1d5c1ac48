"""Surfaces in two dimensions, and the paths that optimizers take over them.

Both surfaces are quadratic, a x^2 + b y^2, so that the paths of the linear methods have closed forms; the engine runs
in float64, where it meets them to 1e-12. One compiled program runs all hyperparameters of a grid: they are leaves of
the transformation, and `jax.vmap` maps over them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

import gradtx

Number = TypeVar("Number", np.ndarray, jax.Array, xr.DataArray)


@dataclass(frozen=True)
class Surface:
    """The surface a x^2 + b y^2, and where the optimizers begin.

    Attributes:
        name: In titles.
        formula: For people.
        a, b: Half the eigenvalues of the Hessian.
        start: (x, y).
    """

    name: str
    formula: str
    a: float
    b: float
    start: tuple[float, float]

    def height(self, x: Number, y: Number) -> Number:
        """The loss."""
        return self.a * x**2 + self.b * y**2

    @property
    def steepest(self) -> float:
        """The largest eigenvalue of the Hessian: L, the Lipschitz constant of the gradient."""
        return 2 * max(self.a, self.b)


BOWL = Surface("bowl", "x² + 10 y²", 1.0, 10.0, (7.0, 5.0))
SADDLE = Surface("saddle", "x² - y²", 1.0, -1.0, (7.0, 0.001))


def trajectories(
    surface: Surface,
    tx: gradtx.GradientTransformation,
    steps: int,
    start: tuple[float, float] | None = None,
    **grid: ArrayLike,
) -> xr.Dataset:
    """The path of `tx` for each combination of hyperparameters.

    The gradient of step k is taken at `tx.gradient_params`; what is recorded are the iterates, `tx.eval_params`.
    A path that overflows goes on as inf and NaN.

    Args:
        surface: What is minimized.
        tx: A transformation. Its values of what is in `grid` are replaced.
        steps: How many.
        start: In place of the surface's.
        grid: Arguments of `tx` by name, with the values to combine.

    Returns:
        `x`, `y`, `loss`, and `gradient_sum` (of the gradient on which the step *from* here acts) over the names in
        `grid` and `step`, 0 to `steps`.
    """
    values = {name: np.atleast_1d(np.asarray(value, np.float64)) for name, value in grid.items()}
    lanes = dict(zip(values, np.meshgrid(*values.values(), indexing="ij"), strict=True))
    shape = tuple(map(len, values.values()))
    with jax.enable_x64(True):
        batch = tx.replace(**{name: jnp.asarray(lane.ravel()) for name, lane in lanes.items()})
        paths = jax.device_get(_run_batch(surface, steps, batch, jnp.asarray(start or surface.start, jnp.float64)))
    return xr.Dataset(
        {name: ((*values, "step"), path.reshape(*shape, steps + 1)) for name, path in paths.items()},
        coords={**values, "step": np.arange(steps + 1)},
    )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _run_batch(surface: Surface, steps: int, batch: Any, start: jax.Array) -> dict[str, jax.Array]:
    run = functools.partial(_run, surface, steps, start)
    return jax.vmap(run, in_axes=(gradtx.batch_axes(batch),))(batch)


def _run(surface: Surface, steps: int, start: jax.Array, tx: gradtx.GradientTransformation) -> dict[str, jax.Array]:
    def loss(point: jax.Array) -> jax.Array:
        return surface.height(point[0], point[1])

    def step(carry: Any, _: None) -> tuple[Any, dict[str, jax.Array]]:
        params, state = carry
        gradient = jax.grad(loss)(tx.gradient_params(params, state))
        point = tx.eval_params(params, state)
        updates, state = tx.update(gradient, state, params)
        here = {"x": point[0], "y": point[1], "loss": loss(point), "gradient_sum": gradient.sum()}
        return (gradtx.apply_updates(params, updates), state), here

    # One step more than is recorded, so that the last point is.
    return jax.lax.scan(step, (start, tx.init(start)), length=steps + 1)[1]


def first_step(reached: xr.DataArray) -> xr.DataArray:
    """The first step at which something is so; NaN where it never is."""
    return reached.step[reached.argmax("step")].drop_vars("step").where(reached.any("step"))


def settled_step(below: xr.DataArray) -> xr.DataArray:
    """The first step from which on something is so to the end; NaN where it is not, or not for half of the steps.

    A path that crosses the minimum by chance is below a target for a step; one that has arrived stays.
    """
    stays = xr.apply_ufunc(
        lambda now: np.logical_and.accumulate(now[..., ::-1], axis=-1)[..., ::-1],
        below,
        input_core_dims=[["step"]],
        output_core_dims=[["step"]],
    )
    first = first_step(stays)
    return first.where(first <= int(below.step[-1]) // 2)


def grows(path: xr.Dataset) -> xr.DataArray:
    """Whether the loss is larger in the last third of the steps than in the third before: whether the path diverges.

    Both thirds come after the start has been forgotten; largest values, since the loss may oscillate.
    """
    third = path.sizes["step"] // 3
    size = np.abs(path.loss)
    before = size.isel(step=slice(third, 2 * third)).max("step", skipna=False)
    last = size.isel(step=slice(-third, None)).max("step", skipna=False)
    return (last > before) | ~np.isfinite(last)


def stability_limit(
    surface: Surface, tx: gradtx.GradientTransformation, low: float, high: float, tolerance: float, steps: int
) -> tuple[float, float]:
    """Two learning rates no further apart than `tolerance`, of which the lower converges and the higher diverges.

    Found by bisection, knowing nothing of the closed form.

    Raises:
        ValueError: `low` diverges or `high` converges: they do not enclose the limit.
    """

    def diverges(rate: float) -> bool:
        return bool(grows(trajectories(surface, tx, steps, learning_rate=rate)))

    if diverges(low) or not diverges(high):
        raise ValueError(f"no limit between {low} and {high}: the lower must converge and the higher diverge")
    while high - low > tolerance:
        middle = (low + high) / 2
        low, high = (low, middle) if diverges(middle) else (middle, high)
    return low, high


def each(
    optimizers: dict[str, gradtx.GradientTransformation], compute: Callable[[gradtx.GradientTransformation], xr.Dataset]
) -> xr.Dataset:
    """What `compute` makes of each optimizer, along a dimension `optimizer`."""
    names: list[Hashable] = list(optimizers)
    return xr.concat([compute(tx) for tx in optimizers.values()], xr.IndexVariable("optimizer", names))
