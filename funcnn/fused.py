"""Pullbacks that torch has as one kernel of its own, for plain tensors: one pass over memory in place of several.

Each is equal to the plain rule that stands in the file of its layer, which is what transforms, tapes and tracing see.
"""

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
