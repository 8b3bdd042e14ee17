"""Momentum on a network, and on quadratics, where its rate of convergence is known: see `quadratics`."""

from dataclasses import dataclass
from math import inf, log
from typing import Any

import torch

import funcnn as fn
from experiments.core.curves import convergence, draw_runs, table_of_runs
from experiments.core.options import Training
from experiments.core.quadratics import follow, rate, tuned
from experiments.core.result import Result, Table
from experiments.core.training import Run, digits_task
from funcnn.plots import figure

CONDITIONS = (10, 100, 1000)


@dataclass(frozen=True, kw_only=True)
class Momentum(Training):
    """Plain, momentum, Nesterov, RMSProp and Adam on one network, and their rates of convergence on quadratics."""

    lr: float = 0.02
    beta: float = 0.9
    """Momentum on the network, below 1."""
    adaptive_lr: float = 0.01
    """Learning rate of RMSProp and Adam."""
    hidden: int = 32
    """ReLU units in the hidden layer."""
    steps: int = 1000
    """Steps on each quadratic."""


def run(options: Momentum) -> Result:
    """The network with the gradient from torch.autograd.grad, then a quadratic of each condition number."""
    task = digits_task(options, options.hidden)
    adaptive = {"RMSProp": fn.rmsprop(options.adaptive_lr), "Adam": fn.adam(options.adaptive_lr)}
    momentum, nesterov = fn.momentum(options.lr, options.beta), fn.nesterov(options.lr, options.beta)
    methods = {"plain": fn.sgd(options.lr), "momentum": momentum, "Nesterov": nesterov, **adaptive}
    runs = {name: task.run(method, provider=fn.autograd) for name, method in methods.items()}

    paths: dict[int, dict[str, Run]] = {}
    rates: list[tuple[str, int, float, float]] = []
    for k in CONDITIONS:
        curvatures = torch.linspace(1, k, 20, dtype=torch.float64, device=options.device)
        best = tuned(k)
        chosen = {name: method for name, (method, _) in best.items()} | adaptive
        paths[k] = {
            name: follow(method, curvatures, torch.ones_like(curvatures), options.steps) for name, method in chosen.items()
        }
        rates += [(name, k, exact, rate(paths[k][name].curves["distance"])) for name, (_, exact) in best.items()]
    distances = {k: {name: path.curves["distance"] for name, path in paths[k].items()} for k in paths}
    rows = [[name, k, f"{exact:.5f}", f"{measured:.5f}"] for name, k, exact, measured in rates]
    return Result(
        "Momentum: five optimizers, and the rates that theory gives",
        f"Sizes 64, {options.hidden}, 10 with ReLU on digits, the gradient by torch.autograd.grad; then quadratics in 20 "
        f"dimensions of condition numbers {', '.join(map(str, CONDITIONS))}, the first three with their best constants.",
        numbers={"network": {name: run.curves for name, run in runs.items()}, "distances": distances, "rates": rates},
        observations=_observations(runs, rates, distances),
        figures={"network": convergence(runs), "quadratics": _quadratics(paths)},
        tables=[
            table_of_runs(f"The network after {options.epochs} epochs", runs),
            Table("Rates of convergence on quadratics", ["method", "condition number", "exact", "measured"], rows),
        ],
    )


def _observations(runs: Any, rates: Any, distances: Any) -> list[str]:
    ranked = sorted(runs, key=lambda name: runs[name].last() if runs[name].diverged is None else inf)
    name, k, exact, measured = max(rates, key=lambda row: abs(row[3] - row[2]))
    digits = [f"{-log(10) / log(measured):.0f} ({name})" for name, k, _, measured in rates if k == CONDITIONS[-1]]
    adam = [distances[k]["Adam"][-1] for k in CONDITIONS]
    rms = distances[CONDITIONS[-1]]["RMSProp"]
    return [
        "Loss of the network at the end: " + ", ".join(f"{runs[name].outcome()} ({name})" for name in ranked) + ".",
        f"Measured and exact rates differ by {abs(measured - exact):.0e} at most ({name} at condition number {k}).",
        f"Steps for a decimal digit at condition number {CONDITIONS[-1]}: {', '.join(digits)}.",
        f"Adam scales every coordinate by itself, so these condition numbers do not matter to it: it ends {adam[0]:.2g} "
        f"from the minimum at {CONDITIONS[0]}, and within a factor of {max(adam) / min(adam):.3g} of that at all of them.",
        f"RMSProp gets as near as {min(rms):.2g}; at the last step, with a constant rate, it is {rms[-1]:.2g} away.",
    ]


def _quadratics(paths: Any) -> tuple[Any, str]:
    drawing, axes = figure(len(paths), height=4.4)
    for axis, (k, runs) in zip(axes, paths.items(), strict=True):
        draw_runs(axis, runs, "distance", legend=axis is axes[0])
        axis.set(
            xlabel="step", ylabel="distance to the minimum", title=f"condition number {k}", xlim=(0, 500), ylim=(1e-12, 100)
        )
    return (
        drawing,
        "Descent on quadratics: straight lines are linear convergence, and their slope is the logarithm of the rate.",
    )
