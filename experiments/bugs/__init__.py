"""Bugs: a corpus of classic mistakes, a crowd of correct networks, and every gradient checker on both.

A checker that calls everything wrong finds every bug, so detection is shown beside false alarms. How wrong a bug is is
computed against its correct twin; below a relative error of 1e-6 nobody is asked to find it.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import torch

import funcnn as fn
from experiments.bugs import correct
from experiments.bugs.checkers import available, judged, without
from experiments.bugs.corpus import CORPUS
from experiments.bugs.correct import Correct
from experiments.bugs.peers import gradcheck, missing
from experiments.bugs.presentation import draw, observations, table
from experiments.bugs.subject import Subject, true_error
from experiments.bugs.trials import Trial, rows
from experiments.bugs.worth import counted
from experiments.bugs.worth import table as worths
from experiments.core.options import Options
from experiments.core.result import Result
from experiments.core.scene import scene
from experiments.core.timing import Timing, interleaved


@dataclass(frozen=True, kw_only=True)
class Bugs(Options):
    """Sets every gradient checker on planted bugs and on correct networks, in float64 on the CPU whatever --dtype."""

    networks: int = 30
    """Correct networks that our checker sees, of 1 to 100,000 parameters."""
    sample: int = 12
    """Of these, how many of at most 300 parameters the other checkers see."""
    every: int = 8
    """Plants every n-th bug only."""
    without: str = ""
    """A name in fn.WITNESSES or fn.HYPOTHESES that our checker does without, to see what it is worth."""

    FULL = {"networks": 500, "sample": 60, "every": 1}


def run(options: Bugs) -> Result:
    """The planted bugs, the correct subjects, and the time on the benchmark's tiny network."""
    worth, used = Counter[str](), without(options.without)
    with one_thread():
        result = compare(available(**counted(used, worth)), options)
    return replace(result, tables=[*result.tables, worths(used, worth)])


@contextmanager
def one_thread() -> Iterator[None]:
    """Networks as small as these are slower when they are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def compare(found: dict[str, Callable[[Subject], Any]], options: Bugs) -> Result:
    """All checkers on all subjects."""
    planted = [trial for checker, check in found.items() for trial in on_bugs(checker, check, options)]
    right = [trial for checker, check in found.items() for trial in on_correct(checker, check, options)]
    timing = timed(options)
    numbers = {"bugs": [t._asdict() for t in planted], "correct": [t._asdict() for t in right], "seconds": timing.rounds}
    shown = rows(list(found), planted, right)
    return Result(
        "Bugs: which mistakes a gradient check finds, and names",
        f"{len(planted) // len(found)} classic mistakes planted in correct layers, losses, networks and autograd Functions, "
        f"{options.networks} correct random networks, and every correct layer, loss and Function. False alarms of the "
        f"other checkers are over {options.sample} of the small networks.",
        numbers=numbers,
        observations=observations(shown, planted, right, timing, missing()),
        figures={"checkers": draw(shown)},
        tables=[table(shown)],
    )


def on_bugs(checker: str, check: Callable[[Subject], Any], options: Bugs) -> list[Trial]:
    """What a checker says of the planted bugs."""
    return [
        Trial(name, checker, bug.cause, true_error(bug.right(), bug.wrong()), *judged(check, bug.wrong()))
        for name, bug in islice(CORPUS.items(), 0, None, options.every)
    ]


def on_correct(checker: str, check: Callable[[Subject], Any], options: Bugs) -> list[Trial]:
    """What a checker says of the correct networks, all of them or the sample, and of the correct pairs of rules."""
    networks: Iterator[Correct] = map(correct.network, range(options.seed, options.seed + options.networks))
    if checker != "funcnn":
        networks = islice((each for each in networks if each.parameters <= 300), options.sample)
    subjects = [*networks, *correct.pairs(options.every)]
    return [Trial(each.name, checker, "kink" if each.kinks else "", 0.0, *judged(check, each.subject)) for each in subjects]


def timed(options: Bugs) -> Timing:
    """fn.check and gradcheck's slow mode, in turns, on the benchmark's tiny network: 2,410 parameters."""
    objective, params, batch = scene("tiny", options.generator(), torch.float64, "cpu")
    subject = Subject(fn.explicit(objective), (params, batch))
    sides = {
        "fn.check": lambda: fn.check(subject.what, params, batch),
        "gradcheck, slow": partial(gradcheck, subject, fast_mode=False),
    }
    return interleaved(sides, rounds=3, slice_seconds=0.1)
