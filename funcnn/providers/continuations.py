"""Functions of real numbers, continued to complex ones where torch does not, or loses a tiny imaginary part.

By the name of an operation of torch.ops.aten, with its arguments, and made of analytic operations. What torch has and loses:
z^4 = exp(4 log z) has the angle 4 (pi - h/|z|) at a negative z, where h is rounded away. Where a function has a value and no
derivative, as a root at 0, it gives NaN.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

LARGEST_STEP = 1e-2  # imaginary part up to which a function may be continued by its first derivative alone


def _sigmoid(z: Tensor) -> Tensor:
    negative = z.real < 0
    e = torch.exp(torch.where(negative, z, -z))  # at most 1: nothing overflows
    return torch.where(negative, e, 1) / (1 + e)


def _softmax(z: Tensor, dim: int, half_to_float: bool) -> Tensor:
    e = torch.exp(z - z.real.amax(dim, keepdim=True))  # any number may be subtracted, so a real one may
    return e / e.sum(dim, keepdim=True)


def _log_softmax(z: Tensor, dim: int, half_to_float: bool) -> Tensor:
    z = z - z.real.amax(dim, keepdim=True)
    return z - torch.exp(z).sum(dim, keepdim=True).log()


def _nll_loss(log_p: Tensor, target: Tensor, weight: Any, reduction: int, ignored: int) -> tuple[Tensor, Tensor]:
    counts = target != ignored
    label = torch.where(counts, target, 0)
    weights = counts.to(log_p.dtype) * (1 if weight is None else weight[label])
    terms = -weights * log_p.gather(-1, label.unsqueeze(-1)).squeeze(-1)
    return (terms, terms.sum() / weights.sum(), terms.sum())[reduction], weights.sum()


def _convolution(z: Tensor, w: Tensor, b: Tensor | None, *geometry: Any) -> Tensor:
    def convolved(x: Tensor, y: Tensor) -> Tensor:
        return torch.convolution(x, y, None, *geometry)

    real = convolved(z.real, w.real) - convolved(z.imag, w.imag)  # bilinear, as a product
    y = torch.complex(real, convolved(z.real, w.imag) + convolved(z.imag, w.real))
    return y if b is None else y + b.reshape(-1, *[1] * (y.ndim - 2))


def _power(z: Any, exponent: Any) -> Tensor:
    if isinstance(exponent, (int, float)) and exponent == int(exponent):
        return _integer_power(z, int(exponent))
    base = z if isinstance(z, Tensor) else torch.as_tensor(z, dtype=exponent.dtype, device=exponent.device)
    return _differentiable(base.real, base.imag, torch.pow(z, exponent))


def _differentiable(margin: Tensor, moved: Tensor, value: Tensor) -> Tensor:
    """The value where the margin to a branch point is positive, and NaN beyond it, or at it where z moves away."""
    return value * torch.where((margin < 0) | ((margin == 0) & (moved != 0)), torch.nan, 1)


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


def _gelu(z: Tensor, approximate: str = "none") -> Tensor:
    if approximate == "tanh":
        return z / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z * z * z)))
    distribution = torch.complex(torch.special.ndtr(z.real), _erf(z / math.sqrt(2)).imag / 2)  # without its cancellation
    return z * distribution


def _softplus(z: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    scaled = beta * z
    positive = scaled.real > 0
    curved = torch.where(positive, scaled, 0) + torch.exp(torch.where(positive, -scaled, scaled)).log1p()
    return torch.where(scaled.real > threshold, z, curved / beta)


def _normalised(z: Tensor, axes: tuple[int, ...], eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(xhat, mean, r) of the rows along some axes; the mean and r keep these as axes of 1."""
    mean = z.mean(axes, keepdim=True)
    centred = z - mean
    r = torch.rsqrt((centred * centred).mean(axes, keepdim=True) + eps)
    return centred * r, mean, r


def _affine(xhat: Tensor, w: Tensor | None, b: Tensor | None) -> Tensor:
    xhat = xhat if w is None else xhat * w
    return xhat if b is None else xhat + b


def _per_channel(x: Any, z: Tensor) -> Any:
    return None if x is None else x.reshape(-1, *[1] * (z.ndim - 2))


def _layer_norm(z: Tensor, shape: list[int], w: Any, b: Any, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    xhat, mean, r = _normalised(z, tuple(range(-len(shape), 0)), eps)
    return _affine(xhat, w, b), mean, r


def _group_norm(
    z: Tensor, w: Any, b: Any, samples: int, channels: int, positions: int, groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    xhat, mean, r = _normalised(z.reshape(samples, groups, -1), (-1,), eps)
    return _affine(xhat.reshape(z.shape), _per_channel(w, z), _per_channel(b, z)), mean.squeeze(-1), r.squeeze(-1)


def _batch_norm(
    z: Tensor, w: Any, b: Any, mean: Any, variance: Any, training: bool, momentum: float, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    if training:
        xhat, mean, r = _normalised(z, (0, *range(2, z.ndim)), eps)
    else:
        mean, r = _per_channel(mean, z), torch.rsqrt(_per_channel(variance, z) + eps)
        xhat = (z - mean) * r
    return _affine(xhat, _per_channel(w, z), _per_channel(b, z)), mean.flatten(), r.flatten()


CONTINUATIONS: dict[str, Callable[..., Any]] = {
    "sigmoid": _sigmoid,
    "silu": lambda z: z * _sigmoid(z),
    "erf": _erf,
    "gelu": _gelu,
    "softplus": _softplus,
    "native_layer_norm": _layer_norm,
    "native_group_norm": _group_norm,
    "native_batch_norm": _batch_norm,
    "_softmax": _softmax,
    "_log_softmax": _log_softmax,
    "nll_loss_forward": _nll_loss,
    "convolution": _convolution,
    "pow": _power,
    "sqrt": lambda z: _differentiable(z.real, z.imag, torch.sqrt(z)),
    "asin": lambda z: _differentiable(1 - z.real.abs(), z.imag, torch.asin(z)),
    "acos": lambda z: _differentiable(1 - z.real.abs(), z.imag, torch.acos(z)),
    "acosh": lambda z: _differentiable(z.real - 1, z.imag, torch.acosh(z)),
}
