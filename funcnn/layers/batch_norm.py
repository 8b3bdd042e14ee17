"""Batch norm: each channel centred and scaled over the whole batch, and the same with statistics that are fixed.

With mu and r of the samples and positions of each channel of x (N, C, ...), y = xhat w + b, xhat = r (x - mu), is what
`normalisation` derives, the mean over all axes but that of the channels:

    dL/dx = r (g - <g> - xhat <xhat g>),  g = w dL/dy        dL/dw = sum dy xhat        dL/db = sum dy

Every sample is in every mean, so y[n] depends on all of x. The gradient of one sample's loss with respect to w is then no
function of that sample, and alone it would be normalised by itself, to nothing: so there are no gradients per sample.

Where the statistics are fixed numbers, y = xhat w + b is a map of each sample by itself, and dL/dx = r g: that is what
`calibrate` makes of a network for evaluation. Fixing them by a pass over the data, and not by a moving average that forward
would have to write to, keeps forward pure.

Ioffe & Szegedy, "Batch normalization" (2015), arXiv:1502.03167.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Inexact
from torch import Tensor

from .. import fused, kernels
from ..errors import InputError, check_count, check_number, describe
from ..types import Layer, Params, Residuals
from .columns import Forward
from .factors import ByParts, Rows
from .normalisation import LEAST, on_channels, per_channel, scale_and_shift, standardised, standardised_pullback, titled


class OverBatch(NamedTuple):
    """The forward rule of a batch norm, by the statistics of the batch, which `calibrate` looks for."""

    features: int
    eps: float

    def __call__(self, params: dict[str, Tensor], x: Inexact[Tensor, "N C *T"]) -> tuple[Tensor, Residuals]:
        """(params, x) -> (y, (x, w, mu, r))."""
        y, mean, r = fused.batch_norm(x, params["w"], params["b"], self.eps)
        return y, (x, params["w"], mean, r)


def batch_norm(features: int, eps: float = 1e-5) -> Layer:
    """Each channel of x (N, C, ...) centred and scaled over the batch and all positions: y = xhat w + b, w (C,), b (C,).

    Parameters `{"w": w, "b": b}`, which start at 1 and 0. The variance is the mean of the squares, not divided by one less.
    It always normalises by the statistics of the batch that it is handed; for evaluation see `calibrate`.

    Raises:
        InputError: features is no positive integer; eps is no positive number; w, b or x has the wrong shape, dtype or
            device; a batch of one sample, and so gradients per sample, which would be gradients of such batches.
    """
    features, eps = check_count("features", features), check_number("eps", eps, LEAST)
    title = titled("batch_norm", features, eps=eps, default=1e-5)

    def backward(residuals: tuple[Tensor, ...], dy: Float[Tensor, "N C *T"]) -> tuple[Params, Tensor]:
        x, w, mean, r = residuals
        if not fused.watched(dy, *residuals):
            dx, dw, db = fused.batch_norm_pullback(x, w, mean, r, dy, eps)
            return {"w": dw, "b": db}, dx
        axes = (0, *range(2, x.ndim))
        xhat, r = standardised(x, axes, eps)
        dx = standardised_pullback(xhat, r, dy * per_channel(w, x), axes)
        return {"w": (dy * xhat).sum(axes).to(dy.dtype), "b": dy.sum(axes)}, dx

    def fits(x: Tensor) -> None:
        if len(x) < 2:
            needs = "two samples at least: it normalises over the samples of a batch, so there are no gradients per sample"
            raise InputError(f"inputs of {title}", describe(x), needs)
        if not x.numel():
            raise InputError(f"inputs of {title}", describe(x), "one position at least")

    layer = Layer(scale_and_shift(features), Forward(OverBatch(features, eps)), backward)
    return on_channels(layer, title, features, fits)


def by_fixed(features: int, eps: float, mean: Float[Tensor, " C"], variance: Float[Tensor, " C"]) -> Layer:
    """The batch norm whose statistics are these, wherever its inputs are: an affine map, channel by channel."""
    title = f"calibrated({titled('batch_norm', features, eps=eps, default=1e-5)})"

    def forward(params: dict[str, Tensor], x: Inexact[Tensor, "N C *T"]) -> tuple[Tensor, Residuals]:
        w, b = (per_channel(params[name], x) for name in "wb")
        r = per_channel(torch.rsqrt(kernels.constant(variance) + eps).to(x), x)
        xhat = r * (x - per_channel(kernels.constant(mean).to(x), x))
        return xhat * w + b, (xhat, r * w)

    def summands(residuals: tuple[Tensor, Tensor], dy: Float[Tensor, "N C *T"]) -> dict[str, Rows]:
        xhat, _ = residuals
        axes = tuple(range(2, dy.ndim))
        return {"w": Rows((dy * xhat).sum(axes) if axes else dy * xhat), "b": Rows(dy.sum(axes) if axes else dy)}

    def inputs(residuals: tuple[Tensor, Tensor], dy: Float[Tensor, "N C *T"]) -> Float[Tensor, "N C *T"]:
        _, scale = residuals
        return scale * dy

    layer = Layer(scale_and_shift(features), Forward(forward, True), ByParts(summands, inputs))
    return on_channels(layer, title, features)
