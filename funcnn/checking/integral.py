"""A gradient integrates to the values: the theorem that tells a wrong gradient from one whose values are hard to read.

Along a line phi(s) = f(w + s d), whatever kinks it has, and however many,

    phi(h) - phi(-h) = int_-h^h <g(w + s d), d> ds

if g is the gradient of f almost everywhere. The integral is that of K points in the middle of as many pieces. It is off by
no more than the length of a piece times the variation of the integrand, as this is seen at the points. Where both sides
differ by more than that, and than their rounding, g is the gradient of something else. Where they do not, whatever
differences over such steps say of the point itself is no word against g: the gradient changes between them.
"""

import torch
from torch import Tensor

from .. import tree
from .case import Case
from .digits import rounding
from .thresholds import EPS, LIMITS
from .trials import attempt, copied


def contradicted(case: Case, direction: Tensor, h: float) -> bool:
    """Whether the values at -h and h are not those of an integral of g, or no word on g: it is another beside the point."""
    if case.floor or not case.surface.by_differences or _jumps(case, direction) or case.surface.casts:
        return True
    ends = torch.tensor([h, -h], dtype=torch.float64, device="cpu")
    along = case.surface.along(case.position, direction)
    values = along(ends)
    lost = (rounding(along, ends, values) + EPS * values.abs()).sum().item()
    piece = 2 * h / LIMITS.pieces
    slopes = [_slope(case, direction, -h + (k + 0.5) * piece) for k in range(LIMITS.pieces)]
    if any(slope is None for slope in slopes):
        return True
    integrand = torch.tensor(slopes, dtype=torch.float64, device="cpu")
    doubt = piece * integrand.diff().abs().sum().item() + LIMITS.sure * lost
    return not abs(values[0].item() - values[1].item() - piece * integrand.sum().item()) <= doubt


def _jumps(case: Case, direction: Tensor) -> bool:
    """Whether a few roundings beside the point g is another."""
    size = max(8 * EPS * case.leaf.abs().max().item(), LIMITS.tiny)
    beside = [_gradient(case, direction, side * size / direction.abs().max().item()) for side in (1, -1)]
    return any(g is None or (g - case.g).norm() > LIMITS.gross * case.g.norm() for g in beside)


def _slope(case: Case, direction: Tensor, s: float) -> float | None:
    g = _gradient(case, direction, s)
    return None if g is None else (g * direction).sum().item()


def _gradient(case: Case, direction: Tensor, s: float) -> Tensor | None:
    """The claimed one of the leaf at w + s d, or None where the function refuses."""
    subject, leaves = case.surface.subject, list(case.surface.leaves)
    leaves[case.position] = leaves[case.position] + s * direction
    found = attempt(subject.claimed.value_and_grad, case.surface.unflatten(leaves), copied(subject.batch))
    return None if found is None else tree.leaves(found[1])[case.position].detach()
