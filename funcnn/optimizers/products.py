"""The products of a compiled step, in the form that suits them there.

Inductor fuses what lies between the products into loops, and calls torch for each product as it was traced. While a step is
traced, other forms of the same sums are open, and their shapes alone decide:

    1 b + X W            the product, and b added by the loop that reads it, where torch fills the result with b beforehand
    A B, few columns     (B^T A^T)^T, which MKL computes in a third to two thirds of the time
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten
FEW = 16


def product(a: Tensor, b: Tensor) -> Any:
    """The product A B of (M, K) and (K, H); NotImplemented where torch's own is as good."""
    return (b.T @ a.T).T if b.shape[1] < FEW <= a.shape[0] else NotImplemented


def affine(b: Tensor, x: Tensor, w: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Any:
    """The sum 1 b + X W; NotImplemented where a term has a factor."""
    return b + x @ w if beta == alpha == 1 else NotImplemented


FORMS: dict[Any, Callable[..., Any]] = {aten.mm.default: product, aten.addmm.default: affine}  # for make_fx
