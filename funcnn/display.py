"""How far a loop is, shown while it runs."""

import sys
from collections.abc import Iterable, Iterator
from operator import length_hint
from typing import TypeVar

from .errors import InputError, check_count, describe

T = TypeVar("T")


def progress(iterable: Iterable[T], total: int | None = None) -> Iterator[T]:
    """The same items, with a bar on a terminal that says how many have passed; nothing is shown in a pipe.

    For whatever takes long: `progress(train(...), total=1000)`, `fit(..., epochs=progress(range(30)))`. `total` is how many
    there will be; None asks the iterable.

    Raises:
        InputError: it is no iterable, or total is no positive integer.
    """
    if not isinstance(iterable, Iterable):
        raise InputError("progress(iterable)", describe(iterable), "an iterable, such as range(30) or train(...)")
    count = length_hint(iterable) or None if total is None else check_count("total", total)
    return _shown(iterable, count)


def _shown(iterable: Iterable[T], total: int | None) -> Iterator[T]:
    if not sys.stderr.isatty():
        yield from iterable
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(iterable, total=total, description="", console=Console(stderr=True), transient=True)
