"""The error against the step, in three precisions, beside what theory says of it.

forward, backward   h/2 |f''| of truncation, of order 1; best near h = eps^(1/2)
central             h^2/6 |f'''|, of order 2; best near h = eps^(1/3)
complex step        h^2/6 |f'''| and no rounding that grows as h falls
"""

from math import log10, nan
from typing import Any

import torch
from torch import Tensor

import funcnn as fn
from funcnn.plots import COLORS, DASHES, figure

DEEPEST = {torch.float64: -20, torch.float32: -10, torch.bfloat16: -4}  # the exponent of the smallest h
SCHEMES = {"forward": 1, "backward": 1, "central": 2, "complex step": 2}  # the order of the error
STYLES = dict(zip(SCHEMES, zip(COLORS[3:], DASHES[3:], strict=True), strict=True))  # those of all the providers


def slopes(step_fn: fn.StepFn, grid: Tensor) -> Tensor:
    """The derivative at every point, each by itself."""
    return torch.func.vmap(lambda x: step_fn(x, ())[1])(grid)


def root_mean_square(x: Tensor) -> float:
    """Of all entries, NaN if one is."""
    return x.double().square().mean().sqrt().item()


def errors(objective: fn.Objective, grid: Tensor, dtype: torch.dtype, per_decade: int) -> dict[str, list[list[float]]]:
    """[h, rms error over rms derivative] for each scheme, NaN where h is too small to move every point of the grid."""
    points = grid.to(dtype)
    exact = slopes(fn.explicit(objective), points.double())
    size = root_mean_square(exact)
    found: dict[str, list[list[float]]] = {scheme: [] for scheme in SCHEMES}
    for power in range(DEEPEST[dtype] * per_decade, 1):
        h = 10 ** (power / per_decade)
        for scheme, pairs in found.items():
            step_fn = (
                fn.complex_step(objective, h) if scheme == "complex step" else fn.finite_difference(objective, scheme, h)
            )
            pairs.append([h, root_mean_square(slopes(step_fn, points) - exact) / size])
    return found


def order(pairs: list[list[float]], low: float, high: float) -> float:
    """The slope of the error in a picture of logarithms, between two steps."""
    (h, error), (h_last, error_last) = (min(pairs, key=lambda pair: abs(log10(pair[0] / end))) for end in (low, high))
    return log10(error / error_last) / log10(h / h_last)


def best(pairs: list[list[float]]) -> tuple[float, float]:
    """The step with the smallest error, and that error."""
    h, error = min((pair for pair in pairs if pair[1] == pair[1]), key=lambda pair: pair[1])
    return h, error


def theory(grid: Tensor) -> dict[int, float]:
    """The factor of h^1 and of h^2 in the errors: 1/2 |f''| and 1/6 |f'''|, over |f'|, each in the root mean square."""
    x = grid.double()
    first, second, third = x.sin() + x.cos(), 2 * x.cos(), 2 * (x.cos() - x.sin())
    size, *sizes = (root_mean_square(x.exp() * factor) for factor in (first, second, third))
    return {1: sizes[0] / 2 / size, 2: sizes[1] / 6 / size}


def draw(sweeps: dict[str, dict[str, list[list[float]]]], grid: Tensor) -> tuple[Any, str]:
    """A panel for each precision, with truncation by theory and the steps that the rules call best."""
    drawing, axes = figure(3, height=4.4)
    truncation = theory(grid)
    for axis, (dtype, (name, sweep)) in zip(axes, zip(DEEPEST, sweeps.items(), strict=True), strict=True):
        eps = torch.finfo(dtype).eps
        for power, factor in truncation.items():
            steps = torch.logspace(
                log10(eps / 30 / factor) / power, 0, 2, dtype=torch.float64
            )  # from where rounding hides it
            label = "truncation, by theory" if power == 1 else None
            axis.plot(steps, factor * steps**power, color="#888888", linewidth=5, alpha=0.35, label=label)
        for scheme, pairs in sweep.items():
            color, dash = STYLES[scheme]
            h, error = zip(*((h, e or nan) for h, e in pairs), strict=True)
            axis.loglog(h, error, color=color, linestyle=dash, label=scheme)
        for root, height in ((2, 0.98), (3, 0.9)):
            axis.axvline(eps ** (1 / root), color="black", linestyle=":", linewidth=1)
            place = {"xytext": (3, 0), "textcoords": "offset points", "xycoords": ("data", "axes fraction")}
            axis.annotate(rf"$\epsilon^{{1/{root}}}$", (eps ** (1 / root), height), va="top", **place)
        axis.set(xlabel="step h", ylim=(eps / 100, 100), title=name.removeprefix("torch."))
    axes[0].set(ylabel="rms error / rms derivative")
    drawing.legend(*axes[0].get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=5)
    caption = (
        "The error against the step; dotted, the steps that the rules call best. A curve ends where h moves a point no more."
        " The complex step computes in double precision whatever that of x, and rounds its result."
    )
    return drawing, caption
