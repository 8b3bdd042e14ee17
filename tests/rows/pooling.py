from itertools import product

import torch
from helpers import normal
from row import LayerRow

import funcnn as fn

N = 5


def pooled(reduction, kernel, stride, padding=0):
    """Window by window, in loops."""

    def formula(params, x):
        x = torch.nn.functional.pad(x, [padding] * 4, value=-torch.inf if padding else 0)
        rows, columns = ((length - kernel) // stride + 1 for length in x.shape[2:])
        corners = product(range(0, stride * rows, stride), range(0, stride * columns, stride))
        each = [reduction(x[..., i : i + kernel, j : j + kernel].flatten(2)) for i, j in corners]
        return torch.stack(each, -1).unflatten(-1, (rows, columns))

    return formula


def maximum(window):
    return window.amax(-1)


def mean(window):
    return window.sum(-1) / window.shape[-1]


def apart(*shape):
    """Numbers of which any two differ by more than a difference steps."""
    count = torch.Size(shape).numel()
    return torch.randperm(count, generator=torch.Generator().manual_seed(0)).reshape(shape).double() / count - 0.5


ROWS = {
    "max_pool2d": LayerRow(fn.max_pool2d(2), apart(N, 2, 4, 5), pooled(maximum, 2, 2), analytic=False),
    "max_pool2d, overlapping": LayerRow(
        fn.max_pool2d(3, stride=2, padding=1), apart(N, 1, 4, 4), pooled(maximum, 3, 2, 1), analytic=False
    ),
    "avg_pool2d": LayerRow(fn.avg_pool2d(2), normal(N, 2, 5, 4), pooled(mean, 2, 2)),
    "avg_pool2d, overlapping": LayerRow(fn.avg_pool2d(2, stride=1), normal(N, 1, 3, 3), pooled(mean, 2, 1)),
    "flatten": LayerRow(fn.flatten(), normal(N, 2, 3, 2), lambda params, x: x.reshape(len(x), -1)),
}
