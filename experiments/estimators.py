"""Digits learned from estimates of the gradient: what each costs in evaluations and in time, beside backprop.

An evaluation is a value of the loss on one batch, a derivative along one direction, or a value with its whole gradient. The
score function learns something else, by blame alone: a class is chosen with the probabilities that the network gives, and
the cost is whether it was the wrong one. It has the derivative of the probability that was chosen, which is a pass back.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Generator

import funcnn as fn
from experiments.core.curves import style
from experiments.core.options import Options
from experiments.core.result import Result, Table
from experiments.core.timing import Timing, interleaved
from experiments.core.training import Task, accuracy, digits_task
from funcnn.plots import figure


@dataclass(frozen=True, kw_only=True)
class Estimators(Options):
    """Trains one network on digits with every stochastic gradient until it reads enough of them."""

    hidden: int = 16
    """Tanh units in the hidden layer."""
    samples: int = 16
    """Directions, or choices for every digit, of one estimate."""
    lr: float = 0.01
    """Learning rate of Adam."""
    mezo_lr: float = 0.006
    """Learning rate of mezo, which descends along one direction a step."""
    sigma: float = 0.02
    """Width of the smoothing of evolution."""
    batch_size: int = 64
    """Samples per step."""
    target: float = 0.9
    """Test accuracy at which a training ends."""
    steps: int = 6000
    """Steps after which it ends all the same."""
    every: int = 10
    """Steps between two looks at the accuracy."""

    FULL = {"hidden": 64, "steps": 40_000}


class Method(NamedTuple):
    """A way to train, of a generator for what it draws; and how many evaluations a step takes."""

    make: Callable[[Generator], tuple[Any, Any]]  # (step_fn, optimizer)
    evaluations: int


class Path(NamedTuple):
    """The test accuracy after so many steps, until it was enough."""

    steps: list[int]
    accuracies: list[float]


def methods(task: Task, options: Estimators) -> dict[str, Method]:
    """All of them by name, backprop first."""
    objective, k = fn.supervised(task.layer, task.loss), options.samples

    def by_adam(make: Callable[[Generator], Any], evaluations: int) -> Method:
        return Method(lambda generator: (make(generator), fn.adam(options.lr)), evaluations)

    def directions(make: Callable[..., fn.StepFn], evaluations: int = 2 * k + 1, **more: Any) -> Method:
        return by_adam(lambda generator: make(objective, generator, samples=k, **more), evaluations)

    return {
        "backprop": by_adam(lambda generator: fn.explicit(objective), 1),
        "forward_gradient": directions(fn.forward_gradient, k),
        "forward_gradient by differences": directions(fn.forward_gradient, by="differences"),
        "spsa": directions(fn.spsa),
        "spsa orthogonal": directions(fn.spsa, orthogonal=True),
        "evolution": directions(fn.evolution, sigma=options.sigma),
        "mezo": Method(lambda generator: (fn.explicit(objective), fn.mezo(generator, options.mezo_lr)), 2),
        "score_function": by_adam(lambda generator: by_blame(task.layer, options, generator), k),
    }


def by_blame(layer: fn.Layer, options: Estimators, generator: Generator) -> Callable[[Any, Any], Any]:
    """The step function of the share of wrong choices, less 1/2, of which every digit of a batch has its own blame."""

    def gumbel(generator: Generator) -> torch.Tensor:
        drawn = torch.rand(10, generator=generator, dtype=torch.float64)  # where the generator is
        return -(-drawn.log()).log().to(**options.tensors)

    def chosen(params: Any, batch: Any, noise: Any) -> torch.Tensor:
        return (layer(params, batch[0]) + noise).argmax(1)

    def log_density(params: Any, batch: Any, classes: Any) -> torch.Tensor:
        return layer(params, batch[0]).log_softmax(1).gather(1, classes[:, None]).sum()

    def cost(classes: Any, batch: Any) -> torch.Tensor:
        return (classes != batch[1]).to(batch[0].dtype).mean() - 0.5

    each = fn.per_sample(
        fn.score_function(fn.Expectation(gumbel, chosen, log_density, cost), generator, samples=options.samples)
    )

    def step_fn(params: Any, batch: Any) -> Any:
        values, grads = each(params, batch)
        return values.mean(), fn.tree.map(lambda leaf: leaf.mean(0), grads)

    return step_fn


def run(options: Estimators) -> Result:
    """Every training until it is good enough, and the time of a step of each, measured in turns."""
    task = digits_task(options, options.hidden, activation=fn.tanh)
    ways = methods(task, options)
    paths = {name: trained(task, method, options) for name, method in ways.items()}
    batch = tuple(leaf[: options.batch_size] for leaf in task.data.train)
    timing = interleaved({name: _step(task, way, batch) for name, way in ways.items()}, rounds=9, device=options.device)
    count = sum(leaf.numel() for leaf in fn.tree.leaves(task.start))
    return Result(
        "Estimators: learning digits without the gradient",
        f"Sizes 64, {options.hidden}, 10 with tanh ({count} parameters) on digits, minibatches of {options.batch_size}, "
        f"{options.samples} directions an estimate, Adam but for mezo, until the test accuracy is {options.target:.0%}.",
        numbers={
            "paths": {name: path._asdict() for name, path in paths.items()},
            "evaluations per step": {name: way.evaluations for name, way in ways.items()},
            "seconds": timing.rounds,
        },
        observations=_observations(paths, ways, timing, options),
        figures={"estimators": _drawn(paths, ways, timing, options)},
        tables=[_table(paths, ways, timing)],
    )


def trained(task: Task, method: Method, options: Estimators) -> Path:
    """A training, looked at now and then; the batches are the same for every method."""
    order, draws = options.generator(), torch.Generator().manual_seed(options.seed + 1)
    step_fn, optimizer = method.make(draws)

    def batches() -> Any:
        while True:
            yield from fn.minibatches(task.data.train, options.batch_size, generator=order)

    path = Path([0], [accuracy(task.layer, task.start, task.data.test)])
    steps = fn.train(step_fn, optimizer, task.start, islice(batches(), options.steps))
    for number, step in enumerate(steps, start=1):
        if number % options.every == 0 or number == options.steps:
            path.steps.append(number)
            path.accuracies.append(accuracy(task.layer, step.params, task.data.test))
            if path.accuracies[-1] >= options.target:
                break
    return path


def _step(task: Task, method: Method, batch: Any) -> Callable[[], Any]:
    """The next step of a training on one batch."""
    step_fn, optimizer = method.make(torch.Generator().manual_seed(0))
    return partial(next, fn.train(step_fn, optimizer, task.start, iter(lambda: batch, None)))


def _observations(paths: Any, ways: Any, timing: Timing, options: Estimators) -> list[str]:
    there = [name for name, path in paths.items() if path.accuracies[-1] >= options.target]
    evaluations = {name: paths[name].steps[-1] * ways[name].evaluations for name in there}
    seconds = {name: paths[name].steps[-1] * timing.seconds(name) for name in there}
    told = [f"{options.target:.0%} is reached by {len(there)} of {len(paths)}: {', '.join(there)}."] if there else []
    others = [name for name in there if name != "backprop"]
    if "backprop" in there and others:
        few, soon = min(others, key=evaluations.__getitem__), min(others, key=seconds.__getitem__)
        told += [
            f"Backprop takes {evaluations['backprop']} evaluations, {few} {evaluations[few]:,}, the fewest of the others: "
            f"{evaluations[few] / evaluations['backprop']:.0f} times as many.",
            f"In time {soon} is the nearest, with {seconds[soon] / seconds['backprop']:.0f} times as much as backprop.",
        ]
    lost = {name: path for name, path in paths.items() if name not in there}
    if lost:
        ends = ", ".join(f"{path.accuracies[-1]:.3f} ({name})" for name, path in lost.items())
        told.append(f"Not there after {options.steps} steps: {ends}.")
    return told


def _table(paths: Any, ways: Any, timing: Timing) -> Table:
    rows = []
    for name, path in paths.items():
        steps, each, seconds = path.steps[-1], ways[name].evaluations, timing.seconds(name)
        rows.append(
            [name, f"{path.accuracies[-1]:.3f}", steps, each, steps * each, f"{1e6 * seconds:.0f}", f"{steps * seconds:.2f}"]
        )
    columns = ["method", "test accuracy", "steps", "evaluations a step", "evaluations", "µs a step", "seconds"]
    return Table("What it took", columns, rows)


def _drawn(paths: Any, ways: Any, timing: Timing, options: Estimators) -> tuple[Any, str]:
    drawing, axes = figure(2, height=4.6)
    for index, (name, path) in enumerate(paths.items()):
        for axis, scale in zip(axes, (ways[name].evaluations, timing.seconds(name)), strict=True):
            axis.plot([scale * step for step in path.steps[1:]], path.accuracies[1:], **style(index), label=name)
            axis.plot(scale * path.steps[-1], path.accuracies[-1], "o", color=style(index)["color"], markersize=4)
    for axis, label in zip(axes, ("evaluations", "time of the steps (s)"), strict=True):
        axis.axhline(options.target, color="black", linewidth=0.8)
        axis.set(xscale="log", xlabel=label, ylabel="test accuracy", ylim=(0, 1))
    drawing.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize="small"
    )
    return drawing, f"Test accuracy against evaluations and against time, until it is {options.target:.0%} (line)."
