"""Derivatives of single entries: finer than a provider needs them, and from one side, where the two sides differ.

A function has no derivative at a kink, such as ReLU's at 0, but one from each side, and any number between the two is a
subgradient that nobody can object to. With D(h) = (f(w + h e_i) - f(w)) / h, the derivative from the right is
2 D(h/2) - D(h) up to O(h^2), and likewise from the left with -h.

In a batch each sample has a kink of its own: one may turn to the left what another turns to the right. The
subgradients of a mean are the means of the samples' subgradients, so that sample by sample the brackets are right where
those of the whole batch are too narrow.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..providers.differences import CENTRAL, LEFT, ORDER_4, RIGHT, Scheme, of_entries
from ..providers.structured import Probe
from .surface import Surface
from .thresholds import LIMITS

ELEMENTS_AT_ONCE = 2**21  # numbers that a chunk of moved entries has: 16 MiB, for few chunks rather than for the cache


def derivatives(probe: Probe, scheme: Scheme, h: float, index: Int[Tensor, " P"] | None = None) -> Float[Tensor, "P S"]:
    """The derivatives of every entry, or of those at an index, of S samples or of the batch as one; steps h max(1, |w|)."""
    steps = h * probe.leaf.flatten().abs().clamp(min=1)
    found = of_entries(probe, scheme, steps, index, per_sample=True, elements_at_once=ELEMENTS_AT_ONCE)
    return found.reshape(len(found), -1)


def central(probe: Probe, h: float, order: int) -> Float[Tensor, "P S"]:
    """The derivative of every entry, of S samples or of the batch: the error is O(h^2) or, with order 4, O(h^4)."""
    return derivatives(probe, CENTRAL if order == 2 else ORDER_4, h)


def brackets(probe: Probe, index: Int[Tensor, " P"]) -> tuple[Float[Tensor, " P"], Float[Tensor, " P"]]:
    """The least and the largest subgradient of each entry."""
    right, left = (derivatives(probe, scheme, LIMITS.one_sided, index) for scheme in (RIGHT, LEFT))
    return torch.minimum(left, right).mean(1), torch.maximum(left, right).mean(1)


def nearest_subgradient(surface: Surface, position: int, g: Tensor, r: Tensor, slack: float) -> Tensor:
    """r, but where it is far from g the subgradient that is nearest to g: of the batch or, failing that, by samples."""
    flat_g, nearest = g.flatten(), r.flatten().clone()
    for found in (surface.probes, surface.sample_probes):
        far = ((flat_g - nearest).abs() > slack).nonzero()[:, 0]
        far = far[(flat_g - nearest)[far].abs().argsort(descending=True)[: LIMITS.settled_together]]
        if len(far):
            low, high = brackets(found[position], far)
            nearest[far] = flat_g[far].clamp(low, high)
    return nearest.reshape(r.shape)
