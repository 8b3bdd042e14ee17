"""What was found, in numbers: a trial for each checker and subject, and a row of shares for each checker."""

from statistics import median
from typing import NamedTuple

TO_BE_FOUND = 1e-6  # the relative error from which a bug must be detected in float64


class Trial(NamedTuple):
    """One checker on one subject: its cause ("" where none is meant to fit, or it is correct), and what was said of it."""

    name: str
    checker: str
    cause: str
    error: float
    verdict: str
    causes: tuple[str, ...]
    seconds: float

    @property
    def due(self) -> bool:
        """Whether it must be detected. At a kink any value between both slopes is right: there is nothing to detect."""
        return self.error >= TO_BE_FOUND and self.cause != "kink"

    @property
    def alarmed(self) -> bool:
        """Whether the checker objects."""
        return self.verdict in ("detected", "refused")

    @property
    def named(self) -> bool:
        """Whether its cause is among those that the checker named."""
        return self.cause in self.causes


class Row(NamedTuple):
    """A checker in numbers, as (how many, of how many)."""

    checker: str
    all_bugs: tuple[int, int]
    due: tuple[int, int]
    smooth: tuple[int, int]
    kinks: tuple[int, int]
    refused: int
    seconds: float


def rows(names: list[str], planted: list[Trial], right: list[Trial]) -> list[Row]:
    """A row for each checker. Detected is what it calls wrong; what it refuses to check is counted apart."""

    def row(checker: str) -> Row:
        bugs, fine = ([t for t in trials if t.checker == checker] for trials in (planted, right))

        def share(trials: list[Trial], verdicts: tuple[str, ...]) -> tuple[int, int]:
            return sum(t.verdict in verdicts for t in trials), len(trials)

        return Row(
            checker,
            share(bugs, ("detected",)),
            share([t for t in bugs if t.due], ("detected",)),
            share([t for t in fine if t.cause != "kink"], ("detected", "refused")),
            share([t for t in fine if t.cause == "kink"], ("detected", "refused")),
            sum(t.verdict == "refused" for t in bugs),
            median(t.seconds for t in bugs),
        )

    return [row(checker) for checker in names]
