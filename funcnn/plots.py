"""The one place in the library that draws. Matplotlib is imported here and nowhere else, and only when a plot is wanted.

Figures are made without pyplot, so nothing global changes: no current figure, no backend, no style; only who asks for a
window gets it from pyplot. They are to be read on a slide: labelled axes, legends, colours that colour-blind readers can
tell apart (Okabe & Ito 2008), and dashes that tell them apart in print.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import pairwise
from typing import Any, Literal, cast

import torch
from matplotlib import colormaps, get_backend
from matplotlib.backend_bases import FigureManagerBase
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from torch import Tensor

from .errors import InputError

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
NO_WINDOW = "save the figure by savefig('figure.png'), or call matplotlib.use('QtAgg') before, where there is a screen"
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))


class Drawing(Figure):
    """A figure that shows itself where it is the result of a notebook's cell, and where `show` is called."""

    def _repr_png_(self) -> bytes:
        content = BytesIO()
        self.savefig(content, format="png")
        return content.getvalue()

    def show(self, warn: bool = True) -> None:
        """Shows it in a notebook's cell, else in a window, and waits until that is closed.

        Raises:
            RuntimeError: matplotlib can open no window here.
        """
        shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
        if hasattr(shell, "kernel"):
            sys.modules["IPython"].display.display(self)
            return
        from matplotlib import pyplot  # which opens windows

        try:
            pyplot.figure(FigureClass=cast(Any, lambda **_: self))
        except ImportError as error:  # a display that the backend needs and that is not there
            raise RuntimeError(f"{error}; {NO_WINDOW}") from None
        if type(self.canvas.manager) is FigureManagerBase:
            pyplot.close(self)
            raise RuntimeError(f"matplotlib's backend {get_backend()} opens no window; {NO_WINDOW}")
        pyplot.show()


def figure(panels: int = 1, *, rows: int = 1, width: float | None = None, height: float = 3.6) -> tuple[Drawing, list[Any]]:
    """A figure with some panels, row by row, in the style of this project: (figure, axes). Sizes in inches, as a whole."""
    columns = -(-panels // rows)
    width = width or {1: 6.0, 2: 9.0}.get(columns, 4.0 * columns)
    drawing = Drawing(figsize=(width, height), dpi=150, layout="constrained")
    axes = [drawing.add_subplot(rows, columns, index + 1) for index in range(panels)]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(True, color="#dddddd", linewidth=0.6)
        axis.set_axisbelow(True)
    return drawing, axes


def log_scale(axis: Any, along: Literal["x", "y"] = "y") -> None:
    """A logarithmic axis over few decades: ticks at 1, 2 and 5, read as 0.05 and not as 5 x 10^-2."""
    axis.set(**{f"{along}scale": "log"})
    scale = getattr(axis, f"{along}axis")
    scale.set_major_locator(LogLocator(subs=(1, 2, 5)))
    scale.set_major_formatter(StrMethodFormatter("{x:g}"))
    scale.set_minor_formatter(NullFormatter())


def heat_map(
    axis: Any,
    matrix: Tensor,
    *,
    label: str,
    scale: Literal["linear", "log"] = "linear",
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> None:
    """A matrix as colours, row 0 on top, with the scale of the colours beside it, named by `label`.

    What is exactly 0 is grey and what is not finite black, so that neither is taken for a number of the scale. Where
    there are negative entries, blue is below 0 and orange above. `rows` and `columns` name all of them, or none.

    Raises:
        InputError: negative entries on a logarithmic scale.
    """
    x = matrix.detach().cpu().double()
    numbers = x[x.isfinite() & (x != 0)]
    signed = bool((numbers < 0).any())
    if signed and scale == "log":
        raise InputError("heat_map(matrix)", "negative entries", "positive ones on a logarithmic scale")
    largest = numbers.abs().max().item() if len(numbers) else 1.0
    lowest = -largest if signed else 0.0
    if scale == "log":  # whole decades, at least one
        least = max(numbers.min().item(), 1e-300) if len(numbers) else largest
        lowest, largest = 10.0 ** (math.ceil(math.log10(least)) - 1), 10.0 ** math.ceil(math.log10(largest))
    colors = LinearSegmentedColormap.from_list("signed", [COLORS[0], "white", COLORS[1]]) if signed else colormaps["viridis"]
    shown = x.where(x.isfinite(), 2 * largest).where(x != 0, torch.nan)  # above the scale, and missing from it
    cells = axis.pcolormesh(
        *((torch.arange(size + 1, device="cpu") - 0.5).numpy() for size in (x.shape[1], x.shape[0])),
        shown.numpy(),
        norm=scale,
        vmin=lowest,
        vmax=largest,
        cmap=colors.with_extremes(bad="#d0d0d0", over="black"),
    )
    axis.grid(False)
    axis.invert_yaxis()
    axis.spines[:].set_visible(False)
    for ticks, names in ((axis.yaxis, rows), (axis.xaxis, columns)):
        ticks.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if names:
            ticks.set_ticks(range(len(names)), names)
    axis.figure.colorbar(cells, ax=axis, label=label).ax.yaxis.set_minor_formatter(NullFormatter())


def images(axis: Any, pictures: Tensor, *, rows: Sequence[str] = (), columns: Sequence[str] = ()) -> None:
    """Grey pictures, shape (rows, columns, height, width), as a table in one panel: 0 is white and 1 is black.

    `rows` and `columns` are the heads of the table, all of them or none.
    """
    x = pictures.detach().cpu().double()
    # In units of one picture, with a gap of a tenth: picture (i, j) is centred at (j, i), where its tick stands.
    for i, row in enumerate(x):
        for j, picture in enumerate(row):
            extent = (j - 0.45, j + 0.45, i + 0.45, i - 0.45)
            axis.imshow(picture.numpy(), cmap="Greys", vmin=0, vmax=1, extent=extent, interpolation="nearest")
    axis.set(xlim=(-0.5, x.shape[1] - 0.5), ylim=(x.shape[0] - 0.5, -0.5), aspect=x.shape[2] / x.shape[3])
    axis.grid(False)
    axis.spines[:].set_visible(False)
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    for ticks, names in ((axis.yaxis, rows), (axis.xaxis, columns)):
        ticks.set_ticks(range(len(names)), names)


def plot_history(losses: Tensor, epoch_ends: Sequence[int], evaluations: Mapping[str, Sequence[float]]) -> Drawing:
    """The loss of every step and its mean per epoch; beside it, where there are any, the evaluations per epoch."""
    drawing, axes = figure(2 if evaluations else 1)
    losses = losses.detach().cpu().double()
    steps = range(1, len(losses) + 1)
    means = [losses[start:end].mean().item() for start, end in pairwise((0, *epoch_ends))]
    axes[0].plot(steps, losses, color=COLORS[0], alpha=0.3, linewidth=0.8, label="each step")
    axes[0].plot(epoch_ends, means, color=COLORS[0], marker=".", label="mean of each epoch")
    axes[0].set(xlabel="step", ylabel="training loss")
    if (losses > 0).all():
        log_scale(axes[0])
    axes[0].legend(frameon=False)
    for (name, numbers), color, dash in zip(evaluations.items(), COLORS * 9, DASHES * 9, strict=False):
        axes[1].plot(range(1, len(numbers) + 1), numbers, color=color, linestyle=dash, marker=".", label=name)
    for axis in axes:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if evaluations:
        axes[1].set(xlabel="epoch", ylabel="evaluation")
        axes[1].legend(frameon=False)
    return drawing


def plot_check(names: Sequence[str], found: Sequence[tuple[str, float, float]], samples: Tensor | None) -> Drawing:
    """The error of every leaf beside what is allowed; and, where a batch disagrees, the error of each sample's gradient.

    `found` are the verdict, the error and what is allowed for each name, `samples` errors of shape (N, names).
    """
    drawing, axes = figure(1 if samples is None else 2, height=1.6 + 0.3 * len(names))
    rows = range(len(names))
    verdicts, errors, allowed = zip(*found, strict=True)
    shown = [error if 0 < error < math.inf else math.nan for error in errors]
    least = min([x for x in (*shown, *allowed) if x > 0] or [1e-16]) / 10
    marks = {"ok": "o", "wrong": "X", "kink": "^", "unreliable": "s"}
    for (verdict, mark), color in zip(marks.items(), (COLORS[0], COLORS[1], COLORS[2], COLORS[6]), strict=True):
        own = [i for i in rows if verdicts[i] == verdict]
        if own:  # what is exactly 0 stands at the left edge, what is infinite at the right
            x = [least if errors[i] == 0 else min(errors[i], 10.0) for i in own]
            axes[0].plot(x, own, mark, color=color, label=verdict)
    axes[0].plot(allowed, rows, "|", color="black", markersize=14, label="allowed")
    axes[0].set(xscale="log", xlim=(least / 2, 20), xlabel="relative error of the gradient", ylim=(len(names) - 0.5, -0.5))
    axes[0].set_yticks(rows, names)
    drawing.legend(frameon=False, fontsize="small", loc="outside lower left", ncols=5)
    if samples is not None:
        heat_map(axes[1], samples, label="relative error", scale="log", columns=names)
        axes[1].set(ylabel="sample")
        for name in axes[1].get_xticklabels():
            name.set(rotation=30, ha="right", rotation_mode="anchor")
    return drawing
