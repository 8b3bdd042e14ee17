"""Gradient descent from many starts at once, on random functions: where it ends, and after how many steps.

The functions have curvature 1 at most, so lr = 1 never goes up, and a step is as long as the gradient.
"""

from collections.abc import Iterator
from itertools import repeat
from typing import Any, NamedTuple

import torch
from torch import Tensor

import funcnn as fn

SPREAD = 2.0  # of the starts, a wave's length
STATIONARY = 1e-6  # a gradient this short is taken for 0
REACHED = 1e-6  # and a value this small for the minimum, 0


class Cell(NamedTuple):
    """Of one function: the steps of each start to a stationary point (NaN: not yet), and the values where they ended."""

    steps: list[float]
    values: list[float]

    @property
    def share(self) -> float:
        """The share of the starts that reached the minimum."""
        return sum(value < REACHED for value in self.values) / len(self.values)

    @property
    def median(self) -> float:
        """The median number of steps of those that came to a stationary point."""
        return torch.tensor(self.steps).nanmedian().item()


Cells = dict[tuple[int, int], Cell]  # by dimension and complexity


def lone_share(cells: Cells) -> float:
    """The share of starts in the middle basin of a single wave, over all dimensions."""
    shares = [cell.share for (_, k), cell in cells.items() if k == 1]
    return sum(shares) / len(shares)


def scale(first: int, last: int, factor: int) -> list[int]:
    """The numbers first, first * factor, ... below last, and last."""
    numbers = [last]
    while numbers[0] > first:
        numbers.insert(0, max(n for n in (first * factor**power for power in range(64)) if n < numbers[0]))
    return numbers


def starts(count: int, dimension: int, options: Any) -> Tensor:
    """Points (count, dimension), normally distributed about the minimum."""
    drawn = torch.randn(count, dimension, generator=options.generator(), dtype=torch.float64)
    return SPREAD * drawn.to(**options.tensors)


def descent(objective: fn.Objective, start: Tensor, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Each point (S, n) of gradient descent from S starts, with the lengths (S,) of the gradients that led to it.

    Ends when all of these are short.
    """
    before = start
    for step in fn.train(fn.explicit(objective), fn.sgd(1.0), start, repeat((), steps)):
        lengths = (step.params - before).norm(dim=-1)
        yield step.params, lengths
        if lengths.max() < STATIONARY:
            return
        before = step.params


def descend(objective: fn.Objective, start: Tensor, steps: int) -> Cell:
    """Descends from all starts."""
    ends, first = start, torch.full_like(start[:, 0], torch.nan)
    for count, (points, lengths) in enumerate(descent(objective, start, steps), start=1):
        ends, first = points, torch.where(first.isnan() & (lengths < STATIONARY), count, first)
    return Cell(first.tolist(), [objective.value(x, ()).item() for x in ends])
