"""Convolutions: a small kernel of weights that meets an image wherever it stands, over one axis or two.

With x beyond its ends taken for 0 and the index arithmetic of `windows`, kernel o of O has an own weight for each of the C
channels and each place k, and gives a channel of the output, one number for each position p:

    y[n, o, p] = b[o] + sum_ck w[o, c, k] x[n, c, s p + d k - z]

It is the affine map of `dense` on patches, the C K numbers that a kernel meets at one position; and its differential is read
off in the same way:

    dL/dw[o, c, k] = sum_np dy[n, o, p] x[n, c, s p + d k - z]           patches^T dy
    dL/db[o]       = sum_np dy[n, o, p]
    dL/dx[n, c, q] = sum_okp dy[n, o, p] w[o, c, k]                      over the k and p that met q = s p + d k - z

The last is the transposed convolution: every dy spreads over the places that it came from. With G groups the channels fall
into G parts, each with O / G kernels of its own that meet nothing else.

See Dumoulin & Visin, "A guide to convolution arithmetic for deep learning" (2016), arXiv:1603.07285; on norms of the
summands Rochette, Manoel & Tramel, "Efficient per-example gradient computations in convolutional neural networks" (2019),
arXiv:1912.06015.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Inexact
from torch import Generator, Tensor

from ..errors import InputError, check_count, check_flag
from ..types import Layer, Params, Residuals
from .columns import Carry, Column, Forward
from .correlations import Correlations, convolved, transposed
from .dense import uniform_within
from .factors import ByParts, Rows
from .guarded import guarded
from .windows import Windows, per_axis

Size = int | Sequence[int]


def conv1d(
    in_channels: int,
    out_channels: int,
    kernel_size: Size,
    *,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
    groups: int = 1,
    bias: bool = True,
) -> Layer:
    """The convolution of x (N, C, L) with O kernels (C / G, K), y (N, O, P): P = floor((L + 2 z - d (K - 1) - 1) / s) + 1.

    Parameters `{"w": (O, C / G, K), "b": (O,)}`, without bias `{"w"}`; all start uniform in [-1/sqrt(F), 1/sqrt(F)], with
    the fan-in F = C K / G (the rule of torch.nn.Conv1d).

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: K.
        stride: s, from one position of the kernel to the next.
        padding: z, how many zeros are put at either end of x.
        dilation: d, from one place of the kernel to the next.
        groups: G, into which both the channels and the kernels fall; kernels meet the channels of their group alone.
        bias: Whether there is b.

    Raises:
        InputError: a size is no positive integer (padding may be 0), or groups does not divide both C and O; when called: w,
            b or x has the wrong shape, dtype or device, or the kernel is larger than x with its padding.
    """
    return _convolution("conv1d", in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)


def conv2d(
    in_channels: int,
    out_channels: int,
    kernel_size: Size,
    *,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
    groups: int = 1,
    bias: bool = True,
) -> Layer:
    """The convolution of x (N, C, H, W) with O kernels (C / G, *K): as `conv1d`, with both axes alike or a pair of sizes.

    Raises:
        InputError: as `conv1d`.
    """
    return _convolution("conv2d", in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)


def _convolution(
    name: str,
    channels: int,
    kernels: int,
    kernel: Size,
    stride: Size,
    padding: Size,
    dilation: Size,
    groups: int,
    bias: bool,
) -> Layer:
    axes = 1 if name == "conv1d" else 2
    channels, kernels = check_count("in_channels", channels), check_count("out_channels", kernels)
    windows = Windows(
        per_axis("kernel_size", kernel, axes),
        per_axis("stride", stride, axes),
        per_axis("padding", padding, axes, least=0),
        per_axis("dilation", dilation, axes),
    )
    bias = check_flag("bias", bias)
    groups = check_count("groups", groups)
    if channels % groups or kernels % groups:
        raise InputError("groups", groups, f"a divisor of {channels} channels and {kernels} kernels")
    per_group, size = channels // groups, math.prod(windows.kernel)

    def init(generator: Generator, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Params:
        uniform = uniform_within(1 / math.sqrt(per_group * size), generator, dtype, device)
        w = uniform(kernels, per_group, *windows.kernel)
        return {"w": w, "b": uniform(kernels)} if bias else {"w": w}

    def forward(params: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Residuals]:
        w = params["w"]
        return convolved(x, w, params["b"] if bias else None, windows, groups), (x, w)

    def summands(residuals: tuple[Tensor, Tensor], dy: Tensor) -> dict[str, Correlations | Rows]:
        x, w = residuals
        of_w = Correlations(x, dy, w, windows, groups)
        return {"w": of_w, "b": Rows(dy.flatten(2).sum(-1))} if bias else {"w": of_w}

    def inputs(residuals: tuple[Tensor, Tensor], dy: Float[Tensor, "N O *P"]) -> Float[Tensor, "N C *L"]:
        x, w = residuals
        return transposed(dy, w, x, windows, groups)

    def moves(params: dict[str, Tensor], x: Inexact[Tensor, "N C *L"]) -> dict[str, Any]:
        met = windows.of(x)
        met = met.permute(1, *range(2 + axes, 2 + 2 * axes), 0, *range(2, 2 + axes)).flatten(0, axes)  # (C K, N, *P)
        per_row, rows = [1] * (1 + axes), per_group * size

        def w(entry: Tensor, h: Tensor) -> Column:  # w[o, c, k] + h moves channel o by h times what place k of it meets
            kernel = entry // rows
            row = kernel // (kernels // groups) * rows + entry % rows
            return Column(kernel, h.reshape(-1, *per_row) * met[row], axis=1)

        def b(entry: Tensor, h: Tensor) -> Column:  # b[o] + h moves channel o by h
            return Column(entry, h.reshape(-1, *per_row).expand(-1, *met.shape[1:]), axis=1)

        return {"w": w, "b": b} if bias else {"w": w}

    def carry(params: dict[str, Tensor], x: Tensor, y: Inexact[Tensor, "N O *P"]) -> Carry:
        w = params["w"].flatten(2).unflatten(0, (groups, -1)).transpose(1, 2)  # (G, C / G, O / G, K)
        own = torch.eye(groups, dtype=w.dtype, device=w.device).reshape(groups, 1, groups, 1, 1)
        by_channel = (own * w.unsqueeze(2)).flatten(2, 3).flatten(0, 1)  # (C, O, K), 0 where they are of two groups

        def spread(column: Column) -> Tensor:  # channel c of x moved by d moves channel o of y by d convolved with w[o, c]
            if column.scale is not None:
                copies = column.copies(x)
                moved: Tensor = forward(params, copies.flatten(0, 1))[0].unflatten(0, copies.shape[:2])
                return moved
            met = windows.of(column.change)  # (P, N, *P, *K)
            rise: Tensor = met.flatten(-axes).flatten(1, -2) @ by_channel[column.feature].mT
            return y + rise.reshape(len(rise), len(y), *y.shape[2:], kernels).movedim(-1, 2)

        return spread

    given = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "bias": bias}
    usual = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "bias": True}
    said = "".join(f", {key}={value}" for key, value in given.items() if value != usual[key])
    title = f"{name}({channels}, {kernels}, {kernel}{said})"
    layer = Layer(init, Forward(forward, True, moves, carry, axes=(1,)), ByParts(summands, inputs))
    of_w = " ".join(["O", "C", *"IJ"[:axes]])
    return guarded(
        layer,
        title,
        params={"w": of_w, "b": "O"} if bias else {"w": of_w},
        like=lambda residuals: residuals[0],
        shape=lambda residuals: (len(residuals[0]), kernels, *windows.positions(residuals[0])),
        fits=lambda x: windows.check(f"inputs of {title}", x, channels),
        O=kernels,
        C=per_group,
        I=windows.kernel[0],
        J=windows.kernel[-1],
    )
