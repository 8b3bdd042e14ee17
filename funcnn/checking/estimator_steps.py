"""How an estimate by difference quotients goes with their half-step c, draw by draw.

The same directions, t times as long, are those of the half-step t c. A quotient of two sides is even in it,

    (f(w + c u) - f(w - c u)) / (2 c) = u . gradient + c^2 / 6 D^3 f[u, u, u] + ...,

whatever the function, and so its bias has c^2 in it and no c. One side has c / 2 u . H u beside that: an error that has no
mean where u is as likely as -u, so that no number of draws would show it, but is odd. And what has two functions in its two
values grows as 1 / c. So t = 1 and -1 are compared, and longer ones; and between what short steps round away and what long
ones leave out lies the length where two steps agree best, which is that of all other draws.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .estimator_source import CPU, Estimator

FEW = 32  # draws of a law that holds for each
RUNGS = [4.0**j for j in range(-6, 7)]  # times as long as its own


class Law(NamedTuple):
    """How far off it is and how far it may be; and what helps to name it.

    hint    independence: the lag; samples: the ratio of the means; step: the power of c that the odd part goes with; second
            moment: the factor by which the estimates that are meant are these, if there is one
    times   samples: the ratio of the mean squares of the errors; step: what 4^6 times as short a step makes of the estimates
    """

    error: float
    allowed: float
    hint: float = math.nan
    times: float = math.nan

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong."""
        return self.error <= self.allowed


class Steps(NamedTuple):
    """The same few draws with directions of several lengths.

    law      whether the estimates are even in the length
    again    whether the same draw gives the same estimate twice
    fine     the length where the estimate is nearest to its limit, beside its own
    rough    how far it is from that, draw by draw, as a share of the gradient and of the length of a direction
    bias     the mean of what is left out at its own length, as a share of the gradient
    """

    law: Law
    again: bool
    fine: float
    rough: float
    bias: float


def steps(e: Estimator, seed: int) -> Steps:
    """What becomes of the same draws with other lengths of their directions."""
    forth = [e.ask(seed, stretch=t)(FEW)[1] for t in RUNGS]
    own = RUNGS.index(1.0)
    again = e.ask(seed)(FEW)[1]
    apart = torch.tensor([_apart(x, y) for x, y in zip(forth, forth[1:], strict=False)], device=CPU)
    fine = int(apart.argmin())
    rough = float((forth[fine] - forth[fine + 1]).norm(dim=1).max() / (e.g.norm() * math.sqrt(len(e.g))))
    left_out = (forth[own] - forth[fine]).mean(0).norm() / e.g.norm()
    odd, whole = [], []
    for t, x in zip(RUNGS[own:], forth[own:], strict=True):
        back = e.ask(seed, stretch=-t)(FEW)[1]
        if x.isfinite().all() and back.isfinite().all():
            odd.append(float((x - back).norm()))
            whole.append(float(x.norm() + back.norm()))
    shares = [a / b if b else 0.0 for a, b in zip(odd, whole, strict=True)]
    order = math.log(odd[1] / odd[0], 4) if len(odd) > 1 and min(odd[:2]) > 0 else math.nan
    law = Law(max(shares, default=0.0), e.tolerance, order, float(forth[0].norm() / forth[own].norm()))
    same = bool((forth[own] - again).norm() <= e.tolerance * again.norm())
    return Steps(law, same, RUNGS[fine], rough, float(left_out))


def _apart(x: Tensor, y: Tensor) -> float:
    """How far two lengths disagree; those that are too short to move anything agree on nothing."""
    distance = float((x - y).norm())
    return distance if math.isfinite(distance) and x.any() and y.any() else math.inf
