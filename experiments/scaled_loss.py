"""S times the mean squared error in place of cross entropy: what the scale of a loss does to its optimizer.

The gradient of S L is S times that of L. So sgd on S L with the learning rate lr takes the steps of sgd on L with S lr, to
the bit where S is a power of 2. Adam divides the gradient by its own running size: S cancels, but for the eps beside it.
"""

from dataclasses import dataclass
from typing import Any

import torch

import funcnn as fn
from experiments.core.curves import draw_runs, draw_sweeps
from experiments.core.options import Training
from experiments.core.result import Result, Table
from experiments.core.training import digits_task
from funcnn.plots import figure


@dataclass(frozen=True, kw_only=True)
class ScaledLoss(Training):
    """Trains on digits, an output for each class, with the mean squared error times S over decades, by sgd and by Adam."""

    epochs: int = 12
    adam_lr: float = 0.001
    """Learning rate of Adam."""
    hidden: int = 32
    """ReLU units in the hidden layer."""
    scales: tuple[float, ...] = (1e-5, 1e-3, 0.1, 1.0, 10.0, 100.0, 1000.0)
    """The factors S."""


def run(options: ScaledLoss) -> Result:
    """For every S: sgd on S L, sgd on L with S times the learning rate, and Adam on S L. What is measured is L."""
    task = digits_task(options, options.hidden)
    inputs, labels = task.data.train
    targets = torch.nn.functional.one_hot(labels, 10).to(inputs.dtype)
    task = task._replace(loss=fn.mean_squared_error(), data=task.data._replace(train=(inputs, targets)))
    sgd, rates, adam = {}, {}, {}
    for scale in options.scales:
        loss = fn.mean_squared_error(scale)
        sgd[scale] = task.run(fn.sgd(options.lr), loss=loss)
        rates[scale] = task.run(fn.sgd(scale * options.lr))
        adam[scale] = task.run(fn.adam(options.adam_lr), loss=loss)
    differences = {s: fn.tree.max_difference(sgd[s].params, rates[s].params).item() for s in sgd if sgd[s].diverged is None}
    sweeps = {"sgd on S L": sgd, "sgd on L, S lr": rates, "Adam on S L": adam}
    rows = [[f"{s:g}", *(runs[s].outcome() for runs in sweeps.values())] for s in sgd]
    return Result(
        "Scaled loss: what S does to sgd and to Adam",
        f"Sizes 64, {options.hidden}, 10 with ReLU on digits; L is the mean squared error from 1 for the right class and 0 "
        f"for others; lr = {options.lr:g} for sgd and {options.adam_lr:g} for Adam, minibatches of {options.batch_size}.",
        numbers={
            "curves": {name: {s: r.curves for s, r in runs.items()} for name, runs in sweeps.items()},
            "diverged": {name: {s: r.diverged for s, r in runs.items()} for name, runs in sweeps.items()},
            "differences": differences,
        },
        observations=_observations(sgd, rates, adam, differences),
        figures={"convergence": _convergence(sgd, adam, sweeps)},
        tables=[Table("Loss L at the end", ["S", *sweeps], rows)],
    )


def _observations(sgd: Any, rates: Any, adam: Any, differences: dict[float, float]) -> list[str]:
    lost = {s: run for s, run in sgd.items() if run.diverged is not None}
    lines = [
        f"For sgd scaling the loss is scaling the rate: both train for {len(differences)} of {len(sgd)} values of S, "
        f"and their parameters end at most {max(differences.values(), default=0):.1e} apart."
    ]
    if lost:
        same = all(run.diverged == rates[s].diverged for s, run in lost.items())
        told = ", ".join(f"S = {s:g} {run.outcome()}" for s, run in lost.items())
        lines.append(f"sgd: {told}; with S times the learning rate at {'the same' if same else 'another'} step.")
    for name, runs in (("sgd", sgd), ("Adam", adam)):
        ends = [run.last() for run in runs.values() if run.diverged is None]
        if ends:
            span = f"from {min(ends):.4f} to {max(ends):.4f}, a factor of {max(ends) / min(ends):.3g}"
            lines.append(f"{name} on S L: where it trains the loss L ends {span} over the values of S.")
    return lines


def _convergence(sgd: Any, adam: Any, sweeps: Any) -> tuple[Any, str]:
    drawing, (left, middle, right) = figure(3, height=4.4)
    for axis, runs, name in ((left, sgd, "sgd"), (middle, adam, "Adam")):
        draw_runs(axis, {f"S = {s:g}": run for s, run in runs.items()})
        axis.set(ylabel="mean squared error L", title=name)
    draw_sweeps(right, sweeps)
    right.set(xscale="log", xlabel="scale S", ylabel="mean squared error L at the end", title="at the end")
    return (
        drawing,
        "Training on S L: the loss L per epoch by sgd and by Adam, and at the end. A cross is a run that diverged.",
    )
