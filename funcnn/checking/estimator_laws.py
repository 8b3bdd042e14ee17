"""What else must hold of the draws of an estimator: three laws, whatever its mean.

    independence   draws come in no order: of the differences D of pairs drawn together at random, each is as likely as its
                   negative, and so is every product D_t . D_{t + lag}; those of one lag are independent given their sizes
    samples        an average over K directions is distributed as the mean of K estimates of one: whatever number is made of
                   either, such as log |g - gradient|^2, the difference of two is as likely as its negative
    second moment  by the law of the directions, with s = (g . gradient) / |gradient|^2:
        gaussian     K s and K |g - s gradient|^2 / (s |gradient|^2) are chi^2 of K and of d - 1 degrees of freedom,
                     independent, so that E |g|^2 = (1 + (d + 1) / K) |gradient|^2; K = 1: d + 2
        rademacher   K = 1: g = u (u . gradient) with u the signs of its entries, so that |g|^2 = d (g . gradient)
        orthogonal   |g|^2 = d / K (g . gradient), so that E |g - gradient|^2 = (d / K - 1) |gradient|^2

The first two need no moment of anything: n signs are random and nothing else is. |g|^2 of Gaussian directions has a kurtosis
that no mean of squares survives; the two chi^2, which make it up, become uniform numbers by their distribution function, and
of these the mean and the mean square are known. The two last are no laws of chance: they hold draw by draw.
"""

import math

import torch
from torch import Tensor

from .bets import balanced, farthest
from .estimator_source import CPU, Estimator
from .estimator_steps import FEW, Law

SKETCH = 64  # sums of entries with random signs, whose products are those of the estimates on the average
KEPT = 1024  # draws that are looked at for an order
GROUPS = 64  # of draws whose mean square is one number
TINY = 1e-290


def repeats(e: Estimator, count: int, odds: float) -> float:
    """How many draws of so many are equal to another one, once in exp(odds) runs; no bound where no law is claimed.

    Two seeds of 32 bits are the same with probability 2^-32, and d signs, up to the sign of all, with 2^(1 - d). Where p
    pairs are expected, a or more come with probability p^a / a!.
    """
    alike = {"gaussian": 2.0**-32, "rademacher": 2.0**-32 + 2.0 ** (1 - len(e.g))}.get(e.directions, 1.0)
    pairs = count**2 / 2 * alike
    a = 1
    while a < count and a * math.log(pairs) - math.lgamma(a + 1) > -odds:
        a += 1
    return a


def independence(estimates: Tensor, odds: float) -> Law:
    """The lag at which the draws are most alike, each being alike by chance with probability exp(-odds) / lags at most."""
    x = _sketch(estimates[:KEPT])
    half = len(x) // 2
    other = torch.randperm(half, generator=_seeded(), device=CPU)
    d = x[:half] - x[half : 2 * half][other]
    products, place = d @ d.T, torch.arange(half, device=CPU)
    apart = (place - place[:, None]).abs().flatten()
    of_size, sums, squares = (
        d.new_zeros(half).scatter_add_(0, apart, x.flatten()) / 2
        for x in (products.diagonal().sum() / half * torch.ones_like(products), products, products.square())
    )
    may = balanced(squares, odds + math.log(half))
    worst = int((sums / may).abs().nan_to_num()[1:].argmax()) + 1
    size = float(of_size[worst])
    if not size > 0:
        return Law(0.0, 0.0)  # it always says the same
    return Law(float(sums[worst].abs()) / size, float(may[worst]) / size, worst)


def samples(e: Estimator, seed: int, draws: int, odds: float, stretch: float) -> Law:
    """Averages over K samples beside means of K estimates of one; the error is the log of the ratio of what they come to."""
    k = max(e.samples or 1, 2)
    count = GROUPS * max(1, draws // (2 * GROUPS))
    together = e.ask(seed, k, stretch)(count)[1]
    alone = e.ask(seed + 1, 1, stretch)(count * k)[1].reshape(count, k, -1).mean(1)
    off = _sizes(e, together) - _sizes(e, alone)
    may = balanced(off.square().sum(1), odds + math.log(2)) / GROUPS
    means = off.mean(1)
    worst = int((means.abs() / may).nan_to_num().argmax())
    ratio = float(together.mean(0) @ e.g / (alone.mean(0) @ e.g))
    times = float((together - e.g).square().sum() / (alone - e.g).square().sum())
    return Law(float(means[worst].abs()), float(may[worst]), ratio, times)


def _sizes(e: Estimator, x: Tensor) -> Tensor:
    """The logs of |g - gradient|^2 and of |g|^2 / (g . gradient), each a mean over a group, (2, GROUPS)."""

    def mean(y: Tensor) -> Tensor:
        return (y.reshape(GROUPS, -1).mean(1).abs() + TINY).log()

    return torch.stack([mean((x - e.g).square().sum(1)), mean(x.square().sum(1)) - mean(x @ e.g)])


def second_moment(e: Estimator, estimates: Tensor, seed: int, odds: float, stretch: float) -> Law:
    """Whether the draws have the law that they claim. What is given are draws of K samples."""
    k, d, length = e.samples or 1, len(e.g), e.g.norm()
    if e.directions == "rademacher":
        x = e.ask(seed, 1, stretch)(FEW)[1]
        meant = x.sign() * (x.sign() @ e.g)[:, None]
        return _each(x, meant, length * math.sqrt(d), e.tolerance)
    if e.directions == "orthogonal":
        x = estimates[:FEW]
        square, inner = x.square().sum(1), x @ e.g * d / k
        return _each(square[:, None], inner[:, None], length.square() * d / k, e.tolerance)
    s = estimates @ e.g / length.square()
    across = (estimates - s[:, None] * e.g).square().sum(1) / (s * length.square())
    uniform = [_chi_square(k * s, k)] + ([_chi_square(k * across, d - 1)] if d > 1 else [])
    x = torch.stack([y for u in uniform for y in (u - 0.5, (u - 0.5).square() - 1 / 12)], 1)
    variance = x.new_tensor([1 / 12, 1 / 180]).repeat(len(uniform))
    may = farthest(x.square().sum(0), variance, len(x), odds + math.log(4)) / len(x) + e.tolerance
    off = x.mean(0).abs()
    worst = int((off / may).argmax())
    return Law(float(off[worst]), float(may[worst]))


def second(e: Estimator) -> float:
    """E |g|^2 / |gradient|^2 by the law of the directions."""
    d, k = len(e.g), e.samples or 1
    return {"gaussian": 1 + (d + 1) / k, "rademacher": 1 + (d - 1) / k, "orthogonal": d / k}[e.directions]


def _each(x: Tensor, meant: Tensor, size: Tensor, tolerance: float) -> Law:
    """The largest error of a few draws that are known but for rounding."""
    factor = float((x * meant).sum() / meant.square().sum())
    error, rest = (float((x - times * meant).norm(dim=1).max() / size) for times in (1.0, factor))
    return Law(error, tolerance, factor if rest <= tolerance * abs(factor) else math.nan)


def _chi_square(x: Tensor, degrees: int) -> Tensor:
    """The distribution function of chi^2, of what is negative 0."""
    x = x.clamp(min=0).nan_to_num(0.0)
    below: Tensor = torch.special.gammainc(x.new_tensor(degrees / 2), x / 2)
    return below


def different(estimates: Tensor) -> int:
    """How many of the draws are; slopes that are rounded to 0 make equal ones of different directions."""
    some = estimates.any(1)
    return int((~some).sum()) + len(torch.unique(_sketch(estimates[some]), dim=0))


def _sketch(estimates: Tensor) -> Tensor:
    """A few sums of entries with random signs."""
    d = estimates.shape[1]
    if d <= SKETCH:
        return estimates
    generator = _seeded()
    which = torch.randint(SKETCH, (d,), generator=generator, device=CPU)
    signs = 2 * torch.randint(2, (d,), generator=generator, device=CPU) - 1
    return estimates.new_zeros(len(estimates), SKETCH).index_add_(1, which, estimates * signs)


def _seeded() -> torch.Generator:
    return torch.Generator(CPU).manual_seed(0)
