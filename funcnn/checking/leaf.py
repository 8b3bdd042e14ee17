"""The verdict on one leaf: a gradient g, a reference r, and the surface on which they can be told apart."""

import math
from typing import NamedTuple

from torch import Tensor

from ..report import Finding, at, relative_error, worst_index
from .entries import FINE, central, nearest_subgradient
from .orders import Judgement, judge
from .surface import Surface

FLOORS = 20  # between 1.2 noise floors, where right gradients lie, and 300, where real mistakes begin
GROSS = 0.1  # an error that no finer reference explains
SEEN = 1e-6  # a share that no verdict passes over


class Compared(NamedTuple):
    """The finding, not yet explained, and the gradient beside what it was finally compared with.

    Both are whole leaves or, where `entries` says so, some of their entries.
    """

    finding: Finding
    g: Tensor
    r: Tensor
    entries: Tensor | None = None


def compare(surface: Surface, position: int, g: Tensor, r: Tensor, allowed: float) -> Compared:
    """Compares the leaf at a position, in float64."""
    error = relative_error(g, r)
    if error <= allowed:
        return Compared(Finding("ok", error, allowed), g, r)
    worst = worst_index(g, r)
    if not g.isfinite().all():
        return Compared(Finding("wrong", math.inf, allowed, worst), g, r)
    if not r.isfinite().all():
        sentence = f"the reference is not finite at {at(worst)}: a step from there leaves the domain of the function"
        return Compared(Finding("unreliable", error, allowed, worst, diagnosis=sentence), g, r)
    if surface.by_differences and error < GROSS:
        r = min(r, _finer(surface, position), key=lambda r: relative_error(g, r))
        error = relative_error(g, r)
        if error <= allowed:
            return Compared(Finding("ok", error, allowed), g, r)
    return _disputed(surface, position, g, r, allowed)


def _finer(surface: Surface, position: int) -> Tensor:
    if surface.exact_gradient is not None:
        return surface.exact_gradient[position]
    probe = surface.probes[position]
    return central(probe, FINE, order=4).mean(1).reshape(probe.leaf.shape)


def _disputed(surface: Surface, position: int, g: Tensor, r: Tensor, allowed: float) -> Compared:
    error, worst = relative_error(g, r), worst_index(g, r)
    judgement = _along_the_residual(surface, position, g, r)
    left = abs(judgement.left) / max(g.norm().item(), r.norm().item())
    if judgement.says == "hidden" or (judgement.says == "right" and surface.by_differences and not left <= SEEN):
        return Compared(_hidden(surface, position, g, r, allowed), g, r)
    if judgement.says == "right" and surface.by_differences:
        return Compared(Finding("ok", left, max(left, allowed)), g, r)
    if judgement.says == "right":
        orders = f"with it subtracted, they shrink as h^{judgement.odd:.2g} along a line of steps h"
        sentence = f"the values side with this gradient and not with the reference: {orders}"
        return Compared(Finding("unreliable", error, allowed, worst, diagnosis=sentence), g, r)
    if judgement.says == "kink":
        norm = max(g.norm().item(), r.norm().item())
        nearest = nearest_subgradient(surface, position, g, r, allowed * norm / (2 * math.sqrt(g.numel())))
        error = (g - nearest).norm().item() / norm
        if error <= max(allowed, SEEN):
            sentence = f"the function has a kink, as at {at(worst)}, and the gradient lies between the one-sided derivatives"
            return Compared(Finding("kink", error, allowed, worst, diagnosis=sentence), g, nearest)
        r, worst = nearest, worst_index(g, nearest)
    elif error < GROSS and _by_rounding(surface, position, g, r):
        return Compared(_hidden(surface, position, g, r, allowed), g, r)
    return Compared(Finding("wrong", error, allowed, worst), g, r)


def _along_the_residual(surface: Surface, position: int, g: Tensor, r: Tensor) -> Judgement:
    residual = g - r
    direction = residual / residual.abs().max()
    direction /= direction.norm()
    scale = max(1.0, (surface.leaves[position] * direction).norm().item()) / direction.abs().max().item()
    slope, other = ((x * direction).sum().item() for x in (g, r))
    return judge(surface.along(position, direction), scale, slope, other)


def _by_rounding(surface: Surface, position: int, g: Tensor, r: Tensor) -> bool:
    """Whether rounding the operands anew explains the difference, as where large terms cancel and nothing is left."""
    return float((g - r).norm()) <= FLOORS * surface.roundings[position]


def _hidden(surface: Surface, position: int, g: Tensor, r: Tensor, allowed: float) -> Finding:
    """Differences cannot tell. What an exact source confirms, and what rounding alone makes differ, agrees."""
    error, worst = relative_error(g, r), worst_index(g, r)
    exact = surface.exact_gradient
    if exact is not None and _by_rounding(surface, position, g, exact[position]):
        return Finding("ok", error, error)
    if surface.derived is not None and relative_error(g, surface.derived[position]) <= allowed:
        return Finding("ok", relative_error(g, surface.derived[position]), allowed)
    sizes = f"the gradient and the reference have norms {g.norm():.1e} and {r.norm():.1e}"
    sentence = f"{sizes}, and rounding a value of {surface.center:.3g} hides what is between them at every step"
    return Finding("unreliable", error, allowed, worst, diagnosis=sentence)
