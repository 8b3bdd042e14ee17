"""Where many kinks meet no bracket holds, and the neighbours must tell.

A network of ReLUs with a sample of zeros, or with weights of zero, stands on the kinks of several layers at once. Automatic
differentiation, and every backward rule, then combines one-sided derivatives that belong to no direction together, each
unit by its convention: relu(x) - relu(-x) = x has the derivative 0 at 0 by all of them. Nobody calls that wrong. What can
be asked of such a rule is

1. that it is right elsewhere, where f is smooth and no convention matters;
2. that at the point it lies among what it is close by: between the least and the largest of each entry or, where more
   than two values meet in a leaf, no farther outside than any of its entries varies.

And what all neighbours agree on it must keep as well: where the largest of two equal numbers is taken, each of their
derivatives may be anything from 0 to 1, but their sum is 1 on either side.

The neighbours come in pairs w + e, w - e, so that of a single kink both sides are seen.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from .. import tree
from ..report import at, relative_error, worst_index
from ..types import Params
from .leaf import Compared
from .surface import Surface
from .trials import copied

PAIRS = 8
NEAR, FAR = 1e-6, 1e-2  # relative steps: across the kinks at the point and few others; away from all of them


def reconsidered(
    surface: Surface, position: int, found: Compared, look: Callable[[Surface, int, Tensor], Compared]
) -> Compared:
    """A wrong leaf as a kink, or a kink as a wrong leaf, where the neighbours say so.

    `look(surface, position, g)` compares the leaf at another point.
    """
    if found.finding.verdict == "kink":
        return _bound_by_sums(surface, position, found)
    if found.finding.verdict != "wrong" or not found.g.isfinite().all():
        return found
    for params in _pair(surface.question.params, FAR, seed=PAIRS):
        beside = Surface(surface.question._replace(params=params))
        if look(beside, position, _leaf(surface, position, params)).finding.verdict != "ok":
            return found
    whole, values = _neighbours(surface, position)
    low, high = values.amin(0), values.amax(0)
    width, slack = high - low, max(found.finding.allowed, 100 * NEAR) * values.abs().max()
    several = (values - low > 0.01 * width) & (high - values > 0.01 * width) & (width > slack)
    reach = slack + (width.max() if several.any() else 0.0)
    if not (width > slack).any() or not ((whole >= low - reach) & (whole <= high + reach)).all():
        return found
    where = at(found.finding.worst_index)
    sentence = f"at {where} several kinks meet: beside them the gradient is right, and here it is among its values there"
    kink = found._replace(finding=replace(found.finding, verdict="kink", diagnosis=sentence))
    return _bound_by_sums(surface, position, kink)


def _bound_by_sums(surface: Surface, position: int, kink: Compared) -> Compared:
    """A kink as it is, unless its entries, each for itself between its bounds, break a sum that all neighbours keep.

    Asked of a rule by itself alone: in a network the kinks of one layer move with those of another.
    """
    if surface.question.rows is None:
        return kink
    whole, values = _neighbours(surface, position, alone=True)
    mean, shape = values.mean(0), whole.shape
    differences, own = (values - mean).reshape(len(values), -1), (whole - mean).flatten()
    _, sizes, directions = torch.linalg.svd(differences, full_matrices=False)
    slack = max(kink.finding.allowed, 100 * NEAR) * values.reshape(len(values), -1).norm(dim=1).max()
    kinks = int((sizes > slack).sum())
    if not 0 < kinks <= PAIRS // 2:
        return kink  # none, or more than so few neighbours can show
    left = own - directions[:kinks].T @ (directions[:kinks] @ own)
    if left.norm() <= slack:
        return kink
    r = whole - left.reshape(shape)
    error = relative_error(whole, r)
    return Compared(replace(kink.finding, verdict="wrong", error=error, worst_index=worst_index(whole, r)), whole, r)


def _neighbours(surface: Surface, position: int, alone: bool = False) -> tuple[Tensor, Tensor]:
    """The leaf of the claimed gradient at the point, and where all parameters are moved a little, or that leaf alone."""
    params = surface.question.params
    leaves, unflatten = tree.flatten(params)
    near = [neighbour for seed in range(PAIRS) for neighbour in _pair(params, NEAR, seed)]
    if alone:
        moved = [tree.leaves(neighbour)[position] for neighbour in near]
        near = [unflatten([*leaves[:position], leaf, *leaves[position + 1 :]]) for leaf in moved]
    return _leaf(surface, position, params), torch.stack([_leaf(surface, position, neighbour) for neighbour in near])


def _pair(params: Params, distance: float, seed: int) -> tuple[Params, Params]:
    """Two points on either side of the parameters, at least some of their roundings away."""
    generator = torch.Generator().manual_seed(seed)

    def step(leaf: Tensor) -> Tensor:
        largest = leaf.abs().max().item() if leaf.numel() else 0.0
        size = max(distance, 8 * torch.finfo(leaf.dtype).eps) * (largest or 1.0)
        return size * torch.randn(leaf.shape, generator=generator, dtype=torch.float64).to(leaf)

    start = tree.map(torch.Tensor.detach, params)
    steps = tree.map(step, start)
    return tree.map(torch.add, start, steps), tree.map(torch.sub, start, steps)


def _leaf(surface: Surface, position: int, params: Params) -> Tensor:
    """The leaf of the claimed gradient at other parameters."""
    question = surface.question
    grads: Params = question.claimed.value_and_grad(*copied((params, question.batch)))[1]
    leaf: Tensor = tree.leaves(grads)[position].detach().double()
    return leaf
