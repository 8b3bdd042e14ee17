"""A line y = w x + b fitted by minibatch gradient descent on the mean squared error, with the gradient of every provider."""

from typing import Any

import torch

import funcnn as fn
from experiments.core.curves import draw_runs
from experiments.core.options import Training
from experiments.core.training import Run, training_run
from funcnn.plots import COLORS, figure

LAYER = fn.dense(1, 1)
OBJECTIVE = fn.supervised(LAYER, fn.mean_squared_error())


def points(samples: int, options: Training) -> Any:
    """Inputs (N, 1) uniform in [-1, 1], targets 2 x + 1 with normal noise of deviation 0.2."""
    generator = options.generator()
    x = 2 * torch.rand(samples, 1, generator=generator, dtype=torch.float64) - 1
    noise = torch.randn(samples, 1, generator=generator, dtype=torch.float64)
    return x.to(**options.tensors), (2 * x + 1 + 0.2 * noise).to(**options.tensors)


def least_squares(data: Any) -> Any:
    """The parameters of the line with the least mean squared error, w = <x - mean, y> / |x - mean|^2."""
    x, y = data
    centred = x - x.mean()
    w = (centred * y).sum() / (centred * centred).sum()
    return {"w": w.reshape(1, 1), "b": (y.mean() - w * x.mean()).reshape(1)}


def fit(data: Any, options: Training) -> dict[str, Run]:
    """The training with each provider, from one start on the same batches."""
    start = LAYER.init(options.generator(), **options.tensors)

    def measure(params: Any) -> dict[str, float]:
        return {"loss": OBJECTIVE.value(params, data).item()}

    return {
        name: training_run(provider(OBJECTIVE), fn.sgd(options.lr), start, data, measure, **options.schedule())
        for name, provider in fn.PROVIDERS.items()
    }


def formula(params: Any) -> str:
    """The line in words."""
    return f"y = {params['w'].item():.3f} x {params['b'].item():+.3f}"


def told(runs: dict[str, Run], best: Any) -> str:
    """Where the runs ended, or at which step they diverged."""
    lost = "".join(f" {name} {run.outcome()}." for name, run in runs.items() if run.diverged is not None)
    if runs["explicit"].diverged is not None:
        return f"No line is found:{lost}"
    found, others = runs["explicit"].params, [run.params for run in runs.values() if run.diverged is None]
    return (
        f"Gradient descent ends at {formula(found)}, within {fn.tree.max_difference(found, best):.2g} of least squares, "
        f"{formula(best)}; every provider at the same line, to {max(fn.tree.max_difference(found, p) for p in others):.1g}."
        f"{lost}"
    )


def draw(data: Any, best: Any, runs: dict[str, Run]) -> tuple[Any, str]:
    """The points with the fitted line, and the loss with every provider."""
    drawing, (left, right) = figure(2)
    ends = data[0].new_tensor([[-1], [1]])
    left.plot(*(part.flatten().cpu() for part in data), ".", color="#aaaaaa", label="points")
    left.plot(ends.cpu(), fn.apply(LAYER, best, ends).cpu(), color=COLORS[0], linewidth=4, label="least squares")
    if runs["explicit"].diverged is None:
        fitted = fn.apply(LAYER, runs["explicit"].params, ends).cpu()
        left.plot(ends.cpu(), fitted, "--", color=COLORS[1], label="gradient descent")
    left.set(xlabel="x", ylabel="y", xticks=[-1, -0.5, 0, 0.5, 1])
    draw_runs(right, runs, legend=False)
    for index, curve in enumerate(right.lines):
        curve.set_linewidth(max(1, 7 - 1.1 * index))
    right.axhline(OBJECTIVE.value(best, data).item(), color="black", linewidth=0.8, label="least squares")
    right.set(ylabel="mean squared error")
    right.locator_params("x", integer=True)
    for axis in (left, right):
        axis.legend(frameon=False, fontsize="small")
    return drawing, "The line that gradient descent fits, and its loss per epoch by every provider."
