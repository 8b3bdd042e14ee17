"""Quadratics, where theory says to the digit how fast descent is.

On 1/2 sum_i a_i w_i^2 with curvatures from m to L = k m a step is a linear map. The distance to the minimum falls as rho^t,
where rho is the largest modulus of the map's eigenvalues (Lessard, Recht & Packard 2016):

    plain     lr = 2/(L + m)                                                         rho = (k - 1)/(k + 1)
    momentum  lr = 4/(sqrt L + sqrt m)^2, beta = ((sqrt k - 1)/(sqrt k + 1))^2       rho = (sqrt k - 1)/(sqrt k + 1)
    Nesterov  lr = 1/L, beta = (sqrt k - 1)/(sqrt k + 1)                             rho = 1 - 1/sqrt k

Either momentum makes the leading eigenvalue a double one, which puts a factor t before rho^t.
"""

from collections.abc import Mapping
from itertools import takewhile
from math import sqrt
from typing import Any

import torch
from torch import Tensor

import funcnn as fn
from experiments.core.curves import style
from experiments.core.training import Run, descent_run


def quadratic(curvatures: Tensor) -> fn.Objective:
    """The objective 1/2 sum_i a_i w_i^2, with the gradient a_i w_i; it ignores the batch."""

    def value(w: Tensor, batch: Any) -> Tensor:
        return 0.5 * (curvatures * w * w).sum()

    return fn.Objective(value, lambda w, batch: (value(w, batch), curvatures * w))


def tuned(k: float) -> dict[str, tuple[Any, float]]:
    """Each method with its best constants for curvatures from 1 to k, and the exact rate that it then has."""
    root = sqrt(k)
    ratio = (root - 1) / (root + 1)
    return {
        "plain": (fn.sgd(2 / (k + 1)), (k - 1) / (k + 1)),
        "momentum": (fn.momentum(4 / (root + 1) ** 2, ratio**2), ratio),
        "Nesterov": (fn.nesterov(1 / k, ratio), 1 - 1 / root),
    }


def rate(distances: list[float]) -> float:
    """The rho of c t^p rho^t, by least squares on the logarithms of the later half, as far as float64 reaches."""
    logs = torch.tensor([distance for distance in distances if distance > 1e-280], dtype=torch.float64).log()
    t = torch.arange(len(logs), dtype=torch.float64)[len(logs) // 2 :]
    columns = torch.stack([torch.ones_like(t), t.log(), t], dim=1)
    return torch.linalg.lstsq(columns, logs[len(logs) // 2 :, None]).solution[2].exp().item()


def follow(optimizer: Any, curvatures: Tensor, start: Tensor, steps: int) -> Run:
    """Descent, with the distance to the minimum (the largest |w_i|) and the point, "w0", "w1", ... along the way."""

    def measure(w: Tensor) -> dict[str, float]:
        return {"distance": w.abs().max().item(), **{f"w{i}": x for i, x in enumerate(w.tolist())}}

    return descent_run(quadratic(curvatures), optimizer, start, start, steps, measure)


def draw_paths(axis: Any, runs: Mapping[str, Run], curvatures: Tensor) -> None:
    """The paths of runs in two dimensions, all from the same start, on the contours of the quadratic."""
    w0, w1 = (next(iter(runs.values())).curves[name][0] for name in ("w0", "w1"))
    x, y = torch.linspace(-0.2, 1.1, 100) * w0, torch.linspace(-2, 2, 100) * w1
    heights = 0.5 * (curvatures[0] * x * x + curvatures[1] * (y * y)[:, None])
    levels = 0.5 * (curvatures[0] * w0**2 + curvatures[1] * w1**2) * 2.0 ** -torch.arange(6, -3, -1)
    axis.contour(x.numpy(), y.numpy(), heights.numpy(), levels=levels.tolist(), colors="#aaaaaa", linewidths=0.6)
    for index, (label, run) in enumerate(runs.items()):
        path = list(zip(run.curves["w0"], run.curves["w1"], strict=True))
        inside = len(list(takewhile(lambda w: abs(w[0] / w0) <= 1.1 and abs(w[1] / w1) <= 2, path)))
        axis.plot(*zip(*path[: inside + 1], strict=True), **style(index), marker=".", label=label)
    axis.set(xlim=x[[0, -1]].tolist(), ylim=y[[0, -1]].tolist(), xlabel="w_1", ylabel="w_2")
