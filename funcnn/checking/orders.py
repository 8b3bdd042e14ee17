"""Orders: what a function shows of its derivative along a line, whatever the step.

Two gradients disagree; which of them is right? No tolerance can say, but the way in which differences shrink can. Along a
direction d let phi(h) = f(w + h d), and let g be the gradient in question:

    odd(h)  = (phi(h) - phi(-h)) / 2 - h <g, d>      shrinks as h^3 if g is right, as h if it is wrong
    even(h) = (phi(h) + phi(-h)) / 2 - phi(0)        shrinks as h^2 if f is smooth, as h at a kink, whatever g is

Both are measured on a ladder of steps, h_k = h_0 4^-k over eight decades. At the top the higher orders cover the lower,
at the bottom rounding covers all, so the verdict is read at the smallest step at which the disagreement would still stand
out of the noise. If the odd part is not there, g is right, and the other gradient was not. If there is no such
step, nobody can tell.

The direction must not be g: where g is 0, or at right angles to its own error, it is blind. The residual g - r sees all of
it. The noise is that of the values themselves, from their fourth differences over steps so small that nothing else is
left in them (More & Wild, "Estimating computational noise", SIAM J. Sci. Comput. 33, 2011).
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from .digits import rounding

EPS = torch.finfo(torch.float64).eps
RATIO, RUNGS = 4.0, 14
STANDS_OUT = 16  # times the noise
CLOSE = 1e-11  # steps whose values differ by rounding and by a straight line, and fourth differences see no line


Values: TypeAlias = Callable[[Float[Tensor, " P"]], Float[Tensor, " P"]]  # offsets h to phi(h)


class Judgement(NamedTuple):
    """What differences say of a gradient g that disagrees with a reference, and the orders by which they say it.

    `left` is the derivative along the line less <g, d>, at the `step` where the verdict was read.
    """

    says: Literal["right", "wrong", "kink", "hidden"]
    odd: float
    even: float
    left: float
    step: float = math.nan


def judge(values: Values, scale: float, slope: float, other: float) -> Judgement:
    """Whether <g, d> = slope is the derivative, where another source says that <r, d> = other is.

    `scale` is a step that changes much. Only two rungs of the ladder are climbed, for the verdict is read at one.
    """
    center, noise = _noise(values, scale)
    h = _rungs(scale)
    claimed = h * abs(slope - other)
    rung = RUNGS
    while rung > 1:
        visible = (claimed[:rung] > STANDS_OUT * noise).nonzero()
        if not len(visible):
            break
        rung = max(1, int(visible[-1]))
        odd, even, noises = _parts(values, h[rung - 1 : rung + 1], center, noise, scale, shortened=True)
        noise = noises[1].item()
        if claimed[rung] > STANDS_OUT * noise:
            return _verdict(odd - h[rung - 1 : rung + 1] * slope, even, noise, claimed[rung].item(), h[rung].item())
    return Judgement("hidden", math.nan, math.nan, math.nan)


def _verdict(odd: Tensor, even: Tensor, noise: float, claimed: float, h: float) -> Judgement:
    odd_order, even_order = _order(odd, noise), _order(even, noise)
    if 0.5 < even_order < 1.5:
        says: Literal["right", "wrong", "kink", "hidden"] = "kink"
    elif 0.5 < odd_order < 1.5:  # where the slope has a kink, as relu(w)^2 at 0, it is 2 if g is right
        says = "wrong"
    else:  # below 1/2 it is noise that does not shrink
        says = "right" if abs(odd[1]) < claimed / 2 else "hidden"
    return Judgement(says, odd_order, even_order, (odd[1] / h).item(), h)


def derivative(values: Values, scale: float) -> tuple[float, float, float]:
    """The derivative along a line, its uncertainty and its step, from the whole ladder: where extrapolation is best.

    With S(h) = odd(h) / h = phi' + O(h^2) while nothing is subtracted, T = (16 S(h/4) - S(h)) / 15 = phi' + O(h^4).
    """
    center, noise = _noise(values, scale)
    h = _rungs(scale)
    odd, _, noises = _parts(values, h, center, noise, scale)
    slopes = odd / h
    finer = (RATIO**2 * slopes[1:] - slopes[:-1]) / (RATIO**2 - 1)
    doubt = 2 * noises[1:] / h[1:]
    uncertainty = (finer - slopes[1:]).abs() + doubt
    for k in range(len(finer)):  # what shorter steps would show, and do not, is no slope, as on a staircase
        denied = (slopes[1 + k :] - finer[k]).abs() - STANDS_OUT * doubt[k:]
        uncertainty[k] += denied.nan_to_num(nan=0.0).amax().clamp(min=0)
    best = int(uncertainty.nan_to_num(nan=math.inf).argmin())
    return finer[best].item(), uncertainty[best].item(), h[best + 1].item()


def _rungs(scale: float) -> Tensor:
    return 0.1 * scale * RATIO ** -torch.arange(RUNGS, dtype=torch.float64, device="cpu")


def _parts(
    values: Values, h: Tensor, center: Tensor, noise: float, scale: float, shortened: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Both parts and the noise at each step, which is more than that at the point itself where f and its slope are 0 there.

    It has two causes, the rounding of the values and that of the points, which are not quite h away.
    """
    ends = torch.cat([h, -h])
    both = values(ends)
    up, down = both.chunk(2)
    odd, even = (up - down) / 2, (up + down) / 2 - center
    noises = EPS * torch.maximum(torch.maximum(up.abs(), down.abs()), scale * even.abs() / h)
    if shortened:
        noises = torch.maximum(noises, rounding(values, ends, both).reshape(2, -1).amax(0))
    return odd, even, noises.clamp(min=noise)


def _noise(values: Values, scale: float) -> tuple[Tensor, float]:
    """phi(0), and the standard deviation of the rounding of phi."""
    center, *close = values(CLOSE * scale * torch.arange(10, dtype=torch.float64, device="cpu"))
    fourth = torch.stack(close).diff(n=4)  # of independent errors of variance s^2 it has variance 70 s^2
    lost = rounding(values, torch.zeros(1, dtype=torch.float64, device="cpu"), center[None]).item()
    return center, max((fourth.square().mean() / 70).sqrt().item(), EPS * abs(center.item()), lost)


def _order(part: Tensor, noise: float) -> float:
    """The power of h with which a part shrinks from one rung to the next; infinite where it is not to be seen."""
    if not abs(part[1]) > STANDS_OUT / 2 * noise:
        return math.inf
    return (part[0] / part[1]).abs().log().item() / math.log(RATIO)
