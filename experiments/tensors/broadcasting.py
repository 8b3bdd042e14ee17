"""Broadcasting beside explicit repetition: axes that are missing in front, or have length 1, are repeated to fit."""

from itertools import product
from typing import Any

import torch

from funcnn.plots import COLORS, figure


def equalities(generator: torch.Generator, **tensors: Any) -> dict[str, bool]:
    """Whether an operation on shapes that differ equals, to the bit, that on tensors explicitly repeated to one shape."""
    x, row, column, images, channel = (
        torch.randn(shape, generator=generator, dtype=torch.float64).to(**tensors)
        for shape in ((4, 3), (3,), (4, 1), (2, 5, 6, 3), (3,))
    )
    pairs = {
        "(4, 3) + (3,)": (x + row, x + row.repeat(4, 1)),
        "(4, 3) * (4, 1)": (x * column, x * column.repeat(1, 3)),
        "(4, 1) - (3,)": (column - row, column.repeat(1, 3) - row.repeat(4, 1)),
        "(2, 5, 6, 3) * (3,)": (images * channel, images * channel.repeat(2, 5, 6, 1)),
        "(4, 3) / ()": (x / row[0], x / row[0].repeat(4, 3)),
    }
    return {shapes: torch.equal(broadcast, repeated) for shapes, (broadcast, repeated) in pairs.items()}


def draw() -> tuple[Any, str]:
    """Two sums as on a blackboard: what is repeated is pale."""
    drawing, axes = figure(6, rows=2, width=8, height=4.6)
    row, column = torch.arange(1, 4), 10 * torch.arange(1, 5)[:, None]
    x = column + torch.arange(3)
    once = {"row": torch.eye(4)[:, :1].expand(4, 3), "column": torch.eye(3)[:1].expand(4, 3), "all": torch.ones(4, 3)}
    panels = (
        ("X (4, 3)", x, "all"),
        ("+  b (3,)", row.expand(4, 3), "row"),
        ("=  X + b (4, 3)", x + row, "all"),
        ("c (4, 1)", column.expand(4, 3), "column"),
        ("+  b (3,)", row.expand(4, 3), "row"),
        ("=  c + b (4, 3)", column + row, "all"),
    )
    corners = torch.tensor([[-1, 1, 1, -1], [-1, -1, 1, 1]]) * 0.46
    for axis, (title, matrix, real) in zip(axes, panels, strict=True):
        for i, j in product(range(4), range(3)):
            there = bool(once[real][i, j])
            axis.fill(j + corners[0], i + corners[1], color=COLORS[5], alpha=0.6 if there else 0.15)
            axis.text(j, i, f"{matrix[i, j]}", ha="center", va="center", alpha=1 if there else 0.45)
        axis.set(xlim=(-0.6, 2.6), ylim=(3.6, -0.6), aspect="equal")
        axis.set_title(title, fontsize="medium")
        axis.axis("off")
    return drawing, "Broadcasting: a tensor with a missing axis, or one of length 1, acts as if it were repeated (pale)."
