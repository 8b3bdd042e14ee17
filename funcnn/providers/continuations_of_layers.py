"""Softmax, losses, norms and convolutions of real numbers, continued to complex ones as in `continuations`.

Of complex numbers torch means another variance and another length, those of |z|: here that of real ones goes on, of z^2.
What torch takes apart before its operations can be seen is known by the function itself: see `WHOLE`.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .continuations import differentiable, sigmoid, sqrt


def _softmax(z: Tensor, dim: int, half_to_float: bool) -> Tensor:
    e = torch.exp(z - z.real.amax(dim, keepdim=True))  # any number may be subtracted, so a real one may
    return e / e.sum(dim, keepdim=True)


def _safe_softmax(z: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """Rows of scores that are all masked, at -inf, give 0."""
    masked = (z.real == -math.inf).all(dim, keepdim=True)
    return torch.where(masked, 0, _softmax(torch.where(masked, 0, z), dim, False))


def _log_softmax(z: Tensor, dim: int, half_to_float: bool) -> Tensor:
    z = z - z.real.amax(dim, keepdim=True)
    return z - torch.exp(z).sum(dim, keepdim=True).log()


def _nll_loss(log_p: Tensor, target: Tensor, weight: Any, reduction: int, ignored: int) -> tuple[Tensor, Tensor]:
    counts = target != ignored
    label = torch.where(counts, target, 0)
    weights = counts.to(log_p.dtype) * (1 if weight is None else weight[label])
    terms = -weights * log_p.gather(-1, label.unsqueeze(-1)).squeeze(-1)
    return (terms, terms.sum() / weights.sum(), terms.sum())[reduction], weights.sum()


def _reduced(terms: Tensor, reduction: int) -> Tensor:
    return (terms, terms.mean(), terms.sum())[reduction]


def _mse_loss(z: Tensor, target: Tensor, reduction: int = 1) -> Tensor:
    return _reduced((z - target) * (z - target), reduction)


def _cross_entropy_of_bits(p: Tensor, target: Tensor, weight: Any = None, reduction: int = 1) -> Tensor:
    """Logarithms are cut at -100, as in torch, so there is a value where p is 0 or 1."""
    log_p = torch.where(p.real > 0, p.log(), -100)
    log_q = torch.where(p.real < 1, torch.log1p(-p), -100)
    terms = differentiable(p.real * (1 - p.real), p.imag, -target * log_p - (1 - target) * log_q)
    return _reduced(terms if weight is None else weight * terms, reduction)


def _cross_entropy_of_logits(
    z: Tensor,
    target: Tensor,
    weight: Any = None,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
    pos_weight: Any = None,
) -> Tensor:
    """torch.nn.functional.binary_cross_entropy_with_logits, which torch makes of comparisons under vmap."""
    of_positive = 1 if pos_weight is None else 1 + (pos_weight - 1) * target
    terms = (1 - target) * z - of_positive * F.logsigmoid(z)
    return _reduced(terms if weight is None else weight * terms, ("none", "mean", "sum").index(reduction))


def _gated(z: Tensor, dim: int = -1) -> Tensor:
    x, gate = z.chunk(2, dim)
    return x * sigmoid(gate)


def _var(z: Tensor, dim: Any = None, *, correction: float | None = None, keepdim: bool = False) -> Tensor:
    axes = tuple(range(z.ndim)) if dim is None or dim == [] else tuple(dim)
    centred = z - z.mean(axes, keepdim=True)
    count = math.prod(z.shape[axis] for axis in axes)
    return (centred * centred).sum(axes, keepdim=keepdim) / max(0, count - (1 if correction is None else correction))


def _length(z: Tensor, order: float = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    if order != 2:
        return NotImplemented
    axes = tuple(range(z.ndim)) if dim is None else tuple(dim)
    return sqrt((z * z).sum(axes, keepdim=keepdim))


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


def _convolution(z: Tensor, w: Tensor, b: Tensor | None, *geometry: Any) -> Tensor:
    def convolved(x: Tensor, y: Tensor) -> Tensor:
        return torch.convolution(x, y, None, *geometry)

    real = convolved(z.real, w.real) - convolved(z.imag, w.imag)  # bilinear, as a product
    y = torch.complex(real, convolved(z.real, w.imag) + convolved(z.imag, w.real))
    return y if b is None else y + b.reshape(-1, *[1] * (y.ndim - 2))


def _convolution_over(axes: int) -> Callable[..., Tensor]:
    """torch.conv1d, conv2d or conv3d of complex numbers, which torch makes of differences of three real ones."""

    def conv(
        z: Tensor, w: Tensor, b: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
    ) -> Tensor:
        def each(setting: Any) -> list[int]:
            values = [setting] if isinstance(setting, int) else [*setting]
            return values * (axes // len(values))

        if padding == "same":
            margins = [spread * (size - 1) for spread, size in zip(each(dilation), w.shape[2:], strict=True)]
            z = F.pad(z, [side for margin in reversed(margins) for side in (margin // 2, margin - margin // 2)])
        steps = each(stride), each(0 if isinstance(padding, str) else padding), each(dilation)
        rows = z if z.ndim == axes + 2 else z[None]
        y = torch.convolution(rows, w, b, *steps, False, [0] * axes, groups)
        return y if z.ndim == axes + 2 else y[0]

    return conv


OF_LAYERS: dict[str, Callable[..., Any]] = {
    "_softmax": _softmax,
    "_safe_softmax": _safe_softmax,
    "_log_softmax": _log_softmax,
    "nll_loss_forward": _nll_loss,
    "mse_loss": _mse_loss,
    "binary_cross_entropy": _cross_entropy_of_bits,
    "glu": _gated,
    "var": _var,
    "std": lambda z, *args, **kwargs: sqrt(_var(z, *args, **kwargs)),
    "linalg_vector_norm": _length,
    "native_layer_norm": _layer_norm,
    "native_group_norm": _group_norm,
    "native_batch_norm": _batch_norm,
    "convolution": _convolution,
}

# By the function, its tensors made complex.
WHOLE: dict[Any, Callable[..., Any]] = {
    torch.conv1d: _convolution_over(1),
    torch.conv2d: _convolution_over(2),
    torch.conv3d: _convolution_over(3),
    F.binary_cross_entropy_with_logits: _cross_entropy_of_logits,
    F.scaled_dot_product_attention: F.scaled_dot_product_attention,  # which compares the dtypes of its operands
}
