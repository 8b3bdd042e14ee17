"""What a tensor may be beside a list of numbers: a symmetric or triangular matrix, logarithms of shares, indices."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor


def structures(x: Tensor) -> Iterator[tuple[str, Callable[[Tensor], Tensor]]]:
    """The structures that a tensor has, by name, each with the projection of directions onto those that keep it."""
    if x.ndim > 1 and x.shape[-1] == x.shape[-2] > 1:
        for name, onto in (("symmetric", symmetric), ("lower triangular", torch.tril), ("upper triangular", torch.triu)):
            if torch.allclose(x, onto(x), rtol=1e-12):
                yield name, onto
    for dim in range(x.ndim):
        if x.logsumexp(dim).abs().max() < 1e-9:
            yield "normalised log-probabilities", lambda v, dim=dim: v - (x.exp() * v).sum(dim, keepdim=True)


def symmetric(v: Tensor) -> Tensor:
    """The symmetric part of matrices."""
    return (v + v.mT) / 2


def distinct(index: Tensor) -> Iterator[Tensor]:
    """Indices of the same shape that count up: over its last 1, 2, ... axes together, then along one axis alone."""
    for axes in range(1, index.ndim + 1):
        last = index.shape[index.ndim - axes :]
        yield torch.arange(math.prod(last), dtype=index.dtype).reshape(last).expand(index.shape).contiguous()
    for axis, size in enumerate(index.shape[:-1]):
        counting = torch.arange(size, dtype=index.dtype).reshape(-1, *[1] * (index.ndim - 1 - axis))
        yield counting.expand(index.shape).contiguous()
