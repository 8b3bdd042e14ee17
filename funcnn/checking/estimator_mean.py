"""Is the mean of an estimator the gradient? Draws suggest in what direction it may be off, others measure how far it is.

A bias shows soonest along its own direction: all d together would drown it in d times the variance. Leaf by leaf there are
three to look along, the first two also for all leaves together:

    along        the reference itself: factors and signs
    suggested    the mean error of the first quarter of the draws, which the others have not seen: any bias there is
    worst        the entry where that is largest beside its own deviation

Along each, v, the errors of the later draws have mean 0 if the estimator is right, and `bets` says how far their sum may be
from 0, given a bound of their variance. K directions of a claimed law, averaged, have at most

    (|g|^2 |v|^2 + (g . v)^2) / K,

which is that of Gaussian ones, and more than that of +1 and -1 or of orthogonal ones. Where no law is claimed the second
quarter bounds it, for estimates whose kurtosis along v is what is said at most: for Gaussian directions 15, along g itself.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .bets import farthest, variance_bound
from .estimator_source import Estimator

LEAST = 256  # draws
WORST = 2  # the place of the worst entry among the three


class Means(NamedTuple):
    """How far the mean is off along each direction, as a share of the gradient of its leaf, and how far it may be.

    leaves, leaves_may   along the three of every leaf, (L, 3)
    whole, whole_may     along the two of all leaves together, (2,)
    value, value_may     of the value, ()
    entries              the worst entry of each leaf
    """

    leaves: Tensor
    leaves_may: Tensor
    whole: Tensor
    whole_may: Tensor
    value: Tensor
    value_may: Tensor
    entries: list[int]


def bounds(leaves: int) -> int:
    """How many bounds are taken: of the sums along all directions and of the value, and of the variances."""
    return 2 * (3 * leaves + 3)


def least(known: bool, kurtosis: float, odds: float) -> int:
    """How many draws it takes: where no law is claimed, fewer would not bound a variance."""
    return LEAST if known else max(LEAST, 4 * math.ceil(2.5 * kurtosis * odds))


def means(e: Estimator, values: Tensor, estimates: Tensor, kurtosis: float, odds: float) -> Means:
    """What n draws say of the mean, where each bound may fail with probability exp(-odds)."""
    quarter, leaves = len(values) // 4, len(e.shapes)
    errors = estimates - e.g
    v, entries = _directions(e, errors[:quarter])
    x = torch.cat([errors @ v.T, (values - e.value)[:, None]], 1)
    if e.directions:
        squared = e.g.square().sum() * v.square().sum(1) + (v @ e.g).square()
        variance = torch.cat([squared / (e.samples or 1), (e.tolerance * _size(e.value, e.g)).square()[None]])
        later = x[quarter:]
    else:
        variance = variance_bound(x[quarter : 2 * quarter].square().mean(0), quarter, kurtosis, odds)
        later = x[2 * quarter :]
    may = farthest(later.square().sum(0), variance, len(later), odds) / len(later)
    unit = torch.cat([v.norm(dim=1) * _lengths(e), _size(e.value, e.g)[None]])
    unit = torch.where(unit > 0, unit, 1.0)
    off, may = later.mean(0).abs() / unit, may / unit + e.tolerance
    return Means(
        off[: 3 * leaves].reshape(leaves, 3),
        may[: 3 * leaves].reshape(leaves, 3),
        off[3 * leaves : -1],
        may[3 * leaves : -1],
        off[-1],
        may[-1],
        entries,
    )


def _directions(e: Estimator, errors: Tensor) -> tuple[Tensor, list[int]]:
    """Three vectors for every leaf, then two, (3 L + 2, d), and the worst entry of each leaf, counted in it."""
    bias, deviation = errors.mean(0), errors.square().mean(0).sqrt()
    beside = (bias / deviation).nan_to_num().abs().split(e.sizes)
    rows, entries, start = [], [], 0
    for size, part in zip(e.sizes, beside, strict=True):
        own = torch.zeros_like(e.g)
        own[start : start + size] = 1
        worst = torch.zeros_like(e.g)
        entries.append(int(part.argmax()) if size else 0)
        worst[start + entries[-1]] = 1
        rows += [own * e.g, own * bias, own * worst]
        start += size
    return torch.stack([*rows, e.g, bias]), entries


def _lengths(e: Estimator) -> Tensor:
    """The length of the gradient that each direction is a share of: of its leaf, or of all where that is 0."""
    whole = e.g.norm()
    own = torch.stack([part.norm() for part in e.g.split(e.sizes)]).repeat_interleave(3)
    return torch.cat([torch.where(own > 0, own, whole), whole.expand(2)])


def _size(value: Tensor, g: Tensor) -> Tensor:
    """What a value is small beside."""
    return torch.maximum(value.abs(), g.norm())
