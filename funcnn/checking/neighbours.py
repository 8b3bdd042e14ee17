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
from .case import Case
from .surface import Surface
from .thresholds import LIMITS
from .trials import copied


def kinks_nearby(case: Case, settled: Callable[[Case], Case]) -> Case:
    """A wrong leaf as a kink, or a kink as a wrong leaf, where the neighbours say so; `settled` is asked elsewhere."""
    if case.is_now("kink"):
        return _bound_by_sums(case)
    if not case.is_now("wrong") or not case.g.isfinite().all():
        return case
    for params in _pair(case.surface.subject.params, LIMITS.far, seed=LIMITS.pairs):
        beside = Surface(case.surface.subject._replace(params=params))
        there = replace(case, surface=beside, together=None, g=_leaf(case, params), r=None, entries=None, finding=None)
        if settled(there).verdict.verdict != "ok":
            return case
    whole, values = _neighbours(case, LIMITS.pairs)
    low, high = values.amin(0), values.amax(0)
    width, slack = high - low, max(case.allowed, 100 * LIMITS.near) * values.abs().max()
    several = (values - low > 0.01 * width) & (high - values > 0.01 * width) & (width > slack)
    reach = slack + (width.max() if several.any() else 0.0)
    if not (width > slack).any() or not ((whole >= low - reach) & (whole <= high + reach)).all():
        return case
    where = at(case.verdict.worst_index)
    sentence = f"at {where} several kinks meet: beside them the gradient is right, and here it is among its values there"
    return _bound_by_sums(case.said("kink", case.verdict.error, sentence))


def _bound_by_sums(kink: Case) -> Case:
    """A kink as it is, unless its entries, each for itself between its bounds, break a sum that all neighbours keep.

    Such a sum may be over all leaves. Asked of a rule by itself alone: in a network the kinks of one layer move with those
    of another.
    """
    if kink.surface.subject.rows is None:
        return kink
    pairs, kinks = LIMITS.pairs // 2, LIMITS.pairs
    while kinks > pairs // 2:  # so many kinks as neighbours can show: more of them may show more
        if pairs == LIMITS.most_pairs:
            return kink
        pairs *= 2
        params = kink.surface.subject.params
        near = [neighbour for seed in range(pairs) for neighbour in _pair(params, LIMITS.near, seed)]
        here, values = _all(kink, params), torch.stack([torch.cat(_all(kink, one)) for one in near])
        mean = values.mean(0)
        differences, own = values - mean, torch.cat(here) - mean
        _, sizes, directions = torch.linalg.svd(differences, full_matrices=False)
        slack = max(kink.allowed, 100 * LIMITS.near) * values.norm(dim=1).max()
        kinks = int((sizes > slack).sum())
        if not kinks:
            return kink
    left = (own - directions[:kinks].T @ (directions[:kinks] @ own)).split([len(leaf) for leaf in here])[kink.position]
    if left.norm() <= slack:
        return kink
    whole = here[kink.position].reshape(kink.leaf.shape)
    r = whole - left.reshape(whole.shape)
    found = replace(kink.verdict, verdict="wrong", error=relative_error(whole, r), worst_index=worst_index(whole, r))
    return replace(kink, g=whole, r=r, finding=found)


def _neighbours(case: Case, pairs: int) -> tuple[Tensor, Tensor]:
    """The leaf of the claimed gradient at the point, and where all parameters are moved a little."""
    params = case.surface.subject.params
    near = [neighbour for seed in range(pairs) for neighbour in _pair(params, LIMITS.near, seed)]
    return _leaf(case, params), torch.stack([_leaf(case, neighbour) for neighbour in near])


def _pair(params: Params, distance: float, seed: int) -> tuple[Params, Params]:
    """Two points on either side of the parameters, at least some of their roundings away."""
    generator = torch.Generator().manual_seed(seed)

    def step(leaf: Tensor) -> Tensor:
        largest = leaf.abs().max().item() if leaf.numel() else 0.0
        size = max(distance, 8 * torch.finfo(leaf.dtype).eps) * (largest or 1.0)
        return size * torch.randn(leaf.shape, generator=generator, dtype=torch.float64, device="cpu").to(leaf)

    start = tree.map(torch.Tensor.detach, params)
    steps = tree.map(step, start)
    return tree.map(torch.add, start, steps), tree.map(torch.sub, start, steps)


def _leaf(case: Case, params: Params) -> Tensor:
    """The leaf of the claimed gradient at other parameters."""
    return _all(case, params)[case.position].reshape(case.leaf.shape)


def _all(case: Case, params: Params) -> list[Tensor]:
    """All leaves of it, each in one row."""
    subject = case.surface.subject
    grads: Params = subject.claimed.value_and_grad(*copied((params, subject.batch)))[1]
    return [leaf.detach().double().flatten() for leaf in tree.leaves(grads)]
