"""How long a step should be: too short, good, best and too long, and what it costs to have it searched for.

On a quadratic with curvatures from m to L a step of gradient descent multiplies w_i by 1 - lr a_i. It converges for
lr < 2/L, and fastest at lr = 2/(L + m), where both ends shrink by (k - 1)/(k + 1) with k = L/m. The best step of the
moment, by exact line search, does no better from the worst start, w = (1/m, 1/L): there it is 2/(L + m) every time.
"""

from dataclasses import dataclass
from typing import Any

import torch

import funcnn as fn
from experiments.core.options import BadOption, Options
from experiments.core.quadratics import follow
from experiments.core.result import Result
from experiments.core.training import Run, descent_run, digits_task
from experiments.step_size import presentation

SEARCHES = {"backtracking": fn.line_search(), "exact search": fn.exact_line_search(tolerance=1e-4)}


@dataclass(frozen=True, kw_only=True)
class StepSize(Options):
    """Gradient descent with steps of every length, and with line searches, on a quadratic and on a network's loss."""

    condition: float = 10.0
    """Condition number of the quadratic, above 1."""
    hidden: int = 32
    """ReLU units in the hidden layer of the network."""
    steps: int = 100
    """Steps of each run, on the network with all of the digits in one batch."""

    def __post_init__(self) -> None:
        """Raises BadOption for a condition number that is none."""
        super().__post_init__()
        if self.condition <= 1:
            raise BadOption(f"condition: got {self.condition}, needs a number above 1")


def run(options: StepSize) -> Result:
    """Four fixed steps and two searches on the quadratic, then on the network, where a sweep finds the best fixed step."""
    k, task = options.condition, digits_task(options, options.hidden)
    curvatures, start = torch.tensor([[1, k], [k, 1]], dtype=torch.float64, device=options.device)
    lengths = {"too small": 0.1 / k, "good": 1 / k, "optimal": 2 / (k + 1), "too large": 2.2 / k}
    bowl = {name: follow(step, curvatures, start, options.steps) for name, step in _steps(lengths).items()}

    objective = fn.supervised(task.layer, task.loss)

    def descend(optimizer: Any) -> Run:
        return descent_run(objective, optimizer, task.start, task.data.train, options.steps)

    sweep = {2.0**power: descend(fn.sgd(2.0**power)) for power in range(-8, 5)}
    best = min((lr for lr, run in sweep.items() if run.diverged is None), key=lambda lr: sweep[lr].last())
    lengths = {"too small": best / 64, "good": best / 4, "optimal": best, "too large": 2 * best}
    network = {name: descend(step) for name, step in _steps(lengths).items()}
    return Result(
        "Step size: fixed or searched for",
        f"A quadratic of condition number {k:g} from its worst start, then the cross entropy of a network of sizes 64, "
        f"{options.hidden}, 10 on {len(task.data.train[0])} digits in one batch. An evaluation is one of the loss, with or "
        "without its gradient.",
        numbers={
            "quadratic": {name: run.curves for name, run in bowl.items()},
            "network": {name: run.curves for name, run in network.items()},
            "sweep": {lr: run.outcome() for lr, run in sweep.items()},
        },
        observations=presentation.observations(bowl, network, sweep, k),
        figures=presentation.figures(bowl, network, sweep, curvatures),
        tables=presentation.tables(bowl, network),
    )


def _steps(lengths: dict[str, float]) -> dict[str, Any]:
    """The optimizers by the names that the figures give them."""
    return {f"{name}, {lr:.3g}": fn.sgd(lr) for name, lr in lengths.items()} | SEARCHES
