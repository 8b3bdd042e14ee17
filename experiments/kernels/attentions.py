"""Attention.

P = softmax(Q K^T / sqrt(d)) where kept, Y = P V, dP = U V^T:

dV = P^T U      dS = P (dP - sum(P dP)) / sqrt(d)      dQ = dS K      dK = dS^T Q
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from experiments.kernels.kernel import Bug, Inputs, Kernel, changed, draws, exchanged, followed, rounded

T, D = 5, 4


CAUSAL = torch.ones(T, T, dtype=torch.bool).tril()


KEEP = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 0, 1, 1], [1, 0, 1, 1, 1]]).bool()[:, None, :]  # keys, sample by sample


def weights(q: Tensor, k: Tensor, keep: Tensor | None) -> Tensor:
    """P."""
    scores = q @ k.mT / D**0.5
    return (scores if keep is None else scores.masked_fill(~keep, -torch.inf)).softmax(-1)


def attend(q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
    """Y."""
    return weights(q, k, keep) @ v


def slope(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    u: Tensor,
    keep: Tensor | None = None,
    scale: float = D**-0.5,
    project: float = 1,
    axis: int = -1,
) -> Tensor:
    """dS; scale, project and axis are as they stand above."""
    p, dp = weights(q, k, keep), u @ v.mT
    return scale * p * (dp - project * (p * dp).sum(axis, keepdim=True))


def attend_rule(q: Tensor, k: Tensor, v: Tensor, u: Tensor, keep: Tensor | None = None, **options: Any) -> Any:
    """The rule above."""
    ds = slope(q, k, v, u, keep, **options)
    return ds @ k, ds.mT @ q, weights(q, k, keep).mT @ u


def masked_rule(q: Tensor, k: Tensor, v: Tensor, keep: Tensor, u: Tensor, **options: Any) -> Any:
    """The mask is an input."""
    return attend_rule(q, k, v, u, keep, **options)


def grouped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """4 heads of q share 2 of k and v: heads 0 and 1 the first of them."""
    return attend(q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1))


def grouped_rule(q: Tensor, k: Tensor, v: Tensor, u: Tensor, **options: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of k and v are summed over the heads that share them."""
    dq, dk, dv = attend_rule(q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1), u, **options)
    return dq, dk.unflatten(1, (2, 2)).sum(2), dv.unflatten(1, (2, 2)).sum(2)


def grouped_before(gather: Any) -> Any:
    """The grouped rule, which gathers the heads (N, 4, T, D) of dk and dv in its own way."""

    def rule(q: Tensor, k: Tensor, v: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        dq, dk, dv = attend_rule(q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1), u)
        return dq, gather(dk), gather(dv)

    return rule


def masked_inputs(seed: int) -> Inputs:
    """q, k, v, and which keys of which sample are kept."""
    return followed(draws((3, T, D), (3, T, D), (3, T, D)), KEEP)(seed)


causal_rule = partial(attend_rule, keep=CAUSAL)


same = draws((2, T, D), (2, T, D), (2, T, D))


KERNELS = [
    Kernel(
        "attention",
        attend,
        attend_rule,
        draws((2, 3, D), (2, T, D), (2, T, 6)),
        [
            Bug("1 / sqrt(d) forgotten in dq and dk", "factor", partial(attend_rule, scale=1.0)),
            Bug("1 / d for 1 / sqrt(d)", "factor", partial(attend_rule, scale=1 / D)),
            Bug("softmax without its normaliser", "term projection", partial(attend_rule, project=0)),
            Bug("the sum over queries, not keys", "axis", partial(attend_rule, axis=-2)),
            Bug(
                "dv from scores, not from weights",
                "replaced",
                changed(attend_rule, 2, lambda g, q, k, v, u: (k @ q.mT / 2) @ u),
            ),
            Bug("in bfloat16", "precision", rounded(attend_rule, torch.bfloat16)),
        ],
    ),
    Kernel(
        "causal_attention",
        lambda q, k, v: attend(q, k, v, CAUSAL),
        causal_rule,
        same,
        [
            Bug("mask forgotten in backward", "mask", partial(attend_rule, keep=None)),
            Bug("the mask is transposed", "mask transposed", partial(attend_rule, keep=CAUSAL.mT)),
            Bug("one key of the future is kept", "mask shift", partial(attend_rule, keep=torch.ones(T, T).bool().tril(1))),
            Bug("dq and dk exchanged", "exchanged", exchanged(causal_rule, 0, 1)),
            Bug(
                "the last query is not written",
                "border row",
                changed(causal_rule, 0, lambda g, *_: g * (torch.arange(T) < T - 1)[:, None]),
            ),
        ],
    ),
    Kernel(
        "masked_attention",
        attend,
        masked_rule,
        masked_inputs,
        [
            Bug("mask forgotten in backward", "mask", lambda q, k, v, keep, u: attend_rule(q, k, v, u)),
            Bug(
                "the mask of the first sample for all",
                "mask row",
                lambda q, k, v, keep, u: attend_rule(q, k, v, u, keep[:1]),
            ),
            Bug(
                "dv forgets the mask",
                "mask",
                changed(masked_rule, 2, lambda g, q, k, v, keep, u: weights(q, k, None).mT @ u),
            ),
            Bug(
                "dk from k, not q",
                "replaced",
                changed(masked_rule, 1, lambda g, q, k, v, keep, u: slope(q, k, v, u, keep).mT @ k),
            ),
            Bug("the projection doubled", "projection factor twice", partial(masked_rule, project=2)),
        ],
    ),
    Kernel(
        "grouped_attention",
        grouped,
        grouped_rule,
        draws((2, 4, 3, D), (2, 2, T, D), (2, 2, T, D)),
        [
            Bug("regrouped: tile for repeat", "order part", grouped_before(lambda g: g.unflatten(1, (2, 2)).sum(1))),
            Bug("averaged over the heads", "count factor", grouped_before(lambda g: g.unflatten(1, (2, 2)).mean(2))),
            Bug("the last head of a group wins", "repeats part term", grouped_before(lambda g: g[:, 1::2])),
            Bug("1 / sqrt(d) forgotten", "factor", partial(grouped_rule, scale=1.0)),
            Bug("dk and dv exchanged", "exchanged", exchanged(grouped_rule, 1, 2)),
        ],
    ),
]
