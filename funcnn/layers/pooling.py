"""Pooling: one number for all that a window of an image shows, channel by channel; and images as rows of features.

With the index arithmetic of `windows`, and K the number of places in a window:

    average    y[n, c, p] = 1/K sum_k x[n, c, s p + k]       dx[n, c, q] = 1/K sum dy[n, c, p] over the p, k that met q
    maximum    y[n, c, p] = max_k x[n, c, s p + k - z]       dx[n, c, q] = sum dy[n, c, p] over the p whose maximum is at q
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d as maxima
from torch.nn.functional import pad

from .. import kernels
from ..errors import InputError, describe
from ..types import Layer, Params, Residuals
from .columns import Carry, Column, Forward
from .combine import no_params
from .convolution import Size
from .factors import ByParts
from .guarded import guarded
from .windows import Windows, per_axis


def max_pool2d(kernel_size: Size, stride: Size | None = None, padding: Size = 0) -> Layer:
    """The largest number of each window, x (N, C, H, W) -> y (N, C, *P). Beyond its ends x is -infinity.

    Where a window has its maximum more than once the first of them, row by row, has the whole gradient, as in torch; where
    numbers in it are NaN it is NaN. Windows stand side by side unless a stride is given.

    Raises:
        InputError: a size is no positive integer, padding is more than half of the kernel; when called: x has not these
            axes, or is smaller with its padding than the kernel.
    """
    windows = _windows(kernel_size, stride, padding)
    for z, k in zip(windows.padding, windows.kernel, strict=True):
        if 2 * z > k:
            raise InputError("padding", padding, f"at most half of the kernel, {k // 2}")
    kernel, strides, zeros, _ = windows

    def forward(params: Params, x: Tensor) -> tuple[Tensor, Residuals]:
        y, places = maxima(x, kernel, strides, zeros, return_indices=True)
        return y, (x, places)

    def inputs(residuals: tuple[Tensor, Tensor], dy: Tensor) -> Tensor:
        x, places = residuals
        zero = torch.zeros_like(x).flatten(2)
        return zero.scatter_add(2, places.flatten(2), dy.flatten(2)).reshape(x.shape)

    said = "" if padding == 0 else f", padding={padding}"
    return _pooling(f"max_pool2d({_said(kernel_size, stride)}{said})", windows, forward, inputs)


def avg_pool2d(kernel_size: Size, stride: Size | None = None) -> Layer:
    """The mean of each window, x (N, C, H, W) -> y (N, C, *P). Windows stand side by side unless a stride is given.

    Raises:
        InputError: a size is no positive integer; when called: x has not these axes, or is smaller than the kernel.
    """
    windows = _windows(kernel_size, stride, 0)
    count = math.prod(windows.kernel)

    def forward(params: Params, x: Tensor) -> tuple[Tensor, Residuals]:
        first, *rest = windows.places(x.to(torch.promote_types(x.dtype, torch.float32)))
        return (sum(rest, start=first) / count).to(x.dtype), x

    def inputs(x: Tensor, dy: Tensor) -> Tensor:
        dx, share = dy.new_zeros(x.shape), dy / count
        if windows.stride == windows.kernel and kernels.under_transform():
            # Each number once for every place of its window: a compiler writes that in one pass, and K strided ones else.
            height, width = windows.kernel
            each = share[..., :, None, :, None].expand(*share.shape[:3], height, share.shape[3], width)
            each = each.reshape(*share.shape[:2], height * share.shape[2], width * share.shape[3])
            return pad(each, (0, x.shape[3] - each.shape[3], 0, x.shape[2] - each.shape[2]))
        for place in windows.places(dx):
            place.add_(share)
        return dx

    return _pooling(f"avg_pool2d({_said(kernel_size, stride)})", windows, forward, inputs)


def flatten() -> Layer:
    """The same numbers in rows, x (N, *size) -> y (N, D), as dense layers take them.

    Raises:
        InputError: x has a single axis.
    """

    def fits(x: Tensor) -> None:
        if x.ndim < 2:
            raise InputError("inputs of flatten()", describe(x), "shape (N, ...), of two axes at least")

    layer = Layer(
        no_params,
        Forward(lambda params, x: (x.flatten(1), x), True, lambda params, x: ()),
        ByParts(lambda x, dy: (), lambda x, dy: dy.reshape(x.shape)),
    )
    return guarded(layer, "flatten()", like=lambda x: x, shape=lambda x: (len(x), math.prod(x.shape[1:])), fits=fits)


def _windows(kernel_size: Size, stride: Size | None, padding: Size) -> Windows:
    kernel = per_axis("kernel_size", kernel_size, 2)
    strides = kernel if stride is None else per_axis("stride", stride, 2)
    return Windows(kernel, strides, per_axis("padding", padding, 2, least=0), (1, 1))


def _said(kernel_size: Size, stride: Size | None) -> str:
    return f"{kernel_size}" if stride is None else f"{kernel_size}, stride={stride}"


def _pooling(
    title: str,
    windows: Windows,
    forward: Callable[[Params, Tensor], tuple[Tensor, Residuals]],
    inputs: Callable[[Residuals, Tensor], Tensor],
) -> Layer:
    """The layer that does the same to every channel, so that one that moves moves its own alone."""

    def image(residuals: Residuals) -> Tensor:
        x: Tensor = residuals if isinstance(residuals, Tensor) else residuals[0]
        return x

    def carry(params: Params, x: Tensor, y: Tensor) -> Carry:
        before, after = x.transpose(0, 1).contiguous(), y.transpose(0, 1).contiguous()

        def spread(column: Column) -> Column | Tensor:
            if column.scale is not None:
                copies = column.copies(x)
                every: Tensor = forward((), copies.flatten(0, 1))[0].unflatten(0, copies.shape[:2])
                return every
            moved = forward((), before[column.feature] + column.change)[0]
            return column._replace(change=moved - after[column.feature])

        return spread

    rule = Forward(forward, True, lambda params, x: (), carry, axes=(1,))
    return guarded(
        Layer(no_params, rule, ByParts(lambda residuals, dy: (), inputs)),
        title,
        like=image,
        shape=lambda residuals: (*image(residuals).shape[:2], *windows.positions(image(residuals))),
        fits=lambda x: windows.check(f"inputs of {title}", x, None),
    )
