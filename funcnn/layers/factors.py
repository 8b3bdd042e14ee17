"""The pullback of a layer by its parts, and its parameter rule before the sum over the batch.

The gradient of a batch is a sum over its samples, and a dense layer forms the summands and the sum in one product:

    dL/dW = X^T dY = sum_n x_n dy_n^T      x_n (D,), dy_n (H,), the rows of X (N, D) and dY (N, H)

If row n of dY is the gradient of sample n's own loss, and no layer mixes rows, then term n is the gradient of that loss
with respect to W. So a layer states its rule once, as the *summands*, the rank-one terms kept as their factors,
`Outer(X, dY)`, N (D + H) numbers instead of N D H; and everything that one may want of them follows:

    the gradient     sum_n x_n dy_n^T = X^T dY                      (D, H)          `total`
    per sample       x_n dy_n^T                                     (N, D, H)       `each`
    their norms      |x_n dy_n^T| = |x_n| |dy_n|                    (N,)            `norms`
    weighted sums    sum_n c_n x_n dy_n^T = X^T (c * dY)            (D, H)          `weighted`

Only the second ever takes memory for N gradients. The third is Goodfellow's: "Efficient per-example gradient
computations" (2015), arXiv:1510.01799. On tokens each sample is itself a sum, G_n = sum_t x_nt dy_nt^T, whose norm is

    |G_n|^2 = sum_ts <x_nt, x_ns> <dy_nt, dy_ns>         two Gram matrices (T, T) in place of one matrix (D, H)

(Rochette, Manoel & Tramel, "Efficient per-example gradient computations in convolutional neural networks", 2019,
arXiv:1912.06015); it is taken where it is the smaller.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from .. import kernels, tree
from ..errors import InputError, describe
from ..refusals import refused_by_torch
from ..types import Params, Residuals, Rule, Tree, name


class Outer:
    """The N matrices sum_t x_nt dy_nt^T of shape (D, H), not multiplied out; without tokens x is (N, D) and dy (N, H).

    No NamedTuple, so that trees take it for a leaf.
    """

    __slots__ = ("x", "dy")

    def __init__(self, x: Float[Tensor, "N *T D"], dy: Float[Tensor, "N *T H"]) -> None:
        """Keeps both factors."""
        self.x, self.dy = x, dy

    @property
    def shape(self) -> tuple[int, ...]:
        """(D, H)."""
        return self.x.shape[-1], self.dy.shape[-1]

    def total(self) -> Float[Tensor, "D H"]:
        """Their sum, laid out in memory as W is: the D weights of a unit side by side."""
        x, dy = self.x, self.dy
        if x.ndim > 2:
            x, dy = x.flatten(0, -2), dy.flatten(0, -2)
        return kernels.matmul(dy.T, x).T

    def each(self) -> Float[Tensor, "N D H"]:
        """All of them, multiplied out."""
        if self.x.ndim == 2:
            return (self.dy[:, :, None] * self.x[:, None, :]).mT
        x, dy = self.x.flatten(1, -2), self.dy.flatten(1, -2)
        return (dy.mT @ x).mT

    def norms(self, dtype: torch.dtype) -> Float[Tensor, " N"]:
        """The Euclidean norm of each, computed in a dtype."""
        if self.x.ndim == 2:
            return _norms(self.x, dtype) * _norms(self.dy, dtype)
        x, dy = self.x.flatten(1, -2).to(dtype), self.dy.flatten(1, -2).to(dtype)
        (_, tokens, features), outputs = x.shape, dy.shape[-1]
        if tokens * (features + outputs) >= features * outputs:
            return _norms(Outer(x, dy).each(), dtype)
        return ((x @ x.mT) * (dy @ dy.mT)).sum((1, 2)).clamp(min=0).sqrt()

    def weighted(self, weights: Float[Tensor, " N"]) -> Float[Tensor, "D H"]:
        """The sum of c_n times each."""
        return Outer(self.x, scaled(self.dy, weights)).total()


class Rows:
    """N summands as they are, with a leading N."""

    __slots__ = ("rows",)

    def __init__(self, rows: Float[Tensor, "N *size"]) -> None:
        """Keeps them."""
        self.rows = rows

    @property
    def shape(self) -> tuple[int, ...]:
        """That of a summand."""
        return tuple(self.rows.shape[1:])

    def total(self) -> Float[Tensor, "*size"]:
        """Their sum."""
        return self.rows.sum(0)

    def each(self) -> Float[Tensor, "N *size"]:
        """All of them."""
        return self.rows

    def norms(self, dtype: torch.dtype) -> Float[Tensor, " N"]:
        """The Euclidean norm of each, computed in a dtype."""
        return _norms(self.rows, dtype)

    def weighted(self, weights: Float[Tensor, " N"]) -> Float[Tensor, "*size"]:
        """The sum of c_n times each."""
        return scaled(self.rows, weights).sum(0)


Summands: TypeAlias = Tree  # a tree like the parameters', its leaves Outer or Rows


def _norms(rows: Tensor, dtype: torch.dtype) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(rows.unsqueeze(-1).flatten(1), dim=1, dtype=dtype)
    return norms


def scaled(rows: Tensor, weights: Tensor) -> Tensor:
    """Row n of an array times c_n. Raises InputError where there is no c for every row."""
    if weights.shape != rows.shape[:1]:
        raise InputError("weights", describe(weights), f"shape ({rows.shape[0]},), one for each of the rows")
    return weights.to(rows.dtype).reshape(-1, *[1] * (rows.ndim - 1)) * rows


class ByParts(NamedTuple):
    """A pullback (residuals, dy) -> (dparams, dx) by its two parts.

    summands    (residuals, dy) -> dparams before the sum over the batch, a tree of Outer and Rows
    inputs      (residuals, dy) -> dx, row n from row n alone; () of inputs that are no floating numbers
    whole       (residuals, dy, dx) -> (dparams, dx) of the batch, where there is a shorter way to both than by the parts;
                of dparams alone, and () beside it, where dx is False
    title       what the layer prints as
    """

    summands: Rule[Residuals, Tensor, Summands]
    inputs: Rule[Residuals, Tensor, Any]
    whole: Callable[[Residuals, Tensor, bool], tuple[Params, Any]] | None = None
    title: str = ""

    def __call__(self, residuals: Residuals, dy: Tensor) -> tuple[Params, Any]:
        """Both of them, dparams summed."""
        if self.whole is not None:
            return self.whole(residuals, dy, True)
        try:
            return totals(self.summands(residuals, dy)), self.inputs(residuals, dy)
        except RuntimeError as error:
            raise refused_by_torch(f"operands of {self!r}", error) or error from None

    def __repr__(self) -> str:
        """What the layer prints as."""
        return self.title or name(self.summands)


def totals(summands: Summands) -> Params:
    """The gradient of the batch."""
    if not summands:
        return summands
    if type(summands) is dict:  # optree, which comes to the same, takes three times as long for so small a tree
        return {key: summand.total() for key, summand in summands.items()}
    return tree.map(lambda summand: summand.total(), summands)
