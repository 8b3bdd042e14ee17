"""Functions of real numbers, continued to complex ones where torch does not, or loses a tiny imaginary part.

By the name of an operation of torch.ops.aten, with its arguments, and made of analytic operations; NotImplemented says that
such arguments make it none. What torch has and loses: z^4 = exp(4 log z) has the angle 4 (pi - h/|z|) at a negative z, where
h is rounded away. Where a function has a value and no derivative, as a root at 0, it gives NaN.

What more than one number goes into is in `continuations_of_layers`.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

LARGEST_STEP = 1e-2  # imaginary part up to which a function may be continued by its first derivative alone


def sigmoid(z: Tensor) -> Tensor:
    """1 / (1 + exp(-z))."""
    negative = z.real < 0
    e = torch.exp(torch.where(negative, z, -z))  # at most 1: nothing overflows
    return torch.where(negative, e, 1) / (1 + e)


def _power(z: Any, exponent: Any) -> Tensor:
    if isinstance(exponent, (int, float)) and exponent == int(exponent):
        return _integer_power(z, int(exponent))
    base = z if isinstance(z, Tensor) else torch.as_tensor(z, dtype=exponent.dtype, device=exponent.device)
    return differentiable(base.real, base.imag, torch.pow(z, exponent))


def differentiable(margin: Tensor, moved: Tensor, value: Tensor) -> Tensor:
    """The value where the margin to a branch point is positive, and NaN beyond it, or at it where z moves away."""
    return value * torch.where((margin < 0) | ((margin == 0) & (moved != 0)), torch.nan, 1)


def sqrt(z: Tensor) -> Tensor:
    """The root of a number above 0."""
    return differentiable(z.real, z.imag, torch.sqrt(z))


def _integer_power(z: Tensor, exponent: int) -> Tensor:
    """By repeated squaring."""
    if exponent < 0:
        return 1 / _integer_power(z, -exponent)
    if exponent < 2:
        return z.clone() if exponent else torch.ones_like(z)
    root = _integer_power(z, exponent // 2)
    return root * root * z if exponent % 2 else root * root


def _erf(z: Tensor) -> Tensor:
    """The series erf(a + i b) = erf(a) + i b erf'(a) + ..., cut after the first order in b, as the complex step itself is.

    What is left out is of the order of b^2 beside the derivative; where b is no small step, there is no number.
    """
    a, b = z.real, z.imag
    slope = 2 / math.sqrt(math.pi) * torch.exp(-a * a)
    return torch.complex(torch.erf(a), torch.where(b.abs() > LARGEST_STEP, torch.nan, b * slope))


def _erfc(z: Tensor) -> Tensor:
    return torch.complex(torch.erfc(z.real), -_erf(z).imag)  # without the cancellation of 1 - erf


def _gelu(z: Tensor, approximate: str = "none") -> Tensor:
    if approximate == "tanh":
        return z / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z * z * z)))
    distribution = torch.complex(torch.special.ndtr(z.real), _erf(z / math.sqrt(2)).imag / 2)  # without its cancellation
    return z * distribution


def softplus(z: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    """log(1 + exp(beta z)) / beta; z itself beyond the threshold, as in torch."""
    scaled = beta * z
    positive = scaled.real > 0
    curved = torch.where(positive, scaled, 0) + torch.exp(torch.where(positive, -scaled, scaled)).log1p()
    return torch.where(scaled.real > threshold, z, curved / beta)


OF_NUMBERS: dict[str, Callable[..., Any]] = {
    "sigmoid": sigmoid,
    "silu": lambda z: z * sigmoid(z),
    "erf": _erf,
    "erfc": _erfc,
    "gelu": _gelu,
    "softplus": softplus,
    "log_sigmoid_forward": lambda z: (-softplus(-z, threshold=math.inf), z.new_empty(0)),
    "mish": lambda z: z * torch.tanh(softplus(z)),
    "pow": _power,
    "sqrt": sqrt,
    "asin": lambda z: differentiable(1 - z.real.abs(), z.imag, torch.asin(z)),
    "acos": lambda z: differentiable(1 - z.real.abs(), z.imag, torch.acos(z)),
    "acosh": lambda z: differentiable(z.real - 1, z.imag, torch.acosh(z)),
}
