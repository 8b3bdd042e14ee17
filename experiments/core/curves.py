"""Runs side by side, as curves and in a table. One that diverged leaves the picture where it did, with a cross."""

from collections.abc import Mapping
from math import nan
from typing import Any

from experiments.core.result import Table
from experiments.core.training import Run
from funcnn.plots import COLORS, DASHES, figure, log_scale


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
