"""How far a loop is, shown while it runs: the one place in the library that looks at a clock."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
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
# Seconds. The loss is read when it is drawn and no more often: that makes an accelerator wait.
BETWEEN_FRAMES, BETWEEN_LINES = 0.1, 60.0


class Passed(NamedTuple):
    """How far a loop is: items so far, of how many, the last one, and the seconds that they took."""

    done: int
    total: int | None
    last: Any
    seconds: float

    def __str__(self) -> str:
        """Such as step 120 of 1000, loss 0.2312, 0:01:03 left."""
        value = getattr(self.last, "value", None)
        loss = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
        said = f"{self.done}" if self.total is None else f"{self.done} of {self.total}"
        if isinstance(loss, float):
            said = f"step {said}, loss {loss:.4g}"
        if self.total is None or not self.done:
            return said
        left = round(self.seconds / self.done * max(0, self.total - self.done))
        return f"{said}, {timedelta(seconds=left)} left"


def progress(iterable: Iterable[T], total: int | None = None) -> Iterator[T]:
    """The same items; on stderr: how many have passed, the loss where they are those of `train`, and the time left.

    For whatever takes long: `progress(train(...), total=1000)`, `fit(..., epochs=progress(range(30)))`. A terminal shows a
    bar that vanishes at the end; a notebook or a pipe a line after 1, 2, 4, ... seconds, then every minute, and one at the
    end; a file nothing. Of two, one inside the other, a terminal shows the outer. `total` is how many there will be; None
    asks the iterable.

    Raises:
        InputError: it is no iterable, or total is no positive integer.
    """
    if not isinstance(iterable, Iterable):
        raise InputError("progress(iterable)", describe(iterable), "an iterable, such as range(30) or train(...)")
    count = length_hint(iterable) or None if total is None else check_count("total", total)
    return _shown(iterable, count)


def _shown(iterable: Iterable[T], total: int | None) -> Iterator[T]:
    stream = sys.stderr
    terminal = stream is not None and stream.isatty()
    if stream is None or hasattr(stream, "rich_proxied_file") or _in_file(stream):
        yield from iterable
        return
    start, now = monotonic(), Passed(0, total, None, 0.0)
    due, drawn = _next(0.0, terminal), now
    with (_bar if terminal else _lines)(stream, now) as draw:
        try:
            for done, item in enumerate(iterable, start=1):
                yield item
                now = Passed(done, total, item, monotonic() - start)
                if now.seconds >= due:
                    draw(now)
                    due, drawn = _next(now.seconds, terminal), now
        finally:
            if now is not drawn:
                draw(now)


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
    from rich.progress import BarColumn, Progress, TextColumn

    columns = BarColumn(), TextColumn("{task.description}", markup=False)
    # What is printed meanwhile goes above the bar, but into a file where stdout is one.
    own: Any = {"transient": True, "auto_refresh": False, "redirect_stdout": sys.stdout is not None and sys.stdout.isatty()}
    with Progress(*columns, console=Console(file=stream), **own) as bar:
        task = bar.add_task(str(start), total=start.total)
        yield lambda now: bar.update(task, completed=now.done, description=str(now), refresh=True)


@contextmanager
def _lines(stream: Any, _: Passed) -> Iterator[Callable[[Passed], None]]:
    yield lambda now: print(now, file=stream, flush=True)
