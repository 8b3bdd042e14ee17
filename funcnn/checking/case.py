"""One leaf in question: its gradient, what is known of the right one so far, and the verdict so far."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..report import Finding, Verdict, relative_error, worst_index
from .surface import Surface
from .thresholds import LIMITS
from .together import Together


@dataclass(frozen=True)
class Case:
    """What the witnesses see, and what they have said.

    surface, position   the function in float64 near the point, and which of its leaves this is
    g, r                the gradient and the best reference so far, in float64: whole leaves, or of some `entries`
    allowed, floor      the error that it may have, and that of autograd in this precision
    together            all leaves at this point along the same directions
    finding             what was said of it last; the last word if it is `settled`
    """

    surface: Surface
    position: int
    g: Tensor
    allowed: float
    floor: float
    generator: torch.Generator
    together: Together | None = None
    r: Tensor | None = None
    entries: Tensor | None = None
    finding: Finding | None = None
    settled: bool = False

    @property
    def leaf(self) -> Tensor:
        """The leaf itself."""
        leaf: Tensor = self.surface.leaves[self.position]
        return leaf

    @property
    def large(self) -> bool:
        """Whether entries are too many to be looked at one by one."""
        return self.surface.by_differences and self.surface.size > LIMITS.entry_by_entry

    @property
    def right(self) -> Tensor:
        """The reference, where a witness has brought one."""
        if self.r is None:
            raise LookupError("no witness has brought a reference")
        return self.r

    @property
    def error(self) -> float:
        """|g - r| / max(|g|, |r|)."""
        return relative_error(self.g, self.right)

    def against(self, r: Tensor) -> "Case":
        """The same with another reference."""
        return replace(self, r=r)

    def said(self, verdict: Verdict, error: float, sentence: str = "", allowed: float | None = None) -> "Case":
        """The same with a finding, on which another witness may know better."""
        least = self.allowed if allowed is None else allowed
        return replace(self, finding=Finding(verdict, error, least, self._worst(verdict), diagnosis=sentence))

    def _worst(self, verdict: Verdict) -> tuple[int, ...]:
        if verdict == "ok" or self.r is None or self.r.shape != self.g.shape:
            return ()
        if self.entries is None:
            return worst_index(self.g, self.r)
        place = self.entries[(self.g - self.r).abs().argmax()]
        return tuple(int(i) for i in torch.unravel_index(place, self.leaf.shape))

    def settle(self, verdict: Verdict, error: float, sentence: str = "", allowed: float | None = None) -> "Case":
        """The same with the last word on it."""
        return replace(self.said(verdict, error, sentence, allowed), settled=True)

    def is_now(self, verdict: Verdict) -> bool:
        """Whether that was said of it last."""
        return self.finding is not None and self.finding.verdict == verdict

    @property
    def verdict(self) -> Finding:
        """What was said last, or that it is wrong where nobody has said anything."""
        return self.finding or Finding("wrong", math.inf, self.allowed)
