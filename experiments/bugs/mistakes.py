"""What a mistake is: another backward rule for the same forward rule.

Every catalogue of this package is a table of right rules, and a table of wrong ones that say which of them they replace.
Whatever builds a subject around the right rule builds one around the wrong rule too. So each bug comes with its correct
twin, and how wrong it is can be computed.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from experiments.bugs.subject import Subject
from funcnn import Cause

Rule: TypeAlias = Callable[..., Any]
Planted: TypeAlias = Cause | Literal["kink"]  # the class of a mistake, NONE if it has no name; or that it is none
Mistake: TypeAlias = tuple[str, str, Planted, Rule]  # where, what was done, its class, the wrong rule


class Bug(NamedTuple):
    """A planted bug: its cause, the level at which it is planted, and the builders of the wrong subject and of its twin."""

    cause: Planted
    level: str
    wrong: Callable[[], Subject]
    right: Callable[[], Subject]


def bugs(level: str, plant: Callable[[str, Rule | None], Subject], mistakes: list[Mistake]) -> dict[str, Bug]:
    """The bugs of a catalogue by name; plant(where, None) is the correct subject."""

    def bug(where: str, cause: Planted, rule: Rule) -> Bug:
        return Bug(cause, level, lambda: plant(where, rule), lambda: plant(where, None))

    return {f"{where}: {name}": bug(where, cause, rule) for where, name, cause, rule in mistakes}


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(count: int, classes: int) -> Tensor:
    """Class labels 0, 1, ..., over and over."""
    return torch.arange(count) % classes


def without(g: Tensor, *index: Any) -> Tensor:
    """The gradient with the entries at an index left at 0, as by a loop that begins too late or ends too early."""
    g = g.clone()
    g[index] = 0
    return g


def memory(dy: Tensor) -> Tensor:
    """The numbers as they lie in memory, read in rows: what a kernel sees that takes its argument to be contiguous."""
    numbers = dy.new_empty(0).set_(dy.untyped_storage())
    return numbers[torch.arange(dy.numel()) % len(numbers)].reshape(dy.shape)
