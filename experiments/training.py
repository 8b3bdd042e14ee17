"""Training runs side by side: what each measured on its way, whether it diverged and at which step, and their picture.

A run is measured at its start and after each epoch. Where all of the data are one batch an epoch is a step.
"""

from collections.abc import Callable, Mapping
from itertools import repeat
from math import nan
from typing import Any, NamedTuple

import funcnn as fn
from experiments.options import Options
from experiments.result import Table
from funcnn.plots import COLORS, DASHES, figure, log_scale

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
    fitted = fn.fit(step_fn, optimizer, start, data, evaluate=measure, **schedule)
    ends = fitted.history.epoch_ends
    curves = {name: [float(first), *fitted.history.evaluations[name]] for name, first in measure(start).items()}
    epoch = diverged_at(curves["loss"])  # sees what the last step did, which no later step's loss can tell
    steps = [diverged_at(fitted.history.losses.tolist()), None if epoch is None else [0, *ends][epoch]]
    diverged = min((step for step in steps if step is not None), default=None)
    if diverged is not None:
        curves = {name: curve[: 1 + sum(end < diverged for end in ends)] for name, curve in curves.items()}
    return Run(curves, diverged, ends[0], fitted.params)


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


def classification(layer: fn.Layer, loss: fn.Loss, data: fn.data.Dataset) -> Measure:
    """Measures the loss on the training part and the accuracy on the test part."""
    objective = fn.supervised(layer, loss)

    def measure(params: Any) -> dict[str, float]:
        value, accuracy = objective.value(params, data.train), fn.accuracy(layer, params, data.test)
        return {"loss": value.item(), "accuracy": accuracy.item()}

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


def style(index: int) -> dict[str, Any]:
    """Colour and dashes of the curve with this index, all different for 49 curves."""
    turn, place = divmod(index, len(COLORS))
    return {"color": COLORS[place], "linestyle": DASHES[(place + turn) % len(DASHES)]}


def draw_runs(axis: Any, runs: Mapping[str, Run], name: str = "loss", *, log: bool = True, legend: bool = True) -> None:
    """One curve for each run. Where one diverged it leaves the picture, with a cross, and the legend says at which step."""
    for index, (label, run) in enumerate(runs.items()):
        told = label if run.diverged is None else f"{label}: {run.outcome()}"
        axis.plot(run.curves[name], **style(index), label=told)
    limits = _limits(axis, log)
    for index, run in enumerate(runs.values()):
        if run.diverged is not None:
            epoch, edge = run.diverged / run.steps_per_epoch, _worst(limits, name)
            axis.plot([len(run.curves[name]) - 1, epoch], [run.last(name), edge], **style(index))
            axis.plot(epoch, edge, "x", color=style(index)["color"], markersize=8, clip_on=False)
    axis.set(ylim=limits, xlabel="epoch")
    axis.xaxis.get_major_locator().set_params(integer=True)
    if legend:
        _legend(axis)


def convergence(runs: Mapping[str, Run]) -> tuple[Any, str]:
    """The figure of classifiers in training, and its caption."""
    drawing, (left, right) = figure(2, height=3.6 if len(runs) <= 4 else 4.4)
    draw_runs(left, runs)
    draw_runs(right, runs, "accuracy", log=False, legend=False)
    left.set(ylabel="training loss")
    right.set(ylabel="test accuracy")
    return drawing, "Training loss and test accuracy at the start and after each epoch."


def draw_sweeps(axis: Any, sweeps: Mapping[str, Mapping[Any, Run]], name: str = "loss", *, log: bool = True) -> None:
    """What runs ended with against the number that they were given, a curve for each sweep. A cross is one that diverged."""
    for index, (label, runs) in enumerate(sweeps.items()):
        ends = [run.last(name) if run.diverged is None else nan for run in runs.values()]
        axis.plot(list(runs), ends, **style(index), marker=".", label=label)
    limits = _limits(axis, log)
    for index, (label, runs) in enumerate(sweeps.items()):
        lost = [number for number, run in runs.items() if run.diverged is not None]
        if lost:
            edge, color = [_worst(limits, name)] * len(lost), style(index)["color"]
            axis.plot(lost, edge, "x+"[index % 2], color=color, markersize=9, clip_on=False, label=f"{label}: diverged")
    axis.set(ylim=limits)
    _legend(axis)


def _legend(axis: Any) -> None:
    """In the panel, or below it if there is more to say than fits without covering a curve."""
    below = {"ncols": 2, "loc": "upper center", "bbox_to_anchor": (0.5, -0.15)}
    axis.legend(frameon=False, fontsize="small", **(below if len(axis.get_legend_handles_labels()[1]) > 4 else {}))


def _limits(axis: Any, log: bool) -> tuple[float, float]:
    """The range of the y axis, which becomes logarithmic if it is to be: over few decades with more marks on it."""
    if log:
        axis.set_yscale("log")
    low, high = axis.get_ylim()
    if log and high < 1e4 * low:
        log_scale(axis)
    return low, high


def _worst(limits: tuple[float, float], name: str) -> float:
    """The edge of a picture towards which things get worse."""
    return limits[0] if name == "accuracy" else limits[1]


def table_of_runs(caption: str, runs: Mapping[str, Run]) -> Table:
    """The loss and the accuracy that each run of a classifier ended with."""
    rows = [[label, run.outcome(), run.outcome("accuracy", ".3f")] for label, run in runs.items()]
    return Table(caption, ["run", "training loss", "test accuracy"], rows)
