"""Activations: layers y = f(x) without parameters, whose derivative is known from their output, or else from their input."""

import sys
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import fused, kernels
from ..errors import InputError, check_number, describe
from ..types import Layer, Params, Residuals
from .columns import Carry, Column, Forward
from .combine import no_params
from .factors import ByParts
from .guarded import guarded


def _activation(
    title: str,
    function: Callable[[Tensor], Tensor],
    pullback: Callable[[Tensor, Tensor], Tensor],
    carry: Callable[[Params, Tensor, Tensor], Carry] | None = None,
    keeps_input: bool = False,
) -> Layer:
    """The layer y = f(x) with dx = pullback(y, dy), or pullback(x, dy); without `carry` it is f entry by entry."""

    def forward(params: Params, x: Tensor) -> tuple[Tensor, Residuals]:
        y = function(x)
        return y, x if keeps_input else y

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
    return guarded(layer, title, like=lambda kept: kept)


def sigmoid() -> Layer:
    """The logistic function s(x) = 1 / (1 + exp(-x)), entry by entry: ds/dx = s (1 - s), so dx = dy s (1 - s)."""
    return _activation("sigmoid()", torch.sigmoid, kernels.sigmoid_pullback)


def tanh() -> Layer:
    """The hyperbolic tangent t(x), entry by entry: dt/dx = 1 - t^2, so dx = dy (1 - t^2)."""
    return _activation("tanh()", torch.tanh, kernels.tanh_pullback)


def relu() -> Layer:
    """The rectifier y = max(x, 0), entry by entry: dy/dx = 1 where x > 0, and 0 elsewhere, so dx = dy [x > 0].

    At x = 0, where there is no derivative, it is 0 here, as in torch; at NaN it is 1, as in torch. Lecture notes often take
    1 at 0, and central differences see 1/2; any value from 0 to 1 is a subgradient.
    """
    return _activation("relu()", torch.relu, kernels.relu_pullback)


def leaky_relu(slope: float) -> Layer:
    """The rectifier that leaks, y = x where x > 0 and slope x elsewhere, entry by entry: dx = dy, or slope dy.

    At x = 0, where there is no derivative, it is the slope here, as in torch.

    Raises:
        InputError: slope is no finite number.
    """
    slope = check_number("slope", slope, minimum=-sys.float_info.max)

    def pullback(x: Tensor, dy: Tensor) -> Tensor:
        return fused.leaky_relu_pullback(x, dy, slope)

    return _activation(f"leaky_relu({slope:g})", lambda x: F.leaky_relu(x, slope), pullback, keeps_input=True)


def gelu(approximate: str = "none") -> Layer:
    """The Gaussian error linear unit y = x Phi(x), entry by entry, with Phi the distribution of the standard normal.

    Its derivative is Phi(x) + x phi(x), the density phi(x) = exp(-x^2 / 2) / sqrt(2 pi), for dPhi/dx = phi:

        dx = dy (Phi(x) + x phi(x))                                         Phi(x) = (1 + erf(x / sqrt(2))) / 2

    With approximate="tanh" Phi is (1 + t) / 2 with t = tanh(u), u = sqrt(2 / pi) (x + 0.044715 x^3), and so

        dx = dy ((1 + t) / 2 + x (1 - t^2) / 2 du/dx)                       du/dx = sqrt(2 / pi) (1 + 0.134145 x^2)

    Hendrycks & Gimpel, "Gaussian error linear units" (2016), arXiv:1606.08415.

    Raises:
        InputError: approximate is neither "none" nor "tanh".
    """
    if not isinstance(approximate, str) or approximate not in ("none", "tanh"):
        raise InputError("approximate", describe(approximate), '"none" or "tanh"')

    def pullback(x: Tensor, dy: Tensor) -> Tensor:
        return fused.gelu_pullback(x, dy, approximate)

    title = "gelu()" if approximate == "none" else "gelu('tanh')"
    return _activation(title, lambda x: F.gelu(x, approximate=approximate), pullback, keeps_input=True)


def silu() -> Layer:
    """The sigmoid linear unit y = x s(x), entry by entry: s' = s (1 - s), so dx = dy (s + x s') = dy s (1 + x (1 - s))."""

    def pullback(x: Tensor, dy: Tensor) -> Tensor:
        if not fused.watched(x, dy):
            return fused.silu_pullback(x, dy)
        s = torch.sigmoid(x)
        return dy * s * (1 + x * (1 - s))

    return _activation("silu()", F.silu, pullback, keeps_input=True)


LINEAR_FROM = 40.0  # exp(-40) is below the rounding of 40 in float64; torch's default, 20, is 2e-9 early


def softplus() -> Layer:
    """The smooth rectifier y = log(1 + exp(x)), entry by entry: dy/dx = exp(x) / (1 + exp(x)) = s(x), so dx = dy s(x)."""

    def pullback(x: Tensor, dy: Tensor) -> Tensor:
        return fused.softplus_pullback(x, dy, LINEAR_FROM)

    return _activation("softplus()", lambda x: F.softplus(x, threshold=LINEAR_FROM), pullback, keeps_input=True)


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

    return _activation("softmax()", lambda x: torch.softmax(x, dim=-1), pullback, carry)
