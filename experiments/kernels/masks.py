"""Masks: drawn from a seed, of -inf, of numbers that have no gradient, of padding."""

from typing import Any

import torch
from torch import Tensor

from experiments.kernels.operands import Case, Mistake, made, normal, saving


def seeded(mistake: str = "") -> Any:
    """Dropout by a seed, which is drawn again in backward."""

    def mask(x: Tensor, seed: int) -> Tensor:
        return torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)) < 0.6

    def forward(ctx: Any, x: Tensor, seed: int) -> Tensor:
        ctx.seed = seed
        return x * mask(x, seed) / 0.6

    return made(forward, lambda ctx, u: (u * mask(u, ctx.seed + (mistake == "seed")) / 0.6, None))


def masked_softmax(mistake: str = "") -> Any:
    """The softmax of x + m, m constant with entries 0 and -inf."""

    def forward(ctx: Any, x: Tensor, m: Tensor) -> Tensor:
        s = (x + m).softmax(-1)
        ctx.save_for_backward(s)
        return s

    def backward(ctx: Any, u: Tensor) -> Any:
        (s,) = ctx.saved_tensors
        inner = s.log() * s if mistake == "log" else s * u
        return s * (u - inner.sum(-1, keepdim=True)), None

    return made(forward, backward)


def float_mask(mistake: str = "") -> Any:
    """A mask of numbers, for which there is no gradient, beside a weight: y = x m w."""

    def backward(x: Tensor, m: Tensor, w: Tensor, u: Tensor) -> Any:
        return u * m * w, None, None if mistake == "none" else (u * m * x).sum(0)

    return saving(lambda x, m, w: x * m * w, backward)


def padded_embedding(mistake: str = "") -> Any:
    """Rows of w, and 0 for index 0, which is padding. The index comes first."""

    def backward(index: Tensor, w: Tensor, u: Tensor) -> Any:
        keep = index != (1 if mistake == "row" else 0)
        return None, torch.zeros_like(w).index_add(0, index, u if mistake == "kept" else u * keep[:, None])

    return saving(lambda index, w: w[index] * (index != 0)[:, None], backward)


MASK = torch.tensor([[0.0, 0, -torch.inf, 0], [0, -torch.inf, 0, 0], [0, 0, 0, 0]], dtype=torch.float64)


INDEX = torch.tensor([2, 0, 1, 2, 0, 3])


CASES = [
    Case(
        "seed",
        seeded,
        lambda: (normal(5, 3), 7),
        lambda x, seed: x * (torch.rand(5, 3, generator=torch.Generator().manual_seed(seed)) < 0.6) / 0.6,
        (Mistake("another seed in backward", "mask order", "seed"),),
    ),
    Case(
        "minus_infinity",
        masked_softmax,
        lambda: (normal(3, 4), MASK.clone()),
        lambda x, m: (x + m).softmax(-1),
        (Mistake("0 log 0 where masked", "nan", "log"),),
    ),
    Case(
        "float_mask",
        float_mask,
        lambda: (normal(5, 3).requires_grad_(), (normal(5, 3) > 0).double(), normal(3).requires_grad_()),
        lambda x, m, w: x * m * w,
        (Mistake("None for w, which is asked for", "none", "none"),),
    ),
    Case(
        "padding_index",
        padded_embedding,
        lambda: (INDEX.clone(), normal(5, 3)),
        lambda index, w: w[index] * (index != 0)[:, None],
        (
            Mistake("padding has a gradient", "mask row", "kept"),
            Mistake("row 1 taken for padding", "mask row", "row"),
        ),
    ),
]
