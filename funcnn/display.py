"""How far a loop is, shown while it runs: the one place in the library that looks at a clock."""

import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from io import TextIOWrapper
from operator import length_hint
from stat import S_ISREG
from time import monotonic
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

from .errors import InputError, check_count, describe

T = TypeVar("T")
S = TypeVar("S")
# Seconds. The loss is read when it is drawn and no more often: that makes an accelerator wait.
BETWEEN_FRAMES, BETWEEN_LINES = 0.1, 60.0


class Passed(NamedTuple):
    """How far a loop is.

    done, total    items so far, and of the present one the share that is done; of how many
    last           the last item, or of a loop inside of it the last one there
    seconds        that they took, all but the first `before`, which were passed over
    steps          how far the loop inside is
    """

    done: float
    total: int | None
    last: Any = None
    seconds: float = 0.0
    before: int = 0
    steps: "Passed | None" = None

    @property
    def so_far(self) -> str:
        """Such as 120 of 1000."""
        return f"{int(self.done)}" if self.total is None else f"{int(self.done)} of {self.total}"

    def __str__(self) -> str:
        """Such as step 120 of 1000, loss 0.2312, 0:01:03 left; or 2 of 30, step 120 of 1000, loss 0.2312, 0:21:03 left."""
        value = getattr(self.last, "value", None)
        loss = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
        said = [self.so_far]
        if self.steps is not None:
            said.append(f"step {self.steps.so_far}")
        elif isinstance(loss, float):
            said = [f"step {self.so_far}"]
        if isinstance(loss, float):
            said.append(f"loss {loss:.4g}")
        if self.total is not None and self.done > self.before:
            left = self.seconds / (self.done - self.before) * max(0, self.total - self.done)
            said.append(f"{timedelta(seconds=round(left))} left")
        return ", ".join(said)


class Place:
    """Where a loop is, and what shows it, which is nothing before it begins and where nobody looks."""

    def __init__(self, now: Passed) -> None:
        """At its beginning."""
        self.now, self.show = now, _unseen


class Progress(Iterator[T]):
    """The items of a loop, which is shown while it runs."""

    def __init__(self, iterable: Iterable[T], total: int | None) -> None:
        """No item was asked for yet."""
        self.place = Place(Passed(0, total))
        self.items = _shown(iterable, self.place)  # which knows nothing of this object, and ends with it

    def __next__(self) -> T:
        """The next item."""
        return next(self.items)

    def close(self) -> None:
        """Ends the loop where it is."""
        self.items.close()

    def inside(self, iterable: Iterable[S], total: int | None = None) -> Iterator[S]:
        """The same items, of a loop inside of this one, such as the steps of an epoch: shown with it, with their loss."""
        place, done = self.place, int(self.place.now.done)
        if place.now.steps is None:
            place.now = place.now._replace(before=done)
        for count, item in enumerate(iterable, start=1):
            yield item
            share = min(1.0, count / total) if total else 0.0
            place.show(place.now._replace(done=done + share, last=item, steps=Passed(count, total)))


def _unseen(now: Passed) -> None:
    """Nobody looks."""


def progress(iterable: Iterable[T], total: int | None = None) -> Progress[T]:
    """The same items; on stderr: how many have passed, the loss where they are those of `train`, and the time left.

    For whatever takes long: `progress(train(...), total=1000)`, `fit(..., epochs=progress(range(30)))`, which has the steps
    of each epoch and their loss, too. In a loop of one's own over epochs that is `for step in epochs.inside(train(...))`. A
    terminal shows a bar that vanishes at the end; a notebook or a pipe a line after 1, 2, 4, ... seconds, then every minute,
    and one at the end; a file nothing. Of two, one inside the other, a terminal shows the outer. `total` is how many there
    will be; None asks the iterable.

    Raises:
        InputError: it is no iterable, or total is no positive integer.
    """
    one = getattr(iterable, "shape", None) == ()  # a tensor without axes, which calls itself an iterable
    if one or not isinstance(iterable, Iterable):
        raise InputError("progress(iterable)", describe(iterable), "an iterable, such as range(30) or train(...)")
    count = length_hint(iterable) or None if total is None else check_count("total", total)
    return Progress(iterable, count)


def _shown(iterable: Iterable[T], place: Place) -> Generator[T]:
    stream = sys.stderr
    terminal = stream is not None and stream.isatty()
    if stream is None or hasattr(stream, "rich_proxied_file") or _in_file(stream):
        yield from iterable
        return
    start, due, drawn = monotonic(), _next(0.0, terminal), place.now
    with (_bar if terminal else _lines)(stream, place.now) as draw:

        def show(now: Passed) -> None:
            nonlocal due, drawn
            place.now = now._replace(seconds=monotonic() - start)
            if place.now.seconds >= due:
                draw(place.now)
                due, drawn = _next(place.now.seconds, terminal), place.now

        place.show = show
        try:
            for done, item in enumerate(iterable, start=1):
                yield item
                last = item if place.now.steps is None else place.now.last
                show(place.now._replace(done=done, last=last))
        finally:
            place.show = _unseen
            if (place.now.done, place.now.steps) != (drawn.done, drawn.steps):
                draw(place.now)


def _in_file(stream: Any) -> bool:
    """Whether what is written stays in a file. What a notebook puts there may know of one too, and shows it all the same."""
    try:
        return isinstance(stream, TextIOWrapper) and S_ISREG(os.fstat(stream.fileno()).st_mode)
    except OSError:
        return False


def _next(seconds: float, terminal: bool) -> float:
    """When to draw again: a bar as often as eyes can follow, lines ever more seldom, since they stay."""
    return seconds + BETWEEN_FRAMES if terminal else max(1.0, seconds + min(seconds, BETWEEN_LINES))


@contextmanager
def _bar(stream: Any, start: Passed) -> Iterator[Callable[[Passed], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = BarColumn(), TextColumn("{task.description}", markup=False)
    # What is printed meanwhile goes above the bar, but into a file where stdout is one.
    own: Any = {"transient": True, "auto_refresh": False, "redirect_stdout": sys.stdout is not None and sys.stdout.isatty()}
    with Bar(*columns, console=Console(file=stream), **own) as bar:
        task = bar.add_task(str(start), total=start.total)
        yield lambda now: bar.update(task, completed=now.done, description=str(now), refresh=True)


@contextmanager
def _lines(stream: Any, _: Passed) -> Iterator[Callable[[Passed], None]]:
    yield lambda now: print(now, file=stream, flush=True)
