"""Random directions: a few for each leaf say whether it is right, and in large models they find what is not.

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

import torch
from torch import Tensor

from ..providers.differences import CENTRAL, quotients
from ..report import Finding, relative_error, worst_index
from .entries import STEP
from .leaf import Compared
from .orders import derivative
from .surface import Surface

PROBES, SCREENING, GUILTY, SAMPLED = 4, 8, 8, 32
COARSE = 1e-3  # a share of the gradient that differences must be able to see
SURE = 10  # times the uncertainty of a slope


def screened(surface: Surface, position: int, g: Tensor, allowed: float, generator: torch.Generator) -> Finding | None:
    """A leaf that is right, beyond doubt; None where there is any."""
    leaf = surface.leaves[position]
    if not g.numel() or not g.isfinite().all():
        return None
    z = torch.randn((SCREENING, *leaf.shape), generator=generator, dtype=torch.float64).to(leaf)
    h = STEP * max(1.0, leaf.abs().max().item())

    def values(offsets: Tensor) -> Tensor:
        steps = offsets.reshape(-1, SCREENING, *[1] * leaf.ndim) * z
        return surface.values(position, (leaf + steps).flatten(0, 1))

    slopes = quotients(values, leaf.new_zeros(SCREENING), h, CENTRAL)
    misses = (z * g).reshape(SCREENING, -1).sum(1) - slopes
    size = max(g.norm().item(), _rms(slopes.tolist()))
    error = _rms(misses.tolist()) / size if size else 0.0
    return Finding("ok", error, allowed) if error <= allowed / 10 else None


def zero(surface: Surface, position: int, g: Tensor, allowed: float, generator: torch.Generator) -> Compared | None:
    """A gradient of 0 that larger steps than differences take show to be wrong; None where they see nothing either.

    A slope of less than a rounding of the value in each small step is no slope to them, so that a leaf that was forgotten
    would pass for one that does not matter.
    """
    z = torch.randn(g.shape, generator=generator, dtype=torch.float64).to(g)
    slope, uncertainty, _ = derivative(surface.along(position, z), 1 / z.abs().max().item())
    if abs(slope) <= SURE * uncertainty:
        return None
    return Compared(Finding("wrong", 1.0, allowed), g, z * (slope / z.square().sum()))


def miss_probability(times: float) -> float:
    """The probability that an error of `times` the threshold of a leaf is missed."""
    half = torch.tensor(PROBES / 2, dtype=torch.float64)
    return float(torch.special.gammainc(half, half / times**2))


def odds() -> str:
    """What a report says of it."""
    return (
        f"Each leaf was probed along {PROBES} random directions: an error of 10 times what is allowed is missed with "
        f"probability {miss_probability(10):.0e}, one of 100 times with {miss_probability(100):.0e}."
    )


def probe(surface: Surface, position: int, g: Tensor, allowed: float, generator: torch.Generator) -> Compared:
    """Probes a leaf, and finds up to 8 guilty entries if its error is above what is allowed and what can be seen."""
    flat, n = g.flatten(), g.numel()
    if not g.isfinite().all():
        return Compared(Finding("wrong", math.inf, allowed, worst_index(g, torch.zeros_like(g))), g, torch.zeros_like(g))
    slopes: list[float] = []
    misses: list[float] = []
    resolution, worst = 0.0, None
    for _ in range(PROBES):
        z = torch.randn(n, generator=generator, dtype=torch.float64).to(g.device)
        slope, uncertainty, h = derivative(surface.along(position, z.reshape(g.shape)), 1 / z.abs().max().item())
        miss = (z @ flat).item() - slope
        slopes, misses, resolution = [*slopes, slope], [*misses, miss], max(resolution, 3 * uncertainty)
        if abs(miss) >= max(map(abs, misses)):
            worst = z, miss, h
    size, error = max(flat.norm().item(), _rms(slopes)), _rms(misses)
    if worst is None or not size or error <= max(allowed * size, resolution):
        return Compared(_passed(surface, position, g, error, resolution, size, allowed), g, g)
    found = _bisect(surface, position, flat, *worst, resolution)
    some = torch.randint(n, (SAMPLED,), generator=generator).to(g.device)
    index = torch.cat([found, some]).unique()
    r = torch.stack([_entry(surface, position, i) for i in index])
    place = index[(flat[index] - r).abs().argmax()]
    where = tuple(int(i) for i in torch.unravel_index(place, g.shape))
    about = error / max(_rms(slopes), _rms([s + m for s, m in zip(slopes, misses, strict=True)]))  # of the same probes
    return Compared(Finding("wrong", about, allowed, where), flat[index], r, index)


def _passed(
    surface: Surface, position: int, g: Tensor, error: float, resolution: float, size: float, allowed: float
) -> Finding:
    if resolution <= COARSE * size:
        return Finding("ok", error / size if size else 0.0, max(allowed, resolution / size if size else 0.0))
    own = math.inf if surface.derived is None else relative_error(g, surface.derived[position])
    if own <= allowed:
        return Finding("ok", own, allowed)
    sentence = f"differences see no finer than {resolution:.1e} here, in a gradient of norm {size:.1e}"
    return Finding("unreliable", error / size, allowed, diagnosis=sentence)


def _bisect(surface: Surface, position: int, g: Tensor, z: Tensor, miss: float, h: float, least: float) -> Tensor:
    found: list[int] = []
    z = z.clone()
    while abs(miss) > least and len(found) < GUILTY:
        low, high, part = 0, len(g), miss
        while high - low > 1:
            middle = (low + high) // 2
            half = torch.zeros_like(z)
            half[low:middle] = z[low:middle]
            slope = _slope(surface.along(position, half.reshape(surface.leaves[position].shape)), h)
            left = (half @ g - slope).item()
            low, high, part = (low, middle, left) if abs(left) >= abs(part - left) else (middle, high, part - left)
        found.append(low)
        miss -= part
        z[low] = 0.0
    return torch.tensor(found, dtype=torch.int64, device=g.device)


def _entry(surface: Surface, position: int, index: Tensor) -> Tensor:
    leaf = surface.leaves[position]
    direction = torch.zeros_like(leaf).flatten()
    direction[index] = 1.0
    h = STEP * max(1.0, leaf.flatten()[index].abs().item())
    return _slope(surface.along(position, direction.reshape(leaf.shape)), h)


def _slope(values: Callable[[Tensor], Tensor], h: float) -> Tensor:
    return quotients(values, torch.zeros(1, dtype=torch.float64), h, CENTRAL)[0]


def _rms(numbers: list[float]) -> float:
    return math.sqrt(sum(number * number for number in numbers) / len(numbers))
