"""Random directions: a few for each leaf say whether it is right, and in large leaves they find what is not.

Along a direction z of independent normal numbers the error e = g - r of a leaf shows as <e, z>, which is normal with
standard deviation |e|. The mean square of k probes is |e|^2 chi^2_k / k, so an error of c times the threshold is missed with
probability

    P(chi^2_k < k / c^2) = gamma(k/2, k / (2 c^2)) / Gamma(k/2)           k = 4, c = 10: 2.0e-4, c = 100: 2.0e-8

whatever the number of entries. So a leaf whose 8 probes agree ten times as well as they must is right, and no entry is
looked at: an error of what is allowed is missed with probability 1e-7, one of ten times that with 1e-15. Where a small
leaf fails, every entry is differenced.

Where a leaf of a large model fails, the very direction that showed it finds the entry. <e, z> is a sum over entries, so
the half of z that keeps the larger part of it is halved again, log2 of the number of entries times. What that entry
contributes is subtracted, and the next one is looked for.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ..providers.differences import CENTRAL, quotients
from .case import Case
from .orders import derivative
from .thresholds import LIMITS
from .together import directions_at


def screened(case: Case) -> float:
    """The error of a leaf in 8 directions, by differences of one step: a share of the gradient."""
    leaf = case.leaf
    h = LIMITS.step * max(1.0, leaf.abs().max().item() if leaf.numel() else 1.0)
    slopes: list[float] = []
    misses: list[float] = []
    count = directions_at(case.surface.size)
    for z in directions(case, count if case.large else 1, 1 if case.large else count):
        along = case.surface.moved_along({case.position: z})
        slope = quotients(along, leaf.new_zeros(len(z)), h, CENTRAL)
        slopes += slope.tolist()
        misses += ((z * case.g).reshape(len(z), -1).sum(1) - slope).tolist()
    size = max(case.g.norm().item(), rms(slopes))
    return rms(misses) / size if size else 0.0


def directions(case: Case, groups: int, together: int) -> list[Tensor]:
    """Normal numbers, so many at once."""
    drawn = (
        torch.randn((together, *case.leaf.shape), generator=case.generator, dtype=torch.float64, device="cpu")
        for _ in range(groups)
    )
    return [z.to(case.leaf) for z in drawn]


def unseen(case: Case) -> Case | None:
    """A gradient of 0 that larger steps than differences take show to be wrong; None where they see nothing either.

    A slope of less than a rounding of the value in each small step is no slope to them, so that a leaf that was forgotten
    would pass for one that does not matter. What no step would show is torch's to say, where that is not rounding itself.
    """
    z = torch.randn(case.g.shape, generator=case.generator, dtype=torch.float64, device="cpu").to(case.g)
    slope, uncertainty, _ = derivative(case.surface.along(case.position, z), 1 / z.abs().max().item())
    if abs(slope) > LIMITS.sure * uncertainty:
        return case.against(z * (slope / z.square().sum())).settle("wrong", 1.0)
    if case.surface.plain_gradients is None:
        return None
    own, noise = case.surface.plain_gradients[case.position], LIMITS.noise * case.surface.spreads[case.position]
    if own.norm() <= noise or not LIMITS.sure * uncertainty >= (own * z).sum().abs() > 0:
        return None
    return case.against(own).settle("wrong", 1.0)


class Probes(NamedTuple):
    """What the directions showed: the size of the gradient, of its error and of what differences see; the worst of them."""

    size: float
    error: float
    resolution: float
    about: float
    worst: tuple[Tensor, float, float] | None


def probed(case: Case) -> Probes:
    """A leaf of a large model along 4 directions, each by the step that sees best."""
    flat, resolution, worst = case.g.flatten(), 0.0, None
    slopes: list[float] = []
    misses: list[float] = []
    for _ in range(LIMITS.probes):
        z = torch.randn(len(flat), generator=case.generator, dtype=torch.float64, device="cpu").to(case.g.device)
        along = case.surface.along(case.position, z.reshape(case.g.shape))
        slope, uncertainty, h = derivative(along, 1 / z.abs().max().item())
        miss = (z @ flat).item() - slope
        slopes, misses, resolution = [*slopes, slope], [*misses, miss], max(resolution, 3 * uncertainty)
        if abs(miss) >= max(map(abs, misses)):
            worst = z, miss, h
    error, own = rms(misses), max(rms(slopes), rms([s + m for s, m in zip(slopes, misses, strict=True)]))
    return Probes(max(flat.norm().item(), rms(slopes)), error, resolution, error / own if own else 0.0, worst)


def guilty(case: Case, found: Probes) -> Case:
    """The case with some entries of the leaf, those that are wrong among them, beside their derivatives."""
    if found.worst is None:
        return case
    flat = case.g.flatten()
    entries = _bisect(case, flat, *found.worst, found.resolution)
    some = torch.randint(len(flat), (LIMITS.sampled,), generator=case.generator, device="cpu").to(flat.device)
    index = torch.cat([entries, some]).unique()
    r = torch.stack([_entry(case, i) for i in index]).to(flat.device)
    return replace(case, g=flat[index], r=r, entries=index)


def _bisect(case: Case, g: Tensor, z: Tensor, miss: float, h: float, least: float) -> Tensor:
    found: list[int] = []
    z = z.clone()
    while abs(miss) > least and len(found) < LIMITS.guilty:
        low, high, part = 0, len(g), miss
        while high - low > 1:
            middle = (low + high) // 2
            half = torch.zeros_like(z)
            half[low:middle] = z[low:middle]
            slope = _slope(case.surface.along(case.position, half.reshape(case.leaf.shape)), h)
            left = (half @ g - slope).item()
            low, high, part = (low, middle, left) if abs(left) >= abs(part - left) else (middle, high, part - left)
        found.append(low)
        miss -= part
        z[low] = 0.0
    return torch.tensor(found, dtype=torch.int64, device=g.device)


def _entry(case: Case, index: Tensor) -> Tensor:
    direction = torch.zeros_like(case.leaf).flatten()
    direction[index] = 1.0
    h = LIMITS.step * max(1.0, case.leaf.flatten()[index].abs().item())
    return _slope(case.surface.along(case.position, direction.reshape(case.leaf.shape)), h)


def _slope(values: Callable[[Tensor], Tensor], h: float) -> Tensor:
    return quotients(values, torch.zeros(1, dtype=torch.float64, device="cpu"), h, CENTRAL)[0]


def passes(case: Case, found: Probes) -> Case:
    """What 4 directions that agree say of a leaf: that it is right, as far as differences can see."""
    size, resolution = found.size, found.resolution
    if resolution <= LIMITS.coarse * size:
        least = max(case.allowed, resolution / size if size else 0.0)
        return case.settle("ok", found.error / size if size else 0.0, allowed=least)
    own = pushed_error(case)
    if own <= case.allowed:
        return case.settle("ok", own)
    sentence = f"differences see no finer than {resolution:.1e} here, in a gradient of norm {size:.1e}"
    return case.settle("unreliable", found.error / (size or 1.0), sentence)


def pushed_error(case: Case) -> float:
    """The error of a leaf in random directions, by forward mode: the last resort, where values say nothing.

    Infinite where forward mode cannot follow the function.
    """
    slopes: list[float] = []
    misses: list[float] = []
    for z in directions(case, LIMITS.directions, 1):
        slope = case.surface.pushed(case.position, z[0])
        if slope is None:
            return math.inf
        slopes.append(slope)
        misses.append((z[0] * case.g).sum().item() - slope)
    size = max(case.g.norm().item(), rms(slopes))
    return rms(misses) / size if size else 0.0


def miss_probability(times: float, count: int = LIMITS.probes) -> float:
    """The probability that an error of `times` the threshold of a leaf is missed in so many directions."""
    half = torch.tensor(count / 2, dtype=torch.float64, device="cpu")
    return float(torch.special.gammainc(half, half / times**2))


def odds(count: int) -> str:
    """What a report says of leaves that must agree ten times as well as allowed in so many directions."""
    return (
        f"Each leaf was probed along {count} random directions: an error of what is allowed is missed with probability "
        f"{miss_probability(10, count):.0e}, one of 10 times that with {miss_probability(100, count):.0e}."
    )


def rms(numbers: list[float]) -> float:
    """The root of their mean square."""
    return math.sqrt(sum(number * number for number in numbers) / len(numbers))
