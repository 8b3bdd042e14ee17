from itertools import product

import torch
from helpers import normal
from row import LayerRow, affine, series

import funcnn as fn

N = 5


def convolved(stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1):
    """The sum over the places of the kernel, group by group, each an affine map of the channels of a shifted image."""

    def formula(params, x):
        w, axes = params["w"], params["w"].ndim - 2
        x = torch.nn.functional.pad(x, [z for z in reversed(padding[:axes]) for _ in range(2)])
        geometry = [*zip(x.shape[2:], w.shape[2:], stride, dilation, strict=False)]
        sizes = [(length - d * (k - 1) - 1) // s + 1 for length, k, s, d in geometry]
        total = 0
        for place in product(*map(range, w.shape[2:])):
            starts = [d * k for k, d in zip(place, dilation, strict=False)]
            along = [slice(k, k + s * (p - 1) + 1, s) for k, p, s in zip(starts, sizes, stride, strict=False)]
            parts = zip(x[(..., *along)].chunk(groups, 1), w[(..., *place)].chunk(groups), strict=True)
            total = total + torch.cat([torch.einsum("nc...,oc->no...", image, own) for image, own in parts], 1)
        return total + params["b"].reshape(-1, *[1] * axes) if "b" in params else total

    return formula


def hyperbolic(params, x):
    return torch.tanh(x)


def means(params, x):
    return (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4


def rows_of(params, x):
    return x.reshape(len(x), -1)


ROWS = {
    "conv1d": LayerRow(fn.conv1d(2, 3, 3), normal(N, 2, 5), convolved()),
    "conv1d, every second": LayerRow(
        fn.conv1d(2, 3, 2, stride=2, padding=1, bias=False), normal(N, 2, 4), convolved((2,), (1,))
    ),
    "conv1d, spread": LayerRow(
        fn.conv1d(2, 4, 2, dilation=2, groups=2), normal(N, 2, 5), convolved(dilation=(2,), groups=2)
    ),
    "conv2d": LayerRow(fn.conv2d(2, 3, 2), normal(N, 2, 3, 4), convolved()),
    "conv2d of one place": LayerRow(fn.conv2d(2, 3, 1), normal(N, 2, 2, 2), convolved()),
    "conv2d that leaves an end out": LayerRow(
        fn.conv2d(1, 2, 2, stride=3, bias=False), normal(N, 1, 4, 6), convolved((3, 3))
    ),
    "conv2d of all sizes": LayerRow(
        fn.conv2d(2, 4, (2, 3), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2),
        normal(N, 2, 4, 3),
        convolved((2, 1), (1, 2), (1, 2), 2),
    ),
    "conv2d, channel by channel": LayerRow(fn.conv2d(3, 3, 2, groups=3), normal(N, 3, 2, 3), convolved(groups=3)),
    "convolutions in series": LayerRow(
        fn.serial(
            fn.conv2d(1, 2, 3, padding=1), fn.tanh(), fn.avg_pool2d(2), fn.conv2d(2, 2, 2), fn.flatten(), fn.dense(2, 3)
        ),
        normal(N, 1, 4, 4),
        series(convolved(padding=(1, 1)), hyperbolic, means, convolved(), rows_of, affine),
    ),
}
