"""The memory of dY/dX of a dense layer beside that of the products that do without it, in float32.

dY/dX                                              4 (N M) (N D) bytes
dX = dY W^T, dW = X^T dY, db = 1^T dY              4 (N D + D M + M) bytes
"""

from functools import partial
from typing import Any, NamedTuple

import torch

import funcnn as fn
from experiments.core.memory import in_units, memory_scale, peak
from experiments.core.result import Table
from funcnn.plots import COLORS, figure

FORMED = 2**26  # bytes of the largest Jacobian that is formed, to see that it takes what is computed


class Footprint(NamedTuple):
    """Bytes at D = M = width: of dY/dX, computed; at the peak of forming it, where that was done; and of the products."""

    width: int
    jacobian: int
    formed: int | None
    products: int


def footprint(batch: int, width: int) -> Footprint:
    """The layer's backward pass at N = batch, and where it is no larger than FORMED its Jacobian by torch.func.jacrev."""
    layer, ones = fn.dense(width, width), partial(torch.ones, dtype=torch.float32)
    params, x = {"w": ones(width, width), "b": ones(width)}, ones(batch, width)
    residuals, size = layer.forward(params, x)[1], 4 * (batch * width) ** 2
    formed = peak(partial(torch.func.jacrev(partial(fn.apply, layer, params)), x)) if size <= FORMED else None
    return Footprint(width, size, formed, peak(partial(layer.backward, residuals, x)))


def widths(largest: int) -> list[int]:
    """The powers of two from 16 on, and the largest."""
    return [*(2**k for k in range(4, 14) if 2**k < largest), largest]


def table(batch: int, footprints: list[Footprint]) -> Table:
    """A row for each width."""
    rows = [
        [width, in_units(size), in_units(formed) if formed else "not formed", in_units(products), f"{size / products:,.0f}"]
        for width, size, formed, products in footprints
    ]
    columns = ["D = M", "$dY/dX$, computed", "forming it, peak measured", "products, peak measured", "computed / products"]
    return Table(f"Memory in float32, N = {batch}", columns, rows)


def draw(batch: int, footprints: list[Footprint]) -> tuple[Any, str]:
    """Bytes against the width."""
    drawing, (axis,) = figure(1)
    at = [point.width for point in footprints]
    axis.plot(at, [point.jacobian for point in footprints], "--", color=COLORS[1], label="dY/dX, computed")
    formed = [(point.width, point.formed) for point in footprints if point.formed]
    if formed:
        axis.plot(*zip(*formed, strict=True), "s", color=COLORS[1], label="forming dY/dX by jacrev, measured peak")
    axis.plot(at, [point.products for point in footprints], "o-", color=COLORS[0], label="products, measured peak")
    for size, color in ((footprints[-1].jacobian, COLORS[1]), (footprints[-1].products, COLORS[0])):
        axis.annotate(in_units(size), (at[-1], size), (-6, 6), textcoords="offset points", ha="right", color=color)
    axis.set_xscale("log", base=2)
    axis.set_xticks(at, at)
    memory_scale(axis)
    axis.margins(y=0.12)
    axis.set(xlabel="features D = outputs M", ylabel=f"memory for N = {batch}, float32")
    axis.legend(frameon=False)
    return drawing, "The memory of the generalized Jacobian $dY/dX$ of a dense layer, and of the products that replace it."
