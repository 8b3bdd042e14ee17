"""Softmaxes, s = softmax(x).

softmax        dx = s (u - <s, u>)
log softmax    dx = u - s sum(u)
log sum exp    dx = u s
"""

from functools import partial

import torch
from torch import Tensor

from experiments.kernels.kernel import Bug, Kernel, changed, draws, rounded, upstream


def softmax_rule(x: Tensor, u: Tensor, project: float = 1, axis: int = 1, tail: int = 0) -> Tensor:
    """Along the middle axis; project, axis and tail are as they stand in the right rule."""
    s = x.softmax(1)
    inner = (s * u)[:, : s.shape[1] - tail] if tail else s * u
    return s * (u - project * inner.sum(axis, keepdim=True))


def log_softmax_rule(x: Tensor, u: Tensor, axis: int = -1) -> Tensor:
    """Along the last axis."""
    return u - x.softmax(-1) * u.sum(axis, keepdim=True)


def logsumexp_rule(x: Tensor, u: Tensor, axis: int = -1) -> Tensor:
    """Along the last axis, which y has lost."""
    return u.unsqueeze(-1) * x.softmax(axis)


KERNELS = [
    Kernel(
        "softmax",
        partial(torch.softmax, dim=1),
        softmax_rule,
        draws((3, 5, 7)),
        [
            Bug("the normaliser held constant", "term projection", partial(softmax_rule, project=0)),
            Bug(
                "the diagonal of the Jacobian only",
                "term projection slope",
                lambda x, u: x.softmax(1) * (1 - x.softmax(1)) * u,
            ),
            Bug("summed along the last axis", "axis", partial(softmax_rule, axis=2)),
            Bug("the sum leaves out the last element", "border count term", partial(softmax_rule, tail=1)),
            Bug("the mean in place of the sum", "count factor mean", partial(softmax_rule, project=1 / 5)),
            Bug("in bfloat16", "precision", rounded(softmax_rule, torch.bfloat16)),
        ],
    ),
    Kernel(
        "log_softmax",
        partial(torch.log_softmax, dim=-1),
        log_softmax_rule,
        draws((4, 3, 6)),
        [
            Bug("u without the normaliser", "term projection", lambda x, u: u),
            Bug(
                "the rule of softmax",
                "replaced elsewhere",
                lambda x, u: x.softmax(-1) * (u - (x.softmax(-1) * u).sum(-1, keepdim=True)),
            ),
            Bug("sum of u taken to be 1", "upstream", lambda x, u: u - x.softmax(-1)),
            Bug("exp(x) not normalised", "factor replaced", lambda x, u: u - x.exp() * u.sum(-1, keepdim=True)),
            Bug("sum of u over the middle axis", "axis", partial(log_softmax_rule, axis=1)),
        ],
    ),
    Kernel(
        "logsumexp",
        partial(torch.logsumexp, dim=-1),
        logsumexp_rule,
        draws((3, 4, 5)),
        [
            Bug("softmax along another axis", "axis", partial(logsumexp_rule, axis=1)),
            Bug("u ignored", "upstream", upstream(logsumexp_rule, torch.ones_like)),
            Bug(
                "exp(x - max) not normalised",
                "factor once",
                lambda x, u: u.unsqueeze(-1) * (x - x.amax(-1, keepdim=True)).exp(),
            ),
            Bug(
                "to the largest only",
                "border term branch part",
                lambda x, u: u.unsqueeze(-1) * (x == x.amax(-1, keepdim=True)),
            ),
            Bug(
                "the last element not written",
                "border",
                changed(logsumexp_rule, 0, lambda g, x, u: g * (torch.arange(5) < 4)),
            ),
        ],
    ),
]
