"""Losses that are ratios or likelihoods; v is the upstream gradient of a mean, a single number.

dice            <1 - 2 a / b> over samples, a = sum p y, b = sum p + sum y, p = s(x):  -2 (y - a / b) / b p (1 - p) v / N
gaussian        <s + (m - t)^2 e^-s> / 2:  dm = (m - t) e^-s v / n,  ds = (1 - (m - t)^2 e^-s) v / 2 n
"""

from functools import partial

import torch
from torch import Tensor

from experiments.kernels.kernel import Bug, Kernel, changed, draws, followed

TARGETS = torch.tensor([[1, 0, 1, 1, 0], [0, 0, 1, 0, 1], [1, 1, 1, 0, 0], [0, 1, 0, 0, 0]]).bool()
SEEN = torch.tensor([-1, 0, 2, 1, 3, -2])


def dice(x: Tensor, y: Tensor) -> Tensor:
    """Of logits (N, T)."""
    p = x.sigmoid()
    return (1 - 2 * (p * y).sum(1) / (p + y).sum(1)).mean()


def dice_rule(x: Tensor, y: Tensor, v: Tensor, total: float = 1, twice: float = 2, flat: bool = False) -> Tensor:
    """The path through the sum and the factor 2 stand as in the right rule; flat: without the slope of the sigmoid."""
    p = x.sigmoid()
    y = y.to(p)
    a, b = (p * y).sum(1, keepdim=True), (p + y).sum(1, keepdim=True)
    g = -twice * v * (y - total * a / b) / (b * len(x))
    return g if flat else g * p * (1 - p)


def gaussian(m: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """The negative log-likelihood with log-variances s."""
    return (s + (m - t) ** 2 * (-s).exp()).mean() / 2


def gaussian_rule(
    m: Tensor, s: Tensor, t: Tensor, v: Tensor, one: float = 1, power: float = 1, half: float = 0.5
) -> tuple[Tensor, Tensor]:
    """The 1 and the half of ds, and the power of e^-s in dm stand as in the right rule."""
    n = m.numel()
    return (m - t) * (-s * power).exp() * v / n, half * (one - (m - t) ** 2 * (-s).exp()) * v / n


KERNELS = [
    Kernel(
        "dice",
        dice,
        dice_rule,
        followed(draws((4, 5)), TARGETS),
        [
            Bug("the sum held constant", "term", partial(dice_rule, total=0)),
            Bug("the slope of the sigmoid left out", "slope factor", partial(dice_rule, flat=True)),
            Bug("the factor 2 forgotten", "factor once", partial(dice_rule, twice=1)),
            Bug("summed, not averaged", "count factor", lambda x, y, v: dice_rule(x, y, 4 * v)),
            Bug("ascent in place of descent", "sign", lambda x, y, v: -dice_rule(x, y, v)),
        ],
    ),
    Kernel(
        "gaussian_nll",
        gaussian,
        gaussian_rule,
        followed(draws((5, 6), (5, 6)), SEEN),
        [
            Bug("ds without the normaliser's 1", "term", partial(gaussian_rule, one=0)),
            Bug("dm not divided by the variance", "factor once", partial(gaussian_rule, power=0)),
            Bug("dm divided by the deviation", "factor once", partial(gaussian_rule, power=0.5)),
            Bug("dm towards m", "sign", changed(gaussian_rule, 0, lambda g, *_: -g)),
            Bug("the half of ds forgotten", "factor", partial(gaussian_rule, half=1)),
            Bug("averaged over the rows alone", "count factor", lambda m, s, t, v: gaussian_rule(m, s, t, 6 * v)),
        ],
    ),
]
