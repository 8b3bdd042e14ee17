"""The test functions of More, Garbow and Hillstrom, on which unconstrained minimizers have been compared since 1981.

Each is a sum of squares of m residuals r(x), so its gradient follows from their Jacobian J (m, n), derived by hand here:

    f(x) = sum_i r_i(x)^2        df/dx = 2 J^T r

J. J. More, B. S. Garbow, K. E. Hillstrom, "Testing unconstrained optimization software", ACM Transactions on Mathematical
Software 7 (1981) 17-41. The numbers in comments are the paper's.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

import funcnn as fn

Residuals = Callable[[Tensor], tuple[Tensor, Callable[[], Tensor]]]  # x (..., n) -> r (..., m), and J (..., m, n) if wanted


class Problem(NamedTuple):
    """An objective, where to start, and what is published: the value there, the least value, and where it is."""

    objective: fn.Objective
    start: Tensor
    start_value: float | None
    minimum: float
    minimizer: Tensor | None


def rosenbrock(x: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
    """A curved valley with steep walls (1)."""
    x1, x2 = x.unbind(-1)
    return _row(10 * (x2 - x1**2), 1 - x1), lambda: _rows([-20 * x1, 10], [-1, 0], like=x1)


def powell_badly_scaled(x: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
    """Its solution has entries of 1e-5 and of 9 (3)."""
    x1, x2 = x.unbind(-1)
    return _row(1e4 * x1 * x2 - 1, torch.exp(-x1) + torch.exp(-x2) - 1.0001), lambda: _rows(
        [1e4 * x2, 1e4 * x1], [-torch.exp(-x1), -torch.exp(-x2)], like=x1
    )


def beale(x: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
    """Flat far out, where x2 is near 1 (5)."""
    x1, x2 = x.unbind(-1)
    return _row(*(y - x1 * (1 - x2**i) for i, y in enumerate((1.5, 2.25, 2.625), start=1))), lambda: _rows(
        *([x2**i - 1, i * x1 * x2 ** (i - 1)] for i in (1, 2, 3)), like=x1
    )


def helical_valley(x: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
    """The valley winds around the x3 axis; turns are cut off at negative x2, where x1 = 0 (7)."""
    x1, x2, x3 = x.unbind(-1)
    turns, radius = 0.25 + torch.atan2(-x1, x2) / (2 * math.pi), torch.sqrt(x1**2 + x2**2)
    swing = 100 / (2 * math.pi * radius**2)
    return _row(10 * x3 - 100 * turns, 10 * (radius - 1), x3), lambda: _rows(
        [swing * x2, -swing * x1, 10], [10 * x1 / radius, 10 * x2 / radius, 0], [0, 0, 1], like=x1
    )


def powell_singular(x: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
    """At the solution the Hessian is singular (13)."""
    x1, x2, x3, x4 = x.unbind(-1)
    five, ten = math.sqrt(5), math.sqrt(10)
    return _row(x1 + 10 * x2, five * (x3 - x4), (x2 - 2 * x3) ** 2, ten * (x1 - x4) ** 2), lambda: _rows(
        [1, 10, 0, 0],
        [0, 0, five, -five],
        [0, 2 * (x2 - 2 * x3), -4 * (x2 - 2 * x3), 0],
        [2 * ten * (x1 - x4), 0, 0, -2 * ten * (x1 - x4)],
        like=x1,
    )


def wood(x: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
    """Two valleys like Rosenbrock's, tied together (14)."""
    x1, x2, x3, x4 = x.unbind(-1)
    ten, ninety = math.sqrt(10), math.sqrt(90)
    return _row(
        10 * (x2 - x1**2), 1 - x1, ninety * (x4 - x3**2), 1 - x3, ten * (x2 + x4 - 2), (x2 - x4) / ten
    ), lambda: _rows(
        [-20 * x1, 10, 0, 0],
        [-1, 0, 0, 0],
        [0, 0, -2 * ninety * x3, ninety],
        [0, 0, -1, 0],
        [0, ten, 0, ten],
        [0, 1 / ten, 0, -1 / ten],
        like=x1,
    )


def penalty(x: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
    """A sphere of radius 1/2, and a faint wish to be at 1 (23)."""
    root = math.sqrt(1e-5)
    sphere = x.square().sum(-1, keepdim=True) - 0.25
    return torch.cat([root * (x - 1), sphere], -1), lambda: torch.cat([root * _identity(x), 2 * x[..., None, :]], -2)


def variably_dimensioned(x: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
    """Of fourth order along the direction (1, 2, ..., n), and of second along all others (25)."""
    j = _counted(x)
    total = ((x - 1) * j).sum(-1, keepdim=True)
    return torch.cat([x - 1, total, total**2], -1), lambda: torch.cat(
        [_identity(x), j.expand(x.shape)[..., None, :], (2 * total * j)[..., None, :]], -2
    )


def trigonometric(x: Tensor) -> tuple[Tensor, Callable[[], Tensor]]:
    """Many minima (26)."""
    i = _counted(x)
    residuals = len(i) - x.cos().sum(-1, keepdim=True) + i * (1 - x.cos()) - x.sin()
    return residuals, lambda: x.sin()[..., None, :] + torch.diag_embed(i * x.sin() - x.cos())


def _row(*entries: Tensor) -> Tensor:
    return torch.stack(entries, -1)


def _rows(*rows: Sequence[Tensor | float], like: Tensor) -> Tensor:
    """The matrix of these entries, numbers and tensors."""
    return torch.stack([_row(*(x if isinstance(x, Tensor) else torch.full_like(like, x) for x in row)) for row in rows], -2)


def _identity(x: Tensor) -> Tensor:
    return torch.eye(x.shape[-1], dtype=x.dtype, device=x.device).expand(*x.shape, x.shape[-1])


def _counted(x: Tensor) -> Tensor:
    return torch.arange(1, x.shape[-1] + 1, device=x.device).to(x.dtype)


def sum_of_squares(residuals: Residuals, size: int, block: int | None = None) -> fn.Objective:
    """The objective on x (..., size); with `block` the function of that many numbers, summed over blocks of them.

    Raises:
        InputError: (when called) parameters of another shape.
    """

    def blocks(x: Tensor) -> Tensor:
        if x.ndim == 0 or x.shape[-1] != size:
            raise fn.InputError("params", f"shape {tuple(x.shape)}", f"shape (..., {size})")
        return x if block is None else x.unflatten(-1, (-1, block))

    def value(x: Tensor, batch: Any) -> Tensor:
        r, _ = residuals(blocks(x))
        return (r * r).sum()

    def value_and_grad(x: Tensor, batch: Any) -> tuple[Tensor, Tensor]:
        r, jacobian = residuals(blocks(x))
        grads = 2 * (r[..., None, :] @ jacobian())[..., 0, :]
        return (r * r).sum(), grads.reshape(x.shape)

    return fn.Objective(value, value_and_grad)


def _problem(
    residuals: Residuals,
    start: list[float],
    start_value: float | None,
    minimum: float,
    at: list[float] | None,
    copies: int = 0,
) -> Problem:
    """A problem, or that many copies of it in one."""
    block = len(start) if copies else None
    start = start * (copies or 1)
    minimizer = None if at is None else torch.tensor(at * (copies or 1), dtype=torch.float64)
    objective = sum_of_squares(residuals, len(start), block)
    return Problem(objective, torch.tensor(start, dtype=torch.float64), start_value, minimum, minimizer)


# name: (the function, its start, the value there, the minimum, where that is)
MORE_GARBOW_HILLSTROM = {
    "Rosenbrock": _problem(rosenbrock, [-1.2, 1.0], 24.2, 0.0, [1.0, 1.0]),
    "Beale": _problem(beale, [1.0, 1.0], 14.203125, 0.0, [3.0, 0.5]),
    "Powell badly scaled": _problem(powell_badly_scaled, [0.0, 1.0], 1.14, 0.0, [1.098e-5, 9.106]),
    "Helical valley": _problem(helical_valley, [-1.0, 0.0, 0.0], 2.5e3, 0.0, [1.0, 0.0, 0.0]),
    "Wood": _problem(wood, [-3.0, -1.0, -3.0, -1.0], 19192.0, 0.0, [1.0] * 4),
    "Powell singular": _problem(powell_singular, [3.0, -1.0, 0.0, 1.0], 215.0, 0.0, [0.0] * 4),
    "Extended Rosenbrock": _problem(rosenbrock, [-1.2, 1.0], 484.0, 0.0, [1.0, 1.0], copies=20),
    "Extended Powell": _problem(powell_singular, [3.0, -1.0, 0.0, 1.0], 3.23e3, 0.0, [0.0] * 4, copies=15),
    "Penalty I, n = 4": _problem(penalty, [1.0, 2.0, 3.0, 4.0], None, 2.24997e-5, None),
    "Penalty I, n = 10": _problem(penalty, [float(j) for j in range(1, 11)], None, 7.08765e-5, None),
    "Variably dimensioned": _problem(variably_dimensioned, [1 - j / 40 for j in range(1, 41)], 9.39e10, 0.0, [1.0] * 40),
    "Trigonometric": _problem(trigonometric, [1 / 40] * 40, 2.01e-3, 0.0, None),
}
