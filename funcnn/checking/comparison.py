"""The way in which every leaf is compared: along random directions first, and as closely as it takes after that."""

import math

import torch
from torch import Tensor

from ..report import Finding
from .leaf import Compared, compare
from .precision import allowed, judged, noise_floors
from .probing import probe, screened, zero
from .question import gradient_leaves
from .surface import Surface

ENTRY_BY_ENTRY = 10_000  # parameters; the differences of more than these take random directions alone


class Comparison:
    """What is allowed in each leaf, and how close a look the size of the model permits."""

    def __init__(self, surface: Surface, tolerance: float, seed: int) -> None:
        """Measures the noise floors of the precision."""
        self.floors = noise_floors(surface)
        self.allowed = [allowed(tolerance, floor) for floor in self.floors]
        self.large = surface.by_differences and sum(leaf.numel() for leaf in surface.leaves) > ENTRY_BY_ENTRY
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, surface: Surface, position: int, g: Tensor) -> Compared:
        """The leaf at a position, here or, on another surface, nearby."""
        least = self.allowed[position]
        if g.shape != surface.leaves[position].shape:
            return Compared(Finding("wrong", math.inf, least), g, self._reference(surface, position))
        if not surface.by_differences:
            return self._closely(surface, position, g)
        right = None if self.large else screened(surface, position, g, least, self.generator)
        found = self._closely(surface, position, g) if right is None else Compared(right, g, g)
        if found.finding.verdict == "ok" and g.numel() and not g.any():
            return zero(surface, position, g, least, self.generator) or found
        return found

    def _closely(self, surface: Surface, position: int, g: Tensor) -> Compared:
        least = self.allowed[position]
        if self.large:
            found = probe(surface, position, g, least, self.generator)
        else:
            found = compare(surface, position, g, self._reference(surface, position), least)
        return judged(found, self.floors[position])

    def _reference(self, surface: Surface, position: int) -> Tensor:
        return gradient_leaves("reference", (surface.center, surface.gradient), surface.params)[1][position]
