"""The forward rule of a layer that knows what moving a single number does: for finite differences, and for them alone.

Evaluating a whole network once per parameter repeats almost all of its arithmetic. If one entry w[d, h] of a dense layer
y = x w + b moves, only feature h of y does, a *column* of the batch; an element-wise layer after it changes that column
alone; and the next dense layer changes by an outer product, of rank 1. So P moved entries are P columns for as long as
every layer can say what becomes of a column, and P copies (P, N, C) of an activation only from there on.

A softmax changes every feature, but in a simple way: if x_c moves by d, then with p = y_c and q = 1 - p

    y' = (y + p (e^d - 1) e_c) / (q + p e^d)

all features are scaled alike, and one is moved beside that. So a column has a scale.

Nothing here knows of a backward rule: gradients and the differences that check them have no line in common.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor

from ..refusals import refused_by_torch
from ..types import ForwardRule, Params, Residuals, Tree, name


class Column(NamedTuple):
    """P versions of an array y (*rows, H), its features last: version p is scale_p y, and change_p more in feature_p.

    change and scale have shape (P, *rows); None in place of scale is 1. With axis 1 the features are the channels of images
    (N, C, *L), and rows are what is left without them, (N, *L).
    """

    feature: Int[Tensor, " P"]
    change: Tensor
    scale: Tensor | None = None
    axis: int = -1

    def copies(self, y: Tensor) -> Tensor:
        """The versions written out, (P, *y.shape), feature by feature in memory, for torch is slow on short rows."""
        base = y.movedim(self.axis, 0).unsqueeze(1)  # (H, 1, *rows)
        try:
            base = base.expand(-1, len(self.feature), *base.shape[2:]) if self.scale is None else self.scale * base
        except RuntimeError as error:
            raise refused_by_torch("y", error) or error from None
        features = torch.arange(len(base), device=y.device)[:, None]
        here = (features == self.feature).reshape(len(base), len(self.feature), *[1] * (y.ndim - 1))
        return torch.where(here, base + self.change, base).movedim(0, self.axis + (self.axis > 0))


Move: TypeAlias = Callable[[Int[Tensor, " P"], Tensor], Column]  # which entries of a leaf, by how much (P,): what y becomes
Carry: TypeAlias = Callable[[Column], Column | Tensor]  # what x becomes: what y becomes, as a column or as copies (P, *y)


class Forward(NamedTuple):
    """A forward rule (params, x) -> (y, residuals), and what is known of it.

    rowwise   y[n] depends on x[n] alone
    moves     (params, x) -> a tree like params: for each leaf what moving its entries does to y, a Move, or None
    carry     (params, x, y) -> how a column of x spreads through this layer
    axes      the axes of x whose columns it carries: -1, the features, and 1, the channels of images
    title     what the layer prints as
    """

    run: ForwardRule
    rowwise: bool = False
    moves: Callable[[Params, Tensor], Tree] | None = None
    carry: Callable[[Params, Tensor, Tensor], Carry] | None = None
    axes: tuple[int, ...] = (-1,)
    title: str = ""

    def __call__(self, params: Params, x: Tensor) -> tuple[Tensor, Residuals]:
        """(params, x) -> (y, residuals)."""
        return self.run(params, x)

    def __repr__(self) -> str:
        """What the layer prints as."""
        return self.title or name(self.run)
