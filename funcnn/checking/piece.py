"""A small piece of large inputs, on which a rule is tried where a trial at full size costs much.

An axis of n entries is cut to ceil(n / f), or to 4 if that is less, with one factor f = 2, 4, 8, ... for all inputs, so that
axes which match still match, and multiples stay multiples. What is an index, i < n, becomes floor(i / f) < ceil(n / f).
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..report import Finding, Report
from .thresholds import LIMITS

LEAST = 4  # entries that are left of an axis


def piece(operands: list[Any]) -> list[Any] | None:
    """The piece that is small enough, or else the smallest one; None where no axis can be cut."""
    lengths = {n for x in operands if isinstance(x, Tensor) for n in x.shape}
    found, factor = None, 2
    while max(lengths, default=0) >= LEAST * factor and (found is None or numbers(found) > LIMITS.piece):
        found = [_cut(x, factor, lengths) for x in operands]
        factor *= 2
    return found


def numbers(operands: list[Any]) -> int:
    """How many floating numbers there are in all."""
    return sum(x.numel() for x in operands if isinstance(x, Tensor) and (x.is_floating_point() or x.is_complex()))


def _cut(x: Any, factor: int, lengths: set[int]) -> Any:
    def shorter(n: int) -> int:
        return max(-(-n // factor), min(n, LEAST))

    if isinstance(x, int) and not isinstance(x, bool) and x in lengths:
        return shorter(x)
    if not isinstance(x, Tensor):
        return x
    first = x[tuple(slice(shorter(n)) for n in x.shape)].clone()
    indices = not (x.is_floating_point() or x.is_complex() or x.dtype == torch.bool)
    return first // factor if indices and x.numel() and x.max() >= LEAST * factor else first


def joined(here: Report, there: Report, shapes: str) -> Report | None:
    """The leaves as they are at full size, all else as it is on a piece; None where the piece says less, or otherwise."""
    if not here.leaves.keys() <= there.leaves.keys():
        return None
    pairs = {path: (leaf, there.leaves[path]) for path, leaf in here.leaves.items()}
    if any(small.verdict != "ok" and leaf.verdict != "wrong" for leaf, small in pairs.values()):
        return None
    leaves = {path: _told(*pair) for path, pair in pairs.items()}
    remark = f"The gradient was compared at full size; all else was tried on a piece of the inputs, {shapes}."
    return Report(there.leaves | leaves, there.trials, None, (*here.remarks, *there.remarks, remark))


def _told(leaf: Finding, small: Finding) -> Finding:
    """A wrong leaf with the cause that was found on the piece."""
    if leaf.verdict != "wrong" or small.verdict != "wrong":
        return leaf
    return replace(leaf, cause=small.cause, diagnosis=f"in the piece, {small.diagnosis}")
