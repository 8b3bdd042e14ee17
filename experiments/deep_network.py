"""From one hidden layer to a deep network, and what depth does to the gradient.

Backwards through a hidden layer dL/dx = (dL/dy * f'(a)) W^T. With He's initial weights, of variance 2/D, ReLU keeps the
mean square of the gradient: half of its slopes are 1, and D of them times 2/D times 1/2 is 1. The slope of a sigmoid is
1/4 at most, so that at most sqrt(2)/4 = 0.35 of the norm is left: after seven layers, a thousandth.
"""

from dataclasses import dataclass
from math import log, sqrt
from typing import Any

import funcnn as fn
from experiments.core.curves import convergence, draw_sweeps, style, table_of_runs
from experiments.core.options import BadOption, Training
from experiments.core.result import Result
from experiments.core.training import Run, digits_task
from funcnn.plots import figure

ACTIVATIONS = {"ReLU": fn.relu, "sigmoid": fn.sigmoid}


@dataclass(frozen=True, kw_only=True)
class DeepNetwork(Training):
    """Trains dense, ReLU, dense on digits, then networks of 1 to `depth` dense layers, with ReLU and with sigmoid."""

    lr: float = 0.01
    hidden: int = 32
    """Units in every hidden layer."""
    depth: int = 8
    """Dense layers of the deepest network."""

    def __post_init__(self) -> None:
        """Raises BadOption where there would be no hidden layer."""
        super().__post_init__()
        if self.depth < 2:
            raise BadOption(f"depth: got {self.depth}, needs at least 2 dense layers")


def run(options: DeepNetwork) -> Result:
    """Every depth with both activations; what is measured per epoch includes the norm of the gradient in every layer."""
    depths = range(1, options.depth + 1)
    runs = {name: {depth: _train(name, depth, options) for depth in depths} for name in ACTIVATIONS}
    every = {f"{name}, {depth}": run for name in runs for depth, run in runs[name].items()}
    return Result(
        "Deep networks: where gradients vanish",
        f"Dense layers with {options.hidden} units in between on digits, softmax cross entropy, minibatches of "
        f"{options.batch_size}, lr = {options.lr:g}: first two layers, then 1 to {options.depth}, with ReLU and sigmoid.",
        numbers={name: run.curves for name, run in every.items()},
        observations=_observations(runs, options),
        figures={"two_layers": convergence({f"dense, {n}, dense": runs[n][2] for n in runs}), "depth": _figure(runs)},
        tables=[table_of_runs(f"After {options.epochs} epochs, by activation and number of dense layers", every)],
    )


def _train(name: str, depth: int, options: DeepNetwork) -> Run:
    task = digits_task(options, *[options.hidden] * (depth - 1), activation=ACTIVATIONS[name])
    start = tuple({"w": sqrt(6) * own["w"], "b": 0 * own["b"]} if own else () for own in task.start)  # were 1/(3 D)
    step_fn = fn.explicit(fn.supervised(task.layer, task.loss))

    def norms(params: Any) -> dict[str, float]:
        grads = [own["w"] for own in step_fn(params, task.data.train)[1] if own]
        return {f"layer {index}": dw.norm().item() for index, dw in enumerate(grads, start=1)}

    return task._replace(start=start).run(fn.sgd(options.lr), measure=norms)


def _norms_at_start(run: Run) -> list[float]:
    return [curve[0] for name, curve in run.curves.items() if name.startswith("layer")]


def _observations(runs: Any, options: DeepNetwork) -> list[str]:
    two, depth = runs["ReLU"][2], options.depth
    lines = [
        f"Dense, ReLU, dense: the training loss is {two.curves['loss'][0]:.3f} at the start; after {options.epochs} epochs "
        f"{two.outcome()}, the test accuracy {two.outcome('accuracy', '.3f')}."
    ]
    for name in runs:
        first, *_, last = _norms_at_start(runs[name][depth])
        learnt = [str(d) for d, run in runs[name].items() if run.diverged is None and run.last() < log(10) / 2]
        lines.append(
            f"{name}: with {depth} layers the gradient of the first starts at {first / last:.2g} times the norm of the last "
            f"one's, {(first / last) ** (1 / (depth - 1)):.2f} times per layer. The loss ends below half of $ln 10$, that "
            f"of guessing, with {', '.join(learnt) or 'no number of'} layers."
        )
    return lines


def _figure(runs: Any) -> tuple[Any, str]:
    drawing, (left, middle, right) = figure(3)
    draw_sweeps(left, runs)
    draw_sweeps(middle, runs, "accuracy", log=False)
    for index, name in enumerate(runs):
        for depth, run in runs[name].items():
            shown = {"label": f"{name}, {depth} layers", "marker": "."} if depth == max(runs[name]) else {"alpha": 0.3}
            right.semilogy(range(1, depth + 1), _norms_at_start(run), **style(index), **shown)
    left.set(xlabel="dense layers", ylabel="training loss at the end")
    middle.set(xlabel="dense layers", ylabel="test accuracy at the end")
    right.set(xlabel="layer (1 is next to the input)", ylabel="norm of dL/dW at the start")
    right.legend(frameon=False, fontsize="small")
    return drawing, "Every depth with both activations: at the end, and the gradient at the start (pale: the lesser depths)."
