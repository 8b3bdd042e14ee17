"""What an operation of torch is made of, as elementary operations: softmax, the norms, and some more.

Each takes what torch's own operation takes, and is NotImplemented where it is of another kind.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def _softmax(x: Tensor, dim: int, half: bool = False) -> Tensor:
    e = (x - x.amax(dim, keepdim=True).detach()).exp()
    return e / e.sum(dim, keepdim=True)


def _log_softmax(x: Tensor, dim: int, half: bool = False) -> Tensor:
    z = x - x.amax(dim, keepdim=True).detach()
    return z - z.exp().sum(dim, keepdim=True).log()


def _logsumexp(x: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    top = x.amax(dim, keepdim=True)
    s = (x - top).exp().sum(dim, keepdim=True).log() + top
    return s if keepdim else s.squeeze(dim)


def _variance(x: Tensor, dim: Any = None, *, correction: Any = 1, keepdim: bool = False) -> Any:
    dims = tuple(range(x.ndim)) if dim is None else tuple(dim)
    count = x.numel() // max(1, x.sum(dims).numel())
    squares = (x - x.mean(dims, keepdim=True)).square()
    mean = squares.mean(dims, keepdim=keepdim)
    return mean if not correction else mean * (count / (count - correction))


def _layer_norm(x: Tensor, shape: Any, w: Any, b: Any, eps: float) -> Any:
    axes = tuple(range(-len(shape), 0))
    mean = x.mean(axes, keepdim=True)
    centered = x - mean
    r = (centered.square().mean(axes, keepdim=True) + eps).rsqrt()
    y = centered * r
    y = y if w is None else y * w
    return (y if b is None else y + b), mean, r


def _silu(x: Tensor) -> Tensor:
    return x * x.sigmoid()


def _gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    if approximate == "tanh":
        return 0.5 * x * (1 + (math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)).tanh())
    return x * (0.5 * (1 + (x * math.sqrt(0.5)).erf()))


def _clamp(x: Tensor, low: Any = None, high: Any = None) -> Any:
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        return NotImplemented
    x = x if low is None else x.maximum(torch.full_like(x, low))
    return x if high is None else x.minimum(torch.full_like(x, high))


PARTS: dict[str, Callable[..., Any]] = {
    "_softmax": _softmax,
    "_log_softmax": _log_softmax,
    "logsumexp": _logsumexp,
    "var": _variance,
    "native_layer_norm": _layer_norm,
    "silu": _silu,
    "gelu": _gelu,
    "clamp": _clamp,
}
