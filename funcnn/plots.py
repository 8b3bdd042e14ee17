"""The one place in the library that draws. Matplotlib is imported here and nowhere else, and only when a plot is wanted.

Figures are made without pyplot, so nothing global changes: no current figure, no backend, no style. They are to be
read on a slide: labelled axes, legends, colours that colour-blind readers can tell apart (Okabe & Ito 2008), and
dashes that tell them apart in print.
"""

from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

if TYPE_CHECKING:
    from .fit import History

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))


def figure(panels: int = 1, *, height: float = 3.6) -> tuple[Figure, list[Any]]:
    """A figure with some panels side by side, in the style of this project: (figure, axes)."""
    width = {1: 6.0, 2: 9.0}.get(panels, 4.0 * panels)
    drawing = Figure(figsize=(width, height), dpi=150, layout="constrained")
    axes = list(drawing.subplots(1, panels, squeeze=False)[0])
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(True, color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
    return drawing, axes


def log_scale(axis: Any) -> None:
    """A logarithmic y axis over few decades: ticks at 1, 2 and 5, read as 0.05 and not as 5 x 10^-2."""
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())


def plot_history(history: "History") -> Figure:
    """The loss of every step and its mean per epoch; beside it, where there are any, the evaluations per epoch."""
    drawing, axes = figure(2 if history.evaluations else 1)
    losses = history.losses.detach().cpu().double()
    steps = range(1, len(losses) + 1)
    starts = [0, *history.epoch_ends[:-1]]
    means = [losses[start:end].mean().item() for start, end in zip(starts, history.epoch_ends, strict=True)]
    axes[0].plot(steps, losses, color=COLORS[0], alpha=0.3, linewidth=0.8, label="each step")
    axes[0].plot(history.epoch_ends, means, color=COLORS[0], marker=".", label="mean of each epoch")
    axes[0].set(xlabel="step", ylabel="training loss")
    if (losses > 0).all():
        log_scale(axes[0])
    axes[0].legend(frameon=False)
    for (name, numbers), color, dash in zip(history.evaluations.items(), COLORS * 9, DASHES * 9, strict=False):
        axes[1].plot(range(1, len(numbers) + 1), numbers, color=color, linestyle=dash, marker=".", label=name)
    if history.evaluations:
        axes[1].set(xlabel="epoch", ylabel="evaluation")
        axes[1].legend(frameon=False)
    return drawing
