"""The price of knowing a gradient by random directions: how the error of an estimate grows with the dimension."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any, NamedTuple

import torch

import funcnn as fn
from experiments.core.curves import style
from experiments.core.options import Options
from experiments.core.result import Result, Table
from funcnn.plots import figure

NO_DATA = torch.zeros(1)


@dataclass(frozen=True, kw_only=True)
class Variance(Options):
    """Measures variance and bias of stochastic gradients beside what is known of them."""

    dimensions: tuple[int, ...] = (4, 16, 64, 256, 1024, 4096)
    """Numbers of parameters."""
    dimension: int = 64
    """The number of parameters where the number of directions changes."""
    half_steps: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0)
    """Half-steps, and widths, of which the bias is measured."""
    draws: int = 200
    """Estimates at each point."""

    FULL = {"draws": 5000}


class Estimator(NamedTuple):
    """An estimate, of (objective, generator, samples); and its variance by d and K, in squares of the gradient."""

    make: Callable[..., fn.StepFn]
    law: Callable[[int, int], float]


class Measured(NamedTuple):
    """A mean with its standard deviation, and what it should be."""

    mean: float
    deviation: float
    law: float


def _orthogonal(objective: fn.Objective, generator: Any, samples: int) -> fn.StepFn:
    return fn.spsa(objective, generator, samples=samples, orthogonal=True)


ESTIMATORS = {
    "Gaussian": Estimator(fn.forward_gradient, lambda d, k: (d + 1) / k),
    "+1 and -1": Estimator(fn.spsa, lambda d, k: (d - 1) / k),
    "orthogonal": Estimator(_orthogonal, lambda d, k: d / k - 1),
}
# The fourth moment of an entry of a direction: the bias of a two-sided difference on the sum of cubes, in c^2.
BIASES: dict[str, tuple[Callable[[fn.Objective, Any, float], fn.StepFn], int]] = {
    "evolution": (lambda objective, generator, c: fn.evolution(objective, generator, sigma=c), 3),
    "spsa": (lambda objective, generator, c: fn.spsa(objective, generator, step=c), 1),
}


def run(options: Variance) -> Result:
    """Against the dimension, against the number of directions, and against the half-step."""
    d = options.dimension
    counts = [k for k in (1, 2, 4, 8, 16, 32, 64, 128, 256) if k < d] + [d]
    by_dimension = {
        name: {d: spread(estimator, d, min(4, d), options) for d in options.dimensions}
        for name, estimator in ESTIMATORS.items()
    }
    by_count = {name: {k: spread(estimator, d, k, options) for k in counts} for name, estimator in ESTIMATORS.items()}
    by_step = {name: {c: bias(*way, c, options) for c in options.half_steps} for name, way in BIASES.items()}
    every = {"dimension": by_dimension, "directions": by_count, "half-step": by_step}
    return Result(
        "Variance: what random directions cost",
        f"Estimates of the gradient of a linear function, {options.draws} at each point: their mean squared distance from "
        "it, divided by its square. Then those of a sum of cubes at 0, whose gradient is 0: their mean.",
        numbers={
            what: {name: {x: m._asdict() for x, m in of.items()} for name, of in found.items()}
            for what, found in every.items()
        },
        observations=_observations(every, options),
        figures={"variance": _drawn(every, options)},
        tables=[_table(by_dimension)],
    )


def spread(estimator: Estimator, d: int, samples: int, options: Variance) -> Measured:
    """The variance of an estimate of a gradient with d entries."""
    slope = torch.randn(d, generator=options.generator(), dtype=torch.float64)
    step_fn = estimator.make(fn.Objective(lambda w, batch: slope @ w), options.generator(), samples=samples)
    found = _estimates(step_fn, torch.zeros_like(slope), options.draws)
    return _measured((found - slope).square().sum(1) / slope.square().sum(), estimator.law(d, samples))


def bias(make: Callable[..., fn.StepFn], fourth: int, c: float, options: Variance) -> Measured:
    """The mean of an entry of the gradient of a sum of cubes where it is 0."""
    step_fn = make(fn.Objective(lambda w, batch: (w**3).sum()), options.generator(), c)
    return _measured(_estimates(step_fn, torch.zeros(4, dtype=torch.float64), options.draws).mean(1), fourth * c**2)


def _estimates(step_fn: fn.StepFn, params: Any, count: int) -> Any:
    return torch.stack([step_fn(params, NO_DATA)[1] for _ in range(count)])


def _measured(numbers: Any, law: float) -> Measured:
    return Measured(numbers.mean().item(), numbers.std().item() / sqrt(len(numbers)), law)


def _observations(every: Mapping[str, Any], options: Variance) -> list[str]:
    points = [m for found in every.values() for of in found.values() for m in of.values() if m.deviation > 1e-9]
    far = max(abs(m.mean - m.law) / m.deviation for m in points)
    d = options.dimensions[-1]
    last = every["directions"]["orthogonal"][options.dimension]
    spsa, gaussian = (list(every["half-step"][name].items())[-1] for name in ("spsa", "evolution"))
    return [
        f"At {len(points)} points the largest distance from the law is {far:.1f} standard deviations of what was measured.",
        f"With {d} parameters and {min(4, d)} directions the error of an estimate is "
        f"{sqrt(every['dimension']['Gaussian'][d].mean):.0f} times as long as the gradient.",
        f"{options.dimension} orthogonal directions of {options.dimension} leave a variance of {last.mean:.0e}.",
        f"On a sum of cubes a half-step of {spsa[0]:g} has a bias of {spsa[1].mean:.3g} for +1 and -1, and of "
        f"{gaussian[1].mean:.3g} for Gaussian directions.",
    ]


def _table(by_dimension: Mapping[str, Any]) -> Table:
    rows = [
        [name, d, f"{m.law:.4g}", f"{m.mean:.4g} ± {m.deviation:.2g}"]
        for name, of in by_dimension.items()
        for d, m in of.items()
    ]
    return Table("Variance in squares of the gradient", ["directions", "parameters", "law", "measured"], rows)


def _drawn(every: Mapping[str, Any], options: Variance) -> tuple[Any, str]:
    drawing, axes = figure(3, height=4.2)
    labels = ("number of parameters", "number of directions", "half-step c")
    for axis, label, found in zip(axes, labels, every.values(), strict=True):
        for index, (name, of) in enumerate(found.items()):
            shown = {x: m for x, m in of.items() if m.law > 0}
            axis.plot(list(shown), [m.law for m in shown.values()], **style(index))
            means, deviations = ([getattr(m, part) for m in shown.values()] for part in ("mean", "deviation"))
            axis.errorbar(list(shown), means, deviations, fmt="o", color=style(index)["color"], markersize=4, label=name)
        axis.set(xscale="log", yscale="log", xlabel=label, ylabel="variance / gradient squared")
        axis.legend(frameon=False, fontsize="small")
    axes[1].set_title(f"{options.dimension} parameters", fontsize="medium")
    axes[0].set_title("4 directions", fontsize="medium")
    axes[2].set(ylabel="bias on the sum of cubes")
    return drawing, "Variance and bias as they were measured (points, with standard deviations) and as they must be (lines)."
