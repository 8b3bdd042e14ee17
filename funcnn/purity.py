"""Functions that leave their arguments as they are: torch counts how often a tensor was written to."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from torch import Tensor

from .errors import InputError, called
from .operands import flatten

VERSION = attrgetter("_version")


class Unwritten:
    """A block that writes to none of some tensors. Raises InputError, naming the function, at the end of one that does."""

    __slots__ = ("before", "place", "tensors")

    def __init__(self, place: str, tensors: list[Any]) -> None:
        """What is called in the block, and what it must not write to; what is no tensor is left out."""
        self.place, self.tensors = place, tensors

    def __enter__(self) -> None:
        """Counts."""
        self.before = _versions(self.tensors)

    def __exit__(self, kind: Any, *_: Any) -> None:
        """Counts again, unless there is an error already."""
        if kind is None and _versions(self.tensors) != self.before:
            raise InputError(self.place, "a function that writes to its arguments", "one that leaves them as they are")


def _versions(tensors: list[Any]) -> list[int]:
    """How often each was written to; nothing of inference tensors, which do not count."""
    try:
        return list(map(VERSION, tensors))
    except (RuntimeError, AttributeError):  # inference tensors, or what are none
        return [x._version for x in tensors if isinstance(x, Tensor) and not x.is_inference()]


def unharmed(place: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """As `called`, of a function that must leave its arguments as they are; a record is known to."""
    if isinstance(function, tuple):
        return called(place, function, *arguments)
    with Unwritten(place, flatten(place, arguments)[0]):
        return called(place, function, *arguments)
