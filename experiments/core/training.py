"""Training runs: what each measured on its way, and whether it diverged and at which step.

A run is measured at its start and after each epoch. Where all of the data are one batch an epoch is a step.
"""

import warnings
from collections.abc import Callable, Mapping
from itertools import repeat
from math import nan
from typing import Any, NamedTuple

import funcnn as fn
from experiments.core.options import Options

FAR = 100.0  # a loss of so many times the first one is taken for lost

Measure = Callable[[Any], Mapping[str, float]]


class Run(NamedTuple):
    """`curves[name]` has the numbers at the start and after each epoch, those from a divergence on left out."""

    curves: dict[str, list[float]]
    diverged: int | None  # the step after which the loss was not finite, or FAR times the first
    steps_per_epoch: int
    params: Any  # at the end

    def last(self, name: str = "loss") -> float:
        """The last number of a curve."""
        return self.curves[name][-1]

    def outcome(self, name: str = "loss", form: str = ".3g") -> str:
        """The last number for a reader, or that there is none."""
        return format(self.last(name), form) if self.diverged is None else f"diverged at step {self.diverged}"


def diverged_at(losses: list[float]) -> int | None:
    """The index of the first loss that is not finite or above FAR times the first one."""
    return next((step for step, loss in enumerate(losses) if not loss <= FAR * losses[0] < float("inf")), None)


def training_run(step_fn: Any, optimizer: Any, start: Any, data: Any, measure: Measure, **schedule: Any) -> Run:
    """Trains by `fn.fit` with the schedule. `measure(params)` gives numbers by name, among them "loss"."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "fit ended", RuntimeWarning)  # the run tells it
        fitted = fn.fit(step_fn, optimizer, start, data, evaluate=measure, **schedule)
    history, steps_per_epoch = fitted.history, -(-len(fn.tree.leaves(data)[0]) // schedule["batch_size"])
    ends, losses = history.epoch_ends, [*history.losses.tolist(), *([nan] if history.divergence else [])]
    curves = {name: [float(first), *history.evaluations.get(name, [])] for name, first in measure(start).items()}
    epoch = diverged_at(curves["loss"])  # sees what the last step did, which no later step's loss can tell
    steps = [diverged_at(losses), None if epoch is None else [0, *ends][epoch]]
    diverged = min((step for step in steps if step is not None), default=None)
    if diverged is not None:
        curves = {name: curve[: 1 + sum(end < diverged for end in ends)] for name, curve in curves.items()}
    return Run(curves, diverged, steps_per_epoch, fitted.params)


def descent_run(
    objective: fn.Objective, optimizer: Any, start: Any, batch: Any, steps: int, measure: Measure = lambda params: {}
) -> Run:
    """Descent on one batch by the explicit gradient. An epoch is a step; after each, the "loss" and "evaluations" so far.

    An evaluation is one of the loss, with or without its gradient. `measure` adds other numbers.
    """
    points, spent = [start], [0]
    for step in fn.train(fn.explicit(objective), optimizer, start, repeat(batch, steps)):
        points.append(step.params)
        spent.append(spent[-1] + 1 + getattr(step.state, "evaluations", 0))  # of a line search, along its ray
    losses = [objective.value(params, batch).item() for params in points]
    diverged = diverged_at(losses)
    measured = [measure(params) for params in points[:diverged]]
    curves = {name: [numbers[name] for numbers in measured] for name in measured[0]}
    return Run({"loss": losses[:diverged], "evaluations": spent[:diverged], **curves}, diverged, 1, points[-1])


def accuracy(layer: fn.Layer, params: Any, batch: Any) -> float:
    """The share of a batch that is classified correctly; NaN where a network that diverged says nothing."""
    return nan if layer(params, batch[0]).isnan().any() else fn.accuracy(layer, params, batch).item()


def classification(layer: fn.Layer, loss: fn.Loss, data: fn.data.Dataset) -> Measure:
    """Measures the loss on the training part and the accuracy on the test part."""
    objective = fn.supervised(layer, loss)

    def measure(params: Any) -> dict[str, float]:
        return {"loss": objective.value(params, data.train).item(), "accuracy": accuracy(layer, params, data.test)}

    return measure


class Task(NamedTuple):
    """A classifier before its training."""

    layer: fn.Layer
    loss: fn.Loss
    data: fn.data.Dataset
    start: Any
    options: Any  # with a `schedule()`, to train by

    def run(
        self,
        optimizer: Any,
        *,
        provider: Any = fn.explicit,
        loss: fn.Loss | None = None,
        measure: Measure = lambda params: {},
    ) -> Run:
        """Trains with the gradient of some provider and, where one is given, of another loss than the one measured.

        What is measured is the loss on the training part, the accuracy on the test part, and what `measure` adds.
        """
        step_fn = provider(fn.supervised(self.layer, loss or self.loss))
        judge = classification(self.layer, self.loss, self.data)

        def both(params: Any) -> dict[str, float]:
            return {**judge(params), **measure(params)}

        return training_run(step_fn, optimizer, self.start, self.data.train, both, **self.options.schedule())


def digits_task(options: Options, *hidden: int, activation: Callable[[], fn.Layer] = fn.relu) -> Task:
    """Softmax cross entropy on digits, with hidden layers of these sizes."""
    generator = options.generator()
    data = fn.data.digits(generator=generator, **options.tensors)
    layer = fn.mlp([data.train[0].shape[1], *hidden, 10], activation)
    return Task(layer, fn.softmax_cross_entropy(), data, layer.init(generator, **options.tensors), options)
