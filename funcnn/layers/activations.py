"""Activations: layers y = f(x) without parameters, whose derivative is known from their output."""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from .. import kernels
from ..types import Layer, Params, Residuals
from .columns import Carry, Column, Forward
from .combine import no_params
from .factors import ByParts
from .guarded import guarded


def _activation(
    name: str,
    function: Callable[[Tensor], Tensor],
    pullback: Callable[[Tensor, Tensor], Tensor],
    carry: Callable[[Params, Tensor, Tensor], Carry] | None = None,
) -> Layer:
    """The layer y = f(x) with dx = pullback(y, dy); without `carry` it is f entry by entry."""

    def forward(params: Params, x: Tensor) -> tuple[Tensor, Residuals]:
        y = function(x)
        return y, y

    def elementwise(params: Params, x: Tensor, y: Tensor) -> Carry:
        by_feature = cache(lambda axis: (x.movedim(axis, 0).contiguous(), y.movedim(axis, 0).contiguous()))

        def spread(column: Column) -> Column | Tensor:
            if column.scale is not None:
                return function(column.copies(x))
            before, after = by_feature(column.axis)
            change = function(before[column.feature] + column.change) - after[column.feature]
            return column._replace(change=change)

        return spread

    rule = Forward(forward, True, lambda params, x: (), carry or elementwise, axes=(-1,) if carry else (-1, 1))
    layer = Layer(no_params, rule, ByParts(lambda residuals, dy: (), pullback))
    return guarded(layer, f"{name}()", like=lambda y: y)


def sigmoid() -> Layer:
    """The logistic function s(x) = 1 / (1 + exp(-x)), entry by entry: ds/dx = s (1 - s), so dx = dy s (1 - s)."""
    return _activation("sigmoid", torch.sigmoid, kernels.sigmoid_pullback)


def tanh() -> Layer:
    """The hyperbolic tangent t(x), entry by entry: dt/dx = 1 - t^2, so dx = dy (1 - t^2)."""
    return _activation("tanh", torch.tanh, kernels.tanh_pullback)


def relu() -> Layer:
    """The rectifier y = max(x, 0), entry by entry: dy/dx = 1 where x > 0, and 0 elsewhere, so dx = dy [x > 0].

    At x = 0, where there is no derivative, it is 0 here, as in torch; at NaN it is 1, as in torch. Lecture notes often take
    1 at 0, and central differences see 1/2; any value from 0 to 1 is a subgradient.
    """
    return _activation("relu", torch.relu, kernels.relu_pullback)


def softmax() -> Layer:
    """Rows of positive numbers that sum to 1: y_i = exp(x_i - m) / sum_j exp(x_j - m), with m = max_j x_j.

    Subtracting the maximum changes nothing mathematically and keeps every exponent at or below 0, so logits of +-1e4
    are as safe as small ones. The Jacobian of a row is diag(y) - y y^T; applied to dy,

        dx = y * (dy - <dy, y>)     (N, C), the inner product taken row by row.
    """

    def pullback(y: Tensor, dy: Tensor) -> Tensor:
        return y * (dy - (dy * y).sum(-1, keepdim=True))

    def carry(params: Params, x: Tensor, y: Tensor) -> Carry:
        p = y.movedim(-1, 0).contiguous()
        q = (y @ (1 - torch.eye(len(p), dtype=y.dtype, device=y.device))).movedim(-1, 0)  # 1 - p without its cancellation

        def spread(column: Column) -> Column | Tensor:
            d, i = column.change, column.feature
            if column.scale is not None:
                return torch.softmax(column.copies(x), dim=-1)
            if d.is_complex():  # a complex step, so small that nothing can overflow
                rest, own, risen = torch.ones_like(d), d.exp(), d.expm1()
            else:  # e^d and 1, both divided by the larger
                small = -d.abs()
                rest, own = torch.where(d > 0, small.exp(), 1), torch.where(d > 0, 1, small.exp())
                risen = torch.where(d > 0, -small.expm1(), small.expm1())
            total = rest * q[i] + own * p[i]
            return Column(i, p[i] * risen / total, rest / total)

        return spread

    return _activation("softmax", lambda x: torch.softmax(x, dim=-1), pullback, carry)
