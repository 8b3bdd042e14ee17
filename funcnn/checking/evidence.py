"""What a diagnosis has to go by: a wrong gradient, the right one, and whatever else is known of them."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from typing import TypeAlias

import torch
from torch import Tensor

from ..causes import Cause
from ..report import at
from .formula import Formula

ROUNDED = 1e-9
Said: TypeAlias = tuple[Cause, str]  # what a hypothesis says: the name of the mistake, and the sentence


@dataclass(frozen=True)
class Evidence:
    """A gradient g of a leaf that is wrong, what it should be, and what else is known, all in float64.

    `samples` are both for every sample, with a leading N, and `predictions()` what known mistakes elsewhere in the network
    would make of this leaf: (cause, sentence, prediction). `counts` are what N may be, `each` what one of N is called,
    `alone` says that all other leaves are right, `name` how an entry is written, and `formula` what the rule is of, where
    that can be read.
    """

    g: Tensor
    r: Tensor
    allowed: float
    counts: tuple[int, ...] = (1,)
    each: str = "sample"
    alone: bool = False
    samples: tuple[Tensor, Tensor] | None = None
    predictions: Callable[[], list[tuple[Cause, str, Tensor]]] = list
    name: Callable[[tuple[int, ...]], str] = at
    formula: Formula | None = None

    def fits(self, p: Tensor) -> bool:
        """Whether the prediction p explains g."""
        left = (self.g - p).norm()
        explains = left <= 1e-3 * (self.g - self.r).norm()
        return bool(explains or (left <= self.allowed * self.g.norm() and left <= 0.1 * (self.g - self.r).norm()))

    @property
    def right(self) -> bool:
        """Whether there is nothing wrong."""
        return bool((self.g - self.r).norm() <= max(self.allowed, ROUNDED) * torch.maximum(self.g.norm(), self.r.norm()))

    @property
    def factor(self) -> float:
        """The c for which |g - c r| is least, <g, r> / <r, r>, or 0 where r is 0."""
        square = self.r.square().sum()
        return ((self.g * self.r).sum() / square).item() if square > 0 else 0.0


Hypothesis: TypeAlias = Callable[[Evidence], Iterator[tuple[str, str]]]  # ours say what is Said, others' a name of their own


def careful(hypothesis: Hypothesis) -> Hypothesis:
    """The same hypothesis, silent where an operation refuses what it is tried on, such as a matrix without an inverse."""

    @wraps(hypothesis)
    def told(e: Evidence) -> Iterator[tuple[str, str]]:
        found = hypothesis(e)
        while (said := _next(found)) is not None:
            yield said

    return told


def _next(found: Iterator[tuple[str, str]]) -> tuple[str, str] | None:
    with suppress(RuntimeError, ValueError, TypeError, IndexError, NotImplementedError), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of what an operation is tried on
        return next(found, None)
    return None
