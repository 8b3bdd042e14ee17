"""The verdict on one leaf: a gradient g, a reference r, and the surface on which they can be told apart."""

import math
from typing import NamedTuple

from torch import Tensor

from .entries import FINE, central, nearest_subgradient
from .orders import Judgement, judge
from .precision import FLOORS
from .report import Finding, at, relative_error, worst_index
from .surface import Surface

COARSE = 1e-3  # a share of the gradient that differences must be able to see


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
    if g.shape != r.shape:
        return Compared(Finding("wrong", math.inf, allowed), g, r)
    error = relative_error(g, r)
    if error <= allowed:
        return Compared(Finding("ok", error, allowed), g, r)
    if not g.isfinite().all():
        return Compared(Finding("wrong", math.inf, allowed, worst_index(g, r)), g, r)
    if surface.by_differences:
        exact = surface.exact_gradient
        finer = (
            central(surface.probes[position], FINE, order=4).mean(1).reshape(r.shape) if exact is None else exact[position]
        )
        r = min(r, finer, key=lambda r: relative_error(g, r))
        error = relative_error(g, r)
        if error <= allowed:
            return Compared(Finding("ok", error, allowed), g, r)
    return _disputed(surface, position, g, r, allowed)


def _disputed(surface: Surface, position: int, g: Tensor, r: Tensor, allowed: float) -> Compared:
    error, worst = relative_error(g, r), worst_index(g, r)
    judgement = _along_the_residual(surface, position, g, r)
    orders = f"the odd part shrinks as h^{judgement.odd:.2g}, the even part as h^{judgement.even:.2g}"
    if judgement.says == "right" and surface.by_differences:
        left = abs(judgement.left) / max(g.norm().item(), r.norm().item())
        if not g.any() or left <= COARSE:
            return Compared(Finding("ok", left, max(left, allowed)), g, r)
        return Compared(_hidden(surface, position, g, r, allowed), g, r)
    if judgement.says == "right":
        sentence = f"the values side with this gradient and not with the reference: {orders}, with both gradients subtracted"
        return Compared(Finding("unreliable", error, allowed, worst, diagnosis=sentence), g, r)
    if judgement.says == "hidden":
        return Compared(_hidden(surface, position, g, r, allowed), g, r)
    if judgement.says == "kink":
        norm = max(g.norm().item(), r.norm().item())
        nearest = nearest_subgradient(surface, position, g, r, allowed * norm / (2 * math.sqrt(g.numel())))
        error = (g - nearest).norm().item() / norm
        if error <= max(allowed, 1e-6):  # as exact as differences from one side are
            sentence = f"at {at(worst)} the function has a kink ({orders}), and the gradient lies between both sides"
            return Compared(Finding("kink", error, allowed, worst, diagnosis=sentence), g, nearest)
        r, worst = nearest, worst_index(g, nearest)
    return Compared(Finding("wrong", error, allowed, worst), g, r)


def _along_the_residual(surface: Surface, position: int, g: Tensor, r: Tensor) -> Judgement:
    residual = g - r
    direction = residual / residual.abs().max()
    direction /= direction.norm()
    scale = max(1.0, (surface.leaves[position] * direction).norm().item()) / direction.abs().max().item()
    slope, other = ((x * direction).sum().item() for x in (g, r))
    return judge(surface.along(position, direction), scale, slope, other)


def _hidden(surface: Surface, position: int, g: Tensor, r: Tensor, allowed: float) -> Finding:
    """Differences cannot tell. Zeros, and gradients that rounding alone makes differ, agree."""
    error, worst = relative_error(g, r), worst_index(g, r)
    if surface.exact is None and not g.any():
        return Finding("ok", 0.0, allowed)
    if surface.exact is not None and (g - r).norm().item() <= FLOORS * surface.roundings[position]:
        return Finding("ok", error, error)
    sizes = f"the gradient and the reference have norms {g.norm():.1e} and {r.norm():.1e}"
    sentence = f"{sizes}, and rounding a value of {surface.center:.3g} hides what is between them at every step"
    return Finding("unreliable", error, allowed, worst, diagnosis=sentence)
