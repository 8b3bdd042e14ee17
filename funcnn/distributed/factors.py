"""Factors in place of gradients: what ranks send of a large matrix that few samples have moved.

The gradient of a dense layer is a product, dL/dW = X^T dY, with X (M, D) and dY (M, H): one row for each sample, or for each
token of each. Every row belongs to one rank, so the products of the ranks add up, and their factors stand one below another:

    dL/dW = 1/N sum_r N_r X_r^T dY_r = X^T dY        X = (X_1; X_2; ...), dY = 1/N (N_1 dY_1; N_2 dY_2; ...)

Where M (D + H) < D H, for the M rows of all ranks together, each rank sends its factors and multiplies all of them out. An
all-gather of M (D + H) numbers takes each rank (R - 1)/R of them to send, an all-reduce of D H numbers twice that share: so
less than half as much is sent. The price is the product, for which each rank takes M rows in place of its own M / R.

How many rows there are depends on every rank. So each tells the others its number of samples, and the shapes of these, while
it computes: 16 bytes. Not even that where no matrix is large, or R (D + H) < D H fails for all of them, since a rank has a
row or more. Where one has none, or samples of another shape than the others', gradients are exchanged.
"""

import math
import zlib
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from .. import tree
from ..layers.factors import ByParts, Outer
from ..layers.pullbacks import gradient, ran_once
from ..objectives import Backpropagated, evaluated, sent
from ..types import Batch, Params, Residuals, Tree
from .ranks import Group, gathering, rank

LARGE = 2**16  # numbers of a matrix, below which an answer takes about as long as they do


def may_be_smaller(rule: Any, leaves: list[Tensor], ranks: int) -> list[bool]:
    """Which parameters are large matrices of whose gradient the factors may be smaller, if the rule knows any."""
    known = isinstance(rule, Backpropagated)
    return [known and leaf.ndim == 2 and LARGE <= leaf.numel() > ranks * sum(leaf.shape) for leaf in leaves]


def factored(rule: Backpropagated, params: Params, batch: Batch) -> tuple[Tensor, list[Any]]:
    """The value, and for each parameter its gradient, that of dense layers as an `Outer`, which is not multiplied out."""
    inputs, targets = rule.keys(batch)
    outputs, residuals = ran_once(rule.layer.forward, params, inputs)
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


def counted(batch: Batch, count: int, group: Group) -> Callable[[], list[int]]:
    """Asks the ranks how many samples they have: a function that waits for the answer, which is empty of shares unlike."""
    shapes = zlib.crc32(str([leaf.shape[1:] for leaf in tree.leaves(batch) if isinstance(leaf, Tensor)]).encode())
    device = next((leaf.device for leaf in tree.leaves(batch) if isinstance(leaf, Tensor)), "cpu")
    answers = gathering(torch.tensor([count, shapes], device=device), group)

    def wait() -> list[int]:
        counts, shapes = answers().T.tolist()
        return counts if len(set(shapes)) == 1 and 0 not in counts else []

    return wait


def total(summand: Any) -> Tensor:
    """The gradient of the rank, multiplied out."""
    gradient: Tensor = summand.total() if type(summand) is Outer else summand
    return gradient


def exchanging(
    summands: list[Any], leaves: list[Tensor], large: list[bool], counts: list[int], group: Group
) -> tuple[list[int], Callable[[], list[Tensor]]]:
    """The places of the gradients whose factors are smaller, and the function that waits for these and multiplies them out.

    What is sent is a matrix with a row for each sample, (N_r, sum_l T_l (D_l + H_l)), as long on every rank as on the one
    that has most.
    """
    own, samples = counts[rank(group)], sum(counts)
    places = [place for place, may in enumerate(large) if may and _is_smaller(summands[place], samples / own)]
    if not places:
        return [], lambda: []
    outers = [summands[place] for place in places]
    factors = [x.reshape(own, -1) for outer in outers for x in (outer.x, outer.dy * (own / samples))]
    dtype = reduce(torch.promote_types, [factor.dtype for factor in factors])
    widths = [factor.shape[1] for factor in factors]
    rows = torch.zeros(max(counts), sum(widths), dtype=dtype, device=factors[0].device)
    torch.cat([factor.to(dtype) for factor in factors], 1, out=rows[:own])
    gathered = gathering(rows, group)

    def multiplied() -> list[Tensor]:
        every = torch.cat([rows[:count] for rows, count in zip(gathered(), counts, strict=True)])
        pairs = zip(*[iter(every.split(widths, 1))] * 2, places, strict=True)
        return [_product(x, dy, leaves[place]) for x, dy, place in pairs]

    return places, multiplied


def _is_smaller(summand: Any, share: float) -> bool:
    """Whether the factors of all ranks are fewer numbers than their product, where this one has 1 / share of the rows."""
    return type(summand) is Outer and share * (summand.x.numel() + summand.dy.numel()) < math.prod(summand.shape)


def _product(x: Tensor, dy: Tensor, leaf: Tensor) -> Tensor:
    features, outputs = leaf.shape
    return Outer(x.reshape(-1, features).to(leaf.dtype), dy.reshape(-1, outputs).to(leaf.dtype)).total()
