"""Pullbacks that torch has as one kernel of its own, for plain tensors: one pass over memory in place of several.

Each is equal to the plain rule that stands in the file of its layer, which is what transforms, tapes and tracing see.
"""

import math

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .kernels import under_transform

_aten = torch.ops.aten


def watched(*tensors: Tensor) -> bool:
    """Whether somebody differentiates, maps or traces these, or they are complex: kernels are for plain numbers alone."""
    return (
        under_transform()
        or forward_ad._current_level >= 0
        or any(x.is_complex() or (x.requires_grad and torch.is_grad_enabled()) for x in tensors)
    )


def gelu_pullback(x: Tensor, dy: Tensor, approximate: str) -> Tensor:
    """The gradient dy (Phi(x) + x phi(x)), or that of the form with tanh."""
    dx: Tensor = _aten.gelu_backward(dy, x, approximate=approximate)
    return dx


def silu_pullback(x: Tensor, dy: Tensor) -> Tensor:
    """The gradient dy s(x) (1 + x (1 - s(x)))."""
    dx: Tensor = _aten.silu_backward(dy, x)
    return dx


def leaky_relu_pullback(x: Tensor, dy: Tensor, slope: float) -> Tensor:
    """The gradient dy where x > 0, else slope dy."""
    dx: Tensor = _aten.leaky_relu_backward(dy, x, slope, False)
    return dx


def softplus_pullback(x: Tensor, dy: Tensor, linear_from: float) -> Tensor:
    """The gradient dy s(x), and dy from where on softplus is taken to be x."""
    dx: Tensor = _aten.softplus_backward(dy, x, 1, linear_from)
    return dx


def layer_norm_pullback(
    x: Tensor, w: Tensor, mean: Tensor, r: Tensor, dy: Tensor, dx: bool
) -> tuple[Tensor | None, Tensor, Tensor]:
    """(dx, dw, db) of layer norm; dx is None where it is not wanted."""
    kernel = _aten.native_layer_norm_backward
    of_x, of_w, of_b = kernel(dy, x, w.shape, mean, r, w, w, [dx, True, True])  # of b it wants the shape alone
    return of_x, of_w, of_b


def group_norm(x: Tensor, w: Tensor, b: Tensor, groups: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(y, mean, r) of group norm. The kernels take all numbers to lie one by one, and would read past the end."""
    samples, channels, positions = len(x), len(w), math.prod(x.shape[2:])
    operands = x.contiguous(), w.contiguous(), b.contiguous()
    y, mean, r = torch.native_group_norm(*operands, samples, channels, positions, groups, eps)
    return y, mean, r


def group_norm_pullback(
    x: Tensor, w: Tensor, mean: Tensor, r: Tensor, dy: Tensor, dx: bool
) -> tuple[Tensor | None, Tensor, Tensor]:
    """(dx, dw, db) of group norm; dx is None where it is not wanted."""
    sizes = len(x), len(w), math.prod(x.shape[2:]), r.shape[1]
    operands = dy.contiguous(), x.contiguous(), mean, r, w.contiguous()
    of_x, of_w, of_b = _aten.native_group_norm_backward(*operands, *sizes, [dx, True, True])
    return of_x, of_w, of_b


def batch_norm(x: Tensor, w: Tensor, b: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(y, mean, r) of batch norm by the statistics of the batch."""
    y, mean, r = torch.native_batch_norm(x, w.contiguous(), b.contiguous(), None, None, True, 0.0, eps)
    return y, mean, r


def batch_norm_pullback(
    x: Tensor, w: Tensor, mean: Tensor, r: Tensor, dy: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(dx, dw, db) of batch norm by the statistics of the batch."""
    kernel = _aten.native_batch_norm_backward
    dx, dw, db = kernel(dy, x, w.contiguous(), None, None, mean, r, True, eps, [True, True, True])
    return dx, dw, db


def attend(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    """(Y, l) of `layers.attention`, without a matrix of T x T numbers; on a CPU."""
    y, total = _aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal)
    return y, total


def attend_pullback(
    dy: Tensor, q: Tensor, k: Tensor, v: Tensor, y: Tensor, total: Tensor, causal: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """(dQ, dK, dV) of the same."""
    back = _aten._scaled_dot_product_flash_attention_for_cpu_backward
    dq, dk, dv = back(dy, q, k, v, y, total, 0.0, causal)
    return dq, dk, dv
