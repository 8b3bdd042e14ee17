"""How a case ends."""

import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

import funcnn as fn
from experiments.fuzz.agreement import Untold, difference
from experiments.fuzz.case import Case, children, replaced
from experiments.fuzz.hostile import Hostile
from experiments.fuzz.snapshot import bits, world

WELL = ("right", "refused", "their own")
SECONDS = 60  # that a case may take: what is compiled takes seconds, more on a busy machine; most take milliseconds


class Ending(NamedTuple):
    """`how` is one of WELL or names a failure; `why` is the detail, and `where` the line of funcnn behind it."""

    how: str
    why: str = ""
    where: str = ""


class TooLong(BaseException):
    """The time of a case is over."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises TooLong inside after so many seconds, as soon as Python comes to run again."""

    def over(*_: Any) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def judged(case: Case, seconds: float = SECONDS) -> Ending:
    """Runs the case, and says how it ended."""
    inside = _inside(case.arguments)
    hostile = [x for x in inside if isinstance(x, Hostile)]
    drawing = [(x, x.get_state()) for x in inside if isinstance(x, torch.Generator) and x.device.type == "cpu"]
    kept, around = bits(case.arguments), world()
    result, error = None, None
    try:
        with limited(seconds):
            result = case.call.run(*case.arguments)
    except BaseException as caught:
        if isinstance(caught, (KeyboardInterrupt, SystemExit)):
            raise
        error = caught
    if world() != around:
        return Ending("changed what is global", "", case.name)
    called = [x for x in hostile if x.called]
    changed = bits(case.arguments) != kept
    if changed and not (called and error is not None):  # the user's own function changed it, and something is said
        return Ending("changed an argument", "", case.name)
    if error is not None:
        return _of_error(case, error, called)
    if called and (result is False or case.call.trusts or all(x.unseen for x in called)):
        return Ending("right")  # a check that objects, or what the function says
    if called:
        return Ending("took what a hostile function does", "", case.name)
    for generator, state in drawing:
        generator.set_state(state)
    try:
        with limited(seconds):
            truth = case.call.truth(*case.arguments)
    except Untold:
        return Ending("right")
    except (Exception, TooLong) as none:
        return Ending("a number where there is none", f"{type(none).__name__}: {none}".splitlines()[0][:200], case.name)
    coarse = max(
        (torch.finfo(x.dtype).eps for x in inside if isinstance(x, torch.Tensor) and x.is_floating_point()), default=0
    )
    how = case.call.power, case.call.spreads, coarse
    wrong = difference(result, truth, *how)
    if not wrong or _is_decided_by_rounding(case, drawing, truth, how):
        return Ending("right")
    return Ending("a wrong number", wrong, case.name)


def _is_decided_by_rounding(case: Case, drawing: list[tuple[torch.Generator, Any]], truth: Any, how: Any) -> bool:
    """Whether the truth is another where the last digits of the arguments are, as at a softmax of scores of 1e60."""
    noise = torch.Generator().manual_seed(0)

    def moved(x: Any) -> Any:
        if isinstance(x, torch.Tensor) and x.is_floating_point():
            return x * (1 + 2 * torch.finfo(x.dtype).eps * torch.randn(x.shape, generator=noise, dtype=x.dtype))
        for key, child in children(x):
            x = replaced(x, (key,), moved(child))
        return x

    for generator, state in drawing:
        generator.set_state(state)
    try:
        return bool(difference(case.call.truth(*moved(case.arguments)), truth, *how))
    except Exception:
        return False


def _of_error(case: Case, error: BaseException, called: list[Hostile]) -> Ending:
    why, where = f"{type(error).__name__}: {error}".splitlines()[0][:200], _line(error)
    if isinstance(error, TooLong):
        return Ending("no end", why, where)
    if isinstance(error, fn.InputError):
        if not isinstance(error.place, str) or not error.place:
            return Ending("no place", why, where)
        refused = "refused what is legitimate" if case.legitimate and not called else "refused"
        return Ending(refused, why, where)
    if isinstance(error, MemoryError) or ("can't allocate memory" in str(error) and not _theirs(error)):
        return Ending("too much memory", why, where)
    if any(x.own is not None and isinstance(error, x.own) for x in called) or isinstance(error, case.call.own):
        return Ending("their own", why)
    if _theirs(error):
        return Ending("their own", why)
    return Ending("a raw error", why, where)


def _theirs(error: BaseException) -> bool:
    """Whether a function among the arguments raised it: its frame comes after the library's."""
    frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    ours = [index for index, name in enumerate(frames) if "/funcnn/" in name]
    return bool(ours) and any("/experiments/fuzz/" in name for name in frames[ours[-1] :])


def _line(error: BaseException) -> str:
    """The last line of funcnn on the way to an error."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/funcnn/" in frame.filename]
    return f"{frames[-1].filename.rpartition('/funcnn/')[2]}:{frames[-1].name}" if frames else "outside"


def _inside(arguments: Any, limit: int = 100) -> list[Any]:
    """Everything in the arguments that is no container, however they are nested."""
    found, left, seen = [], [arguments], set()
    while left and limit:
        value = left.pop()
        parts = children(value)
        if not parts:
            found.append(value)
        elif id(value) not in seen:
            seen.add(id(value))
            left += [part for _, part in parts]
            limit -= 1
    return found
