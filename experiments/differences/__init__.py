"""Derivatives from values alone: how good differences and the complex step are, at which step, and what they cost.

A difference has two errors, truncation that falls with its step h and rounding that grows as h falls; the complex step
subtracts nothing and has the first alone. All of it on f(x) = sin(x) e^x, with f'(x) = e^x (sin x + cos x).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import funcnn as fn
from experiments.core.options import Options
from experiments.core.result import Result
from experiments.differences import martins, presentation, sweep


@dataclass(frozen=True, kw_only=True)
class Differences(Options):
    """Compares every provider with the analytic derivative on a grid, and differences at every step h, in each precision."""

    points: int = 61
    """Points of the grid on [-3, 3]."""
    per_decade: int = 4
    """Steps h in each decade of the sweep."""


def sine_times_exponential() -> fn.Objective:
    """The function f(x) = sin(x) e^x of one number, with its derivative by hand; the batch is ignored."""

    def value(x: Tensor, batch: Any) -> Tensor:
        return x.sin() * x.exp()

    return fn.Objective(value, lambda x, batch: (value(x, batch), x.exp() * (x.sin() + x.cos())))


def evaluations(name: str, size: int) -> int:
    """How often a provider evaluates a function of that many variables for one gradient."""
    calls = 0

    def value(x: Tensor, batch: Any) -> Tensor:
        nonlocal calls
        if not x.is_complex():
            assert x.isfinite().all()  # not to be seen under vmap: so every point is evaluated by itself
        calls += 1
        return x.square().sum()

    def by_hand(x: Tensor, batch: Any) -> tuple[Tensor, Tensor]:
        return value(x, batch), 2 * x

    alone = {"chunk_size": 1} if name == "complex_step" else {}  # which cannot do without vmap
    provider: Any = fn.PROVIDERS[name]
    provider(fn.Objective(value, by_hand), **alone)(torch.ones(size), ())
    return calls


def run(options: Differences) -> Result:
    """Errors on the grid at the default steps, at all steps in three precisions, costs, and the table of Martins et al."""
    objective = sine_times_exponential()
    grid = torch.linspace(-3, 3, options.points, **options.tensors)
    derivatives = {name: sweep.slopes(provider(objective), grid) for name, provider in fn.PROVIDERS.items()}
    errors = {name: (slope - derivatives["explicit"]).tolist() for name, slope in derivatives.items()}
    rms = {name: sweep.root_mean_square(torch.tensor(error)) for name, error in errors.items()}
    costs = {name: [evaluations(name, size) for size in (1, 10, 100)] for name in fn.PROVIDERS}
    sweeps = {str(dtype): sweep.errors(objective, grid, dtype, options.per_decade) for dtype in sweep.DEEPEST}
    published = martins.table()
    return Result(
        "Differences: derivatives from values alone",
        f"$f(x) = sin(x) e^x$ at {options.points} points on [-3, 3]: every provider against the analytic derivative "
        "$e^x (sin x + cos x)$. Then h runs over all its range, in three precisions. Last, the table of Martins, Sturdza & "
        "Alonso (2003) for $e^x / sqrt(sin^3 x + cos^3 x)$ at $x = 1.5$, measured beside published.",
        numbers={"rms error": rms, "error on the grid": errors, "evaluations": costs, "sweep": sweeps, "Martins": published},
        observations=presentation.observations(rms, sweeps, costs, published, options.dtype),
        figures={
            "grid": presentation.draw_grid(grid, derivatives["explicit"], errors),
            "steps": sweep.draw(sweeps, grid),
        },
        tables=[presentation.table(rms, costs, options.dtype), martins.present(published)],
    )
