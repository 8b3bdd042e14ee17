"""Six optimizers on the problems of More, Garbow and Hillstrom, each with the same number of evaluations.

A learning rate is a unit of length: with x = s v, descent in v with lr = 1 is descent in x with lr = s^2, and since Adam
does not see the size of a gradient, lr = s for Adam. So copies of a problem, each with a scale s of its own, side by side
in one run, are as many learning rates.
"""

from itertools import repeat
from typing import Any, NamedTuple

import torch
from torch import Tensor

import funcnn as fn
from experiments.minimize.problems import MORE_GARBOW_HILLSTROM, Problem

RATES = torch.logspace(-11.5, 0, 24, dtype=torch.float64)
BY_RATE = {
    "sgd": (fn.sgd(1.0), RATES.sqrt()),
    "momentum": (fn.momentum(1.0), RATES.sqrt()),
    "nesterov": (fn.nesterov(1.0), RATES.sqrt()),
    "adam": (fn.adam(1.0), RATES),
}
SEARCHING = {"line search": fn.line_search(), "BFGS": fn.bfgs()}
REACHED = 1e-9  # how close to the published minimum a value must come


class Outcome(NamedTuple):
    """The value in the end, the evaluations it took to the published minimum if that was reached, and the best rate."""

    value: float
    evaluations: int | None
    lr: float | None = None


Outcomes = dict[str, dict[str, Outcome]]  # by problem and optimizer


def hold(options: Any) -> Outcomes:
    """The outcome of every optimizer that is asked for on every problem, in float64."""
    return {
        name: {optimizer: _outcome(problem, optimizer, options.evaluations) for optimizer in options.optimizers}
        for name, problem in MORE_GARBOW_HILLSTROM.items()
    }


def _outcome(problem: Problem, name: str, evaluations: int) -> Outcome:
    if name in BY_RATE:
        return _best_rate(problem, *BY_RATE[name], evaluations)
    return _search(problem, SEARCHING[name], evaluations)


def _search(problem: Problem, optimizer: Any, evaluations: int) -> Outcome:
    spent, values = [0], [problem.objective.value(problem.start, ()).item()]
    for step in fn.train(fn.explicit(problem.objective), optimizer, problem.start, repeat(())):
        spent.append(spent[-1] + 1 + step.state.evaluations)
        if spent[-1] > evaluations:
            break
        values.append(problem.objective.value(step.params, ()).item())
        if values[-1] <= problem.minimum + REACHED:
            return Outcome(values[-1], spent[-1])
    return Outcome(values[-1], None)


def _best_rate(problem: Problem, optimizer: Any, scales: Tensor, evaluations: int) -> Outcome:
    """Of the runs with each rate the one that gets there first or, where none does, ends lowest."""
    objective, s = problem.objective, scales[:, None]

    def value(v: Tensor, batch: Any) -> Tensor:
        return objective.value(s * v, batch)

    def value_and_grad(v: Tensor, batch: Any) -> tuple[Tensor, Tensor]:
        total, grads = objective.value_and_grad(s * v, batch)
        return total, s * grads

    steps = fn.train(fn.explicit(fn.Objective(value, value_and_grad)), optimizer, problem.start / s, repeat((), evaluations))
    points = torch.stack([s * step.params for step in steps])
    values = torch.func.vmap(torch.func.vmap(lambda x: objective.value(x, ())))(points).nan_to_num(torch.inf)
    there = values <= problem.minimum + REACHED
    first = torch.where(there.any(0), there.double().argmax(0), evaluations)
    best = min(range(len(RATES)), key=lambda r: (first[r], values[-1, r]))
    reached = int(first[best]) < evaluations
    row = int(first[best]) if reached else -1
    return Outcome(values[row, best].item(), int(first[best]) + 1 if reached else None, RATES[best].item())
