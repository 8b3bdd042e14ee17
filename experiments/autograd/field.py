"""The gradient of f(x, y) = 3 x^3 - y^2, which is (9 x^2, -2 y), at many points at once, and that of x^3, which is 3 x^2.

A point is a sample and the parameters are a shift of all of them: the gradient of f(point + shift) with respect to the
shift, at 0, is that of f at the point, and `per_sample` gives it point by point.
"""

from typing import Any

import torch
from torch import Tensor

import funcnn as fn
from funcnn.plots import COLORS, figure

POINTS = [[1.0, 1.0], [2.0, -1.0], [-1.0, 0.5], [0.0, 3.0], [0.0, 0.0]]


def f(points: Tensor) -> Tensor:
    """3 x^3 - y^2 of each row (x, y), or of each (x, y) along the last axis."""
    return 3 * points[..., 0] ** 3 - points[..., 1] ** 2


def gradient(points: Tensor) -> Tensor:
    """The formula (9 x^2, -2 y), in each row."""
    return torch.stack([9 * points[:, 0] ** 2, -2 * points[:, 1] + 0], 1)  # + 0 makes of -0 a 0


def gradients(points: Tensor) -> dict[str, Tensor]:
    """The gradient of f at each point, a row each, by every provider."""

    def value(shift: Tensor, points: Tensor) -> Tensor:
        return f(points + shift).mean()

    def value_and_grad(shift: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        return value(shift, points), gradient(points + shift).mean(0)

    objective, shift = fn.Objective(value, value_and_grad), points.new_zeros(2)
    return {name: fn.per_sample(provider(objective))(shift, points)[1] for name, provider in fn.PROVIDERS.items()}


def slopes_of_cube(x: Tensor) -> dict[str, float]:
    """The derivative of x^3 at a number, by every provider."""
    objective = fn.Objective(lambda x, data: x**3, lambda x, data: (x**3, 3 * x**2))
    return {name: provider(objective)(x, x[None])[1].item() for name, provider in fn.PROVIDERS.items()}


def grid(like: Tensor, count: int = 7, limit: float = 1.2) -> Tensor:
    """The points of a square grid around 0, shape (count^2, 2)."""
    ticks = torch.linspace(-limit, limit, count).to(like)
    return torch.cartesian_prod(ticks, ticks)


def told(errors: dict[str, float], cube: dict[str, float], count: int) -> str:
    """What the errors on the grid and the slopes of the cube say."""
    derived = [name for name in errors if not name.endswith("difference")]
    worst, off = max(errors, key=lambda name: errors[name]), max(abs(slope - 12) for slope in cube.values())
    return (
        f"At {count} points {', '.join(derived)} give the gradient of the formula, to {max(map(errors.get, derived)):.1g}; "
        f"{worst} is the farthest from it, by {errors[worst]:.1g}. The slope of $x^3$ at 2 is {cube['autograd']:g} by "
        f"autograd, and within {off:.1g} of 12 by all."
    )


def draw(points: Tensor, arrows: dict[str, Tensor], errors: dict[str, float], slope: float) -> tuple[Any, str]:
    """The arrows of every provider over the contours of f, and x^3 with its tangent at 2."""
    drawing, axes = figure(len(arrows) + 1, rows=2, width=11, height=5.8)
    ticks = torch.linspace(-1.5, 1.5, 101)
    x, y = torch.meshgrid(ticks, ticks, indexing="xy")
    for axis, (name, arrow), color in zip(axes, arrows.items(), COLORS, strict=False):
        axis.contour(x, y, f(torch.stack([x, y], 2)), levels=range(-10, 11), colors="#bbbbbb", linewidths=0.8)
        shown = arrow / arrow.norm(dim=1, keepdim=True).sqrt().clamp(min=1e-3)
        axis.quiver(*points.cpu().T, *shown.cpu().T, color=color, angles="xy", scale_units="xy", scale=9.5, width=0.009)
        axis.set_title(f"{name}\nlargest error {errors[name]:.1g}", fontsize="medium")
        axis.set(xlabel="x", ylabel="y", aspect="equal", xlim=(-1.5, 1.5), ylim=(-1.5, 1.5))
        axis.grid(False)
    cube = torch.linspace(0, 3, 61)
    axes[-1].plot(cube, cube**3, color=COLORS[0])
    axes[-1].plot(cube[20:], 8 + slope * (cube[20:] - 2), "--", color=COLORS[1])
    axes[-1].plot(2, 8, "o", color=COLORS[1])
    axes[-1].set(xlabel="x", ylabel="$x^3$")
    axes[-1].set_title(f"$x^3$ and its tangent at 2\nslope {slope:g} (autograd)", fontsize="medium")
    caption = "The gradients of $f(x, y) = 3 x^3 - y^2$ by every provider, over the contours of f at -10, -9, ..., 10; an "
    return drawing, caption + "arrow is as long as the square root of the gradient. Last, the tangent of $x^3$ at 2."
