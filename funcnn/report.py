"""What a check found: one row per leaf, then what is wrong where something is."""

import math
import sys
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

from .causes import Cause, Own
from .errors import InputError, describe

if TYPE_CHECKING:
    from .plots import Drawing

Verdict = Literal["ok", "wrong", "kink", "unreliable"]


@dataclass(frozen=True)
class Finding:
    """What was found of one leaf, or in one trial.

    verdict     "ok"; "wrong"; "kink": there is no gradient here, and this one lies between the one-sided ones;
                "unreliable": what it was compared with says nothing here, and `diagnosis` says why
    error       |g - r| / max(|g|, |r|), Euclidean norms over the leaf, g the gradient and r the reference
    allowed     the error up to which rounding alone may explain it
    worst_index where |g - r| is largest, an index into the leaf
    cause       which mistake it is, "" where no hypothesis fits or none is needed
    diagnosis   a sentence, "" where all is well
    """

    verdict: Verdict
    error: float
    allowed: float = 0.0
    worst_index: tuple[int, ...] = ()
    cause: Cause | Own = Cause.NONE
    diagnosis: str = ""

    def __post_init__(self) -> None:
        """Raises InputError for a verdict that there is not, and for errors that are no numbers."""
        if not isinstance(self.verdict, str) or self.verdict not in get_args(Verdict):
            raise InputError("verdict", describe(self.verdict), f"one of {', '.join(get_args(Verdict))}")
        for place, number in (("error", self.error), ("allowed", self.allowed)):
            if not isinstance(number, Real) or isinstance(number, int) and abs(number) > sys.float_info.max:
                raise InputError(place, describe(number), "a number")


@dataclass(frozen=True)
class Report:
    """The findings by leaf and by trial, and the error of every sample's gradient where the batch disagrees.

    `samples` has shape (N, number of leaves), its columns in the order of `leaves`; it is None where nothing is wrong,
    or no sample can be taken alone. `remarks` are sentences on what the check could not see.
    """

    leaves: dict[str, Finding]
    trials: dict[str, Finding] = field(default_factory=dict)
    samples: Tensor | None = None
    remarks: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong and nothing unreliable. A kink is excused."""
        return all(finding.verdict in ("ok", "kink") for finding in (self.leaves | self.trials).values())

    def __bool__(self) -> bool:
        """Whether all is well, so that `assert check(...)` says what it means."""
        return self.ok

    def __str__(self) -> str:
        """A row for each leaf, and for each trial that failed; then the diagnoses."""
        if not (self.leaves or self.trials):
            return "\n".join(self.remarks)
        shown = self.leaves | {name: trial for name, trial in self.trials.items() if trial.verdict != "ok"}
        if not shown:
            return "\n".join([f"nothing is wrong in {len(self.trials)} trials", *self.remarks])
        width = max(map(len, shown))
        lines = [f"{'':{width}}  verdict     error    allowed  worst at"]
        for name, found in shown.items():
            where = list(found.worst_index) if found.verdict != "ok" and found.worst_index else ""
            row = f"{name:{width}}  {found.verdict:10}  {found.error:<7.1e}  {found.allowed:<7.1e}  {where}"
            lines.append(row.rstrip())
        lines += [f"{name}: {found.diagnosis}" for name, found in shown.items() if found.diagnosis]
        lines += self.remarks
        return "\n".join(lines)

    def plot(self) -> "Drawing":
        """The error of every leaf beside what is allowed and, where there is one, the matrix samples x leaves.

        Of a report without leaves, as that of `audit`, those of the trials.

        Raises:
            InputError: the report has neither.
        """
        from .plots import plot_check

        found = self.leaves or self.trials
        if not found:
            raise InputError("report", "neither leaves nor trials", "something to draw")
        rows = [(finding.verdict, finding.error, finding.allowed) for finding in found.values()]
        drawing: Drawing = plot_check(list(found), rows, self.samples)
        return drawing


def relative_error(g: Tensor, r: Tensor) -> float:
    """|g - r| / max(|g|, |r|). Two zeros agree; what is not finite is infinitely wrong."""
    g, r = g.detach(), r.detach()
    if not (g.isfinite().all() and r.isfinite().all()):
        return math.inf
    largest = max(g.abs().max().item(), r.abs().max().item()) if g.numel() else 0.0
    if largest == 0.0:
        return 0.0
    g, r = g / largest, r / largest  # squares of very small or very large numbers would leave the range
    return float((g - r).norm() / torch.maximum(g.norm(), r.norm()))


def worst_index(g: Tensor, r: Tensor) -> tuple[int, ...]:
    """Where |g - r| is largest; what is not finite comes first."""
    if not g.numel():
        return ()
    distance = (g - r).abs().nan_to_num(nan=math.inf) if g.shape == r.shape else g.abs()
    return tuple(int(i) for i in torch.unravel_index(distance.argmax(), g.shape))


def at(index: tuple[int, ...]) -> str:
    """An index as it is written in code."""
    return f"[{', '.join(map(str, index))}]" if index else "the only entry"
