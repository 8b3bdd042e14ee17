"""Wild: mistakes that stood in backward passes of real projects, and every gradient checker on them.

Planted mistakes are those that one thinks of. These were made by others, passed review and tests, and were used; each is
here as a formula beside the right one, with its source. Where it had a place to hide, it is looked at there as well.
"""

from dataclasses import dataclass

from experiments.bugs import one_thread
from experiments.bugs.checkers import available
from experiments.bugs.peers import missing
from experiments.core.options import Options
from experiments.core.result import Result
from experiments.wild import acquitted, elementwise, maxima, structured
from experiments.wild.presentation import draw, observations, table
from experiments.wild.trials import Checkers, Trial, trials

MISTAKES = [*elementwise.CASES, *structured.CASES, *maxima.CASES]
CASES = [*MISTAKES, *acquitted.CASES]


@dataclass(frozen=True, kw_only=True)
class Wild(Options):
    """Sets every gradient checker on the mistakes of real projects, in float64 on the CPU whatever --dtype and --device."""

    every: int = 1
    """Looks at every n-th mistake only."""


def run(options: Wild) -> Result:
    """Every case, right and wrong, at both points."""
    with one_thread():
        return compare(available(), options)


def compare(checkers: Checkers, options: Wild) -> Result:
    """All checkers on all cases."""
    cases = CASES[:: options.every]
    found: list[Trial] = [trial for case in cases for trial in trials(case, checkers)]
    wrong = sorted((case for case in cases if case.wrong), key=lambda case: case.authors is None)
    return Result(
        "Wild: mistakes of real projects, found and named",
        f"{len(wrong)} backward rules as they stood in {len({case.source.partition('#')[0] for case in wrong})} projects, "
        f"{sum(case.authors is not None for case in wrong)} of them also where nothing shows; beside them the right rules, "
        f"and {len(cases) - len(wrong)} that only look wrong. sum().backward() is the test that everybody writes: against "
        "autograd, to three digits, with an upstream gradient of ones.",
        numbers={"sources": {case.name: case.link for case in cases}, "trials": [trial._asdict() for trial in found]},
        observations=observations(wrong, found, missing()),
        figures={"mistakes": draw(wrong, found)},
        tables=[table(wrong, found)],
    )
