"""All leaves along the same random directions, for the price of one.

Let z = (s_1 z_1, ..., s_L z_L), where z_i are independent normal numbers and s_i h is the step of leaf i. Then the error
e = g - r of a gradient shows as

    <e, z> ~ N(0, |e|^2),     |e|^2 = s_1^2 |e_1|^2 + ... + s_L^2 |e_L|^2,

and |e| is no less than s_i |e_i| for any leaf i. So all leaves are right for which the probes agree well enough beside
s_i |g_i|. A wrong leaf, or one whose gradient is small beside the others', is asked again by itself: see `directions`.
"""

import math
from functools import cached_property

import torch
from torch import Generator, Tensor

from ..providers.differences import CENTRAL, quotients
from .surface import Surface
from .thresholds import LIMITS, WALKED_TOGETHER


class Together:
    """A gradient beside central differences in a few directions, in which all of its leaves take part."""

    def __init__(self, surface: Surface, g: list[Tensor], generator: Generator) -> None:
        """Nothing is evaluated until it is asked for."""
        self.surface, self.g, self.generator = surface, g, generator
        self.steps = [max(1.0, leaf.abs().max().item()) if leaf.numel() else 1.0 for leaf in surface.leaves]
        self.count = directions_at(surface.size)

    @cached_property
    def directions(self) -> list[Tensor]:
        """The s_i z_i, (P, *shape) of every leaf."""
        shapes = [(self.count, *leaf.shape) for leaf in self.surface.leaves]
        drawn = [torch.randn(shape, generator=self.generator, dtype=torch.float64, device="cpu") for shape in shapes]
        return [z.mul_(s).to(x) for s, z, x in zip(self.steps, drawn, self.surface.leaves, strict=True)]

    @cached_property
    def slopes(self) -> Tensor:
        """The differences along each of them, (P,)."""
        at_once = max(1, WALKED_TOGETHER // self.surface.size)
        parts = zip(*(z.split(at_once) for z in self.directions), strict=True)
        return torch.cat([self._slopes(list(zs)) for zs in parts])

    def _slopes(self, zs: list[Tensor]) -> Tensor:
        start = torch.zeros(len(zs[0]), dtype=torch.float64, device="cpu")
        return quotients(self.surface.moved_along(dict(enumerate(zs))), start, LIMITS.step, CENTRAL)

    @cached_property
    def errors(self) -> list[float]:
        """No less than the error of each leaf, as a share of it."""
        return self.errors_of(self.g)

    @cached_property
    def errors_of_plain(self) -> list[float]:
        """The same of torch's gradient of the plain operations."""
        return self.errors_of(self.surface.plain_gradients)

    def errors_of(self, gradients: list[Tensor] | None) -> list[float]:
        """The same of other gradients; infinite where these are no gradients or 0."""
        leaves = self.surface.leaves
        if gradients is None or any(
            g.shape != x.shape or not g.isfinite().all() for g, x in zip(gradients, leaves, strict=True)
        ):
            return [math.inf] * len(leaves)
        along = torch.zeros(self.count, dtype=torch.float64, device="cpu")
        for g, z in zip(gradients, self.directions, strict=True):
            along += (z.reshape(self.count, g.numel()) @ g.double().flatten()).cpu()
        error = (along - self.slopes).square().mean().sqrt().item()
        sizes = [s * g.double().norm().item() for s, g in zip(self.steps, gradients, strict=True)]
        return [error / size if size else math.inf for size in sizes]


def directions_at(size: int) -> int:
    """How many directions are taken: fewer where a value costs much."""
    return LIMITS.directions if size <= LIMITS.many else LIMITS.probes
