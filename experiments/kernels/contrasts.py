"""Losses that compare vectors; v is the upstream gradient of a mean, a single number.

contrastive      <y d^2 / 2 + (1 - y) max(0, m - d)^2 / 2>, d = |a - b|:  (y - (1 - y) max(0, m - d) / d) (a - b) v / n
InfoNCE          cross entropy of the rows of a b^T / tau, whose labels are 0, 1, ..., n - 1
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.kernels.kernel import Bug, Kernel, changed, draws, exchanged, followed, rounded

MARGIN, TAU = 3.0, 0.5
PAIRS = torch.tensor([1, 0, 0, 1, 0, 0]).bool()


def contrastive(a: Tensor, b: Tensor, y: Tensor) -> Tensor:
    """The mean over the pairs."""
    d = (a - b).norm(dim=1)
    return (torch.where(y, d, (MARGIN - d).clamp(min=0)) ** 2 / 2).mean()


def contrastive_rule(
    a: Tensor, b: Tensor, y: Tensor, v: Tensor, *, inside: bool = True, unit: float = 1, flip: bool = False
) -> Any:
    """The options are mistakes: no margin, not divided by d, labels the other way round."""
    d = (a - b).norm(dim=1)
    y = ~y if flip else y
    left = (MARGIN - d).clamp(min=0) if inside else MARGIN - d
    g = v * torch.where(y, 1.0, -left / d**unit)[:, None] * (a - b) / len(a)
    return g, -g


def nce(a: Tensor, b: Tensor) -> Tensor:
    """Matching rows of a and b."""
    return F.cross_entropy(a @ b.T / TAU, torch.arange(len(a)))


def nce_slope(a: Tensor, b: Tensor, v: Tensor, *, tau: float = TAU, axis: int = 1, positive: float = 1) -> Tensor:
    """The gradient of a b^T. The options are mistakes: the factor 1 / tau, softmax over columns, positives left out."""
    s = (a @ b.T / TAU).softmax(axis)
    return v * (s - positive * torch.eye(len(a), dtype=s.dtype)) / (tau * len(a))


def nce_rule(a: Tensor, b: Tensor, v: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    """The rule above."""
    g = nce_slope(a, b, v, **options)
    return g @ b, g.T @ a


KERNELS = [
    Kernel(
        "contrastive",
        contrastive,
        contrastive_rule,
        followed(draws((6, 4), (6, 4)), PAIRS),
        [
            Bug("beyond the margin as within", "branch", partial(contrastive_rule, inside=False)),
            Bug("not divided by d", "factor once", partial(contrastive_rule, unit=0)),
            Bug("labels the other way round", "exchanged branch replaced", partial(contrastive_rule, flip=True)),
            Bug("db with the sign of da", "sign", changed(contrastive_rule, 1, lambda g, *_: -g)),
            Bug("summed, not averaged", "count factor", lambda a, b, y, v: contrastive_rule(a, b, y, 6 * v)),
        ],
    ),
    Kernel(
        "info_nce",
        nce,
        nce_rule,
        draws((5, 3), (5, 3)),
        [
            Bug("1 / tau forgotten", "factor", partial(nce_rule, tau=1.0)),
            Bug("softmax over the columns", "axis transposed", partial(nce_rule, axis=0)),
            Bug("positives left out", "term", partial(nce_rule, positive=0)),
            Bug(
                "db with g, not its transpose", "transposed", changed(nce_rule, 1, lambda g, a, b, v: nce_slope(a, b, v) @ a)
            ),
            Bug("da and db exchanged", "exchanged", exchanged(nce_rule, 0, 1)),
            Bug("in bfloat16", "precision", rounded(nce_rule, torch.bfloat16)),
        ],
    ),
]
