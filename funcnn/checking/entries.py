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

from ..perturbation import Probe
from .surface import Surface

STEP, FINE = 6e-6, 1e-3  # eps^(1/3) and eps^(1/5), best where the error is O(h^2) and O(h^4)
ONE_SIDED = 1e-6  # small, to meet no other kink, yet above rounding
SETTLED_TOGETHER = 4096  # entries of a leaf that are looked at one by one
ELEMENTS_AT_ONCE = 2**20  # numbers that a chunk of perturbations has: 8 MiB, for few chunks rather than for the cache


def quotients(probe: Probe, factors: list[float], h: float, index: Int[Tensor, " P"]) -> Float[Tensor, "K P S"]:
    """(f(w + c h e_i) - f(w)) / (c h) for the entries and every factor c, of S samples, or of the batch as one."""
    w = probe.leaf.flatten()[index]
    at_once = max(1, ELEMENTS_AT_ONCE // max(1, probe.elements))

    def quotient(factor: float) -> Tensor:
        moved = w + factor * h * w.abs().clamp(min=1)
        values: list[Tensor] = [probe.values(i, m) for i, m in zip(index.split(at_once), moved.split(at_once), strict=True)]
        rises = (torch.cat(values) - probe.center).reshape(len(w), -1)
        slopes: Tensor = rises / (moved - w)[:, None]
        return slopes

    return torch.stack([quotient(factor) for factor in factors])


def central(probe: Probe, h: float, order: int) -> Float[Tensor, "P S"]:
    """The derivative of every entry, of S samples or of the batch: the error is O(h^2) or, with order 4, O(h^4)."""
    index = torch.arange(probe.leaf.numel(), device=probe.leaf.device)
    if order == 2:
        return quotients(probe, [1, -1], h, index).mean(0)
    right, left, near_right, near_left = quotients(probe, [1, -1, 0.5, -0.5], h, index)
    finer: Tensor = (4 * (near_right + near_left) - (right + left)) / 6
    return finer


def brackets(probe: Probe, index: Int[Tensor, " P"]) -> tuple[Float[Tensor, " P"], Float[Tensor, " P"]]:
    """The least and the largest subgradient of each entry."""
    right, near_right, left, near_left = quotients(probe, [1, 0.5, -1, -0.5], ONE_SIDED, index)
    right, left = 2 * near_right - right, 2 * near_left - left
    return torch.minimum(left, right).mean(1), torch.maximum(left, right).mean(1)


def nearest_subgradient(surface: Surface, position: int, g: Tensor, r: Tensor, slack: float) -> Tensor:
    """r, but where it is far from g the subgradient that is nearest to g: of the batch or, failing that, by samples."""
    flat_g, nearest = g.flatten(), r.flatten().clone()
    for found in (surface.probes, surface.sample_probes):
        far = ((flat_g - nearest).abs() > slack).nonzero()[:, 0]
        far = far[(flat_g - nearest)[far].abs().argsort(descending=True)[:SETTLED_TOGETHER]]
        if len(far):
            low, high = brackets(found[position], far)
            nearest[far] = flat_g[far].clamp(low, high)
    return nearest.reshape(r.shape)
