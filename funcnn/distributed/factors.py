"""Factors in place of gradients: what ranks send of a large matrix that few samples have moved.

The gradient of a dense layer is a product, dL/dW = X^T dY, with X (M, D) and dY (M, H): one row for each sample, or for each
token of each. Every row belongs to one rank, so the products of the ranks add up, and their factors stand one below another:

    dL/dW = 1/N sum_r N_r X_r^T dY_r = X^T dY        X = (X_1; X_2; ...), dY = 1/N (N_1 dY_1; N_2 dY_2; ...)

Where M (D + H) < D H, for the M rows of all ranks together, each rank sends its factors and multiplies all of them out. An
all-gather of M (D + H) numbers takes each rank (R - 1)/R of them to send, an all-reduce of D H numbers twice that share: so
less than half as much is sent. The price is the product, for which each rank takes M rows in place of its own M / R.

How many rows there are depends on every rank, so their numbers are exchanged first: 8 bytes for each such matrix, and 8 for
N_r. Not even these are where R (D + H) < D H fails, which is taken to mean that there is a row for every rank.
"""

from functools import reduce
from typing import Any

import torch
from torch import Tensor

from .. import tree
from ..layers.factors import ByParts, Outer
from ..layers.pullbacks import gradient, ran
from ..objectives import Backpropagated, evaluated, sent
from ..types import Batch, Params, Residuals, Tree
from .ranks import Group, gathered, rank

NONE = -1  # in place of a number of rows: there are no factors


def may_be_smaller(rule: Any, leaves: list[Tensor], ranks: int) -> list[bool]:
    """Which parameters are matrices of whose gradient the factors may be smaller, if the rule knows any."""
    known = isinstance(rule, Backpropagated)
    return [known and leaf.ndim == 2 and ranks * sum(leaf.shape) < leaf.numel() for leaf in leaves]


def factored(rule: Backpropagated, params: Params, batch: Batch) -> tuple[Tensor, list[Any]]:
    """The value, and for each parameter its gradient, that of dense layers as an `Outer`, which is not multiplied out."""
    inputs, targets = rule.keys(batch)
    outputs, residuals = ran(rule.layer.forward, params, inputs)
    value, kept = evaluated(rule.loss.forward, outputs, targets)
    summands, _ = _with_factors(rule.layer.backward, residuals, sent(rule.loss.backward, kept), False)
    return value, tree.leaves(tree.arranged(summands, params))


def _with_factors(backward: Any, residuals: Residuals, dy: Tensor, dx: bool) -> tuple[Tree, Any]:
    """(dparams, dx) of any pullback, some of dparams before the sum over the batch."""
    if type(backward) is ByParts and backward.whole is None:
        summands = backward.summands(residuals, dy)
        return tree.map(_kept, summands), backward.inputs(residuals, dy) if dx else ()
    if hasattr(backward, "through"):
        passed: tuple[Tree, Any] = backward.through(_with_factors, residuals, dy, dx)
        return passed
    return gradient(backward, residuals, dy, dx)


def _kept(summand: Any) -> Any:
    return summand if type(summand) is Outer else summand.total()


def total(summand: Any) -> Tensor:
    """The gradient of the rank, multiplied out."""
    gradient: Tensor = summand.total() if type(summand) is Outer else summand
    return gradient


def exchanged(summands: list[Any], leaves: list[Tensor], large: list[bool], count: int, group: Group) -> dict[int, Tensor]:
    """The means over all samples of the gradients whose factors are smaller, by the places of their parameters.

    A rank without samples has no summands, and None in place of each.
    """
    candidates = [place for place, own in enumerate(large) if own]
    numbers = torch.tensor([count, *(_rows(summands[place]) for place in candidates)], device=leaves[0].device)
    counts, *rows = gathered(numbers, group).T.tolist()
    sizes = {place: own for place, own in zip(candidates, rows, strict=True) if NONE not in own}
    sizes = {place: own for place, own in sizes.items() if 0 < sum(own) * sum(leaves[place].shape) < leaves[place].numel()}
    if not sizes:
        return {}

    dtype = reduce(torch.promote_types, [leaves[place].dtype for place in sizes])
    lengths = [sum(own[r] * sum(leaves[place].shape) for place, own in sizes.items()) for r in range(len(counts))]
    bucket = torch.zeros(max(lengths), dtype=dtype, device=leaves[0].device)
    if count:
        parts = [(summands[place].x, summands[place].dy * (count / sum(counts))) for place in sizes]
        torch.cat([factor.flatten().to(dtype) for pair in parts for factor in pair], out=bucket[: lengths[rank(group)]])

    found: dict[int, list[Outer]] = {place: [] for place in sizes}
    for r, numbers in enumerate(gathered(bucket, group)):
        shapes = [(place, own[r], width) for place, own in sizes.items() for width in leaves[place].shape]
        factors = iter(numbers[: lengths[r]].split([m * width for _, m, width in shapes]))
        for place, own in sizes.items():
            x, dy = (next(factors).view(own[r], width).to(leaves[place].dtype) for width in leaves[place].shape)
            found[place].append(Outer(x, dy))
    return {place: _below(outers).total() for place, outers in found.items()}


def _rows(summand: Any) -> int:
    if summand is None:
        return 0
    return summand.x.numel() // summand.x.shape[-1] if type(summand) is Outer else NONE


def _below(outers: list[Outer]) -> Outer:
    """The factors of all ranks, one below the other."""
    return Outer(torch.cat([outer.x for outer in outers]), torch.cat([outer.dy for outer in outers]))
