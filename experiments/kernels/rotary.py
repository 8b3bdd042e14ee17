"""Rotary embeddings.

The pairs (x_i, x_{i + d/2}) are turned by the angle t theta_i at position t; the transpose turns them back.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from experiments.kernels.attentions import D, T, attend, attend_rule, slope
from experiments.kernels.kernel import Bug, Kernel, changed, draws


def turn(x: Tensor, direction: float = 1, start: int = 0, base: float = 100.0) -> Tensor:
    """Every pair (x_i, x_{i + d/2}) turned by t theta_i, theta_i = base^(-2 i / d)."""
    half = x.shape[-1] // 2
    theta = base ** (-torch.arange(half, dtype=x.dtype) / half)
    angle = direction * (start + torch.arange(x.shape[-2], dtype=x.dtype))[:, None] * theta
    one, two = x[..., :half], x[..., half:]
    return torch.cat([one * angle.cos() - two * angle.sin(), two * angle.cos() + one * angle.sin()], -1)


def turn_back(u: Tensor, **options: Any) -> Tensor:
    """The transpose of turn."""
    return turn(u, -1, **options)


def interleaved(u: Tensor) -> Tensor:
    """Turned back as if the pairs were (x_0, x_1), (x_2, x_3), ..."""
    order = torch.tensor([0, 2, 4, 1, 3, 5])
    return turn_back(u[..., order])[..., order.argsort()]


def rotary_attend_rule(
    q: Tensor, k: Tensor, v: Tensor, u: Tensor, back: Any = (turn_back, turn_back), **options: Any
) -> Any:
    """The gradients of q and k are turned back."""
    dq, dk, dv = attend_rule(turn(q), turn(k), v, u, **options)
    return back[0](dq), back[1](dk), dv


same = draws((2, T, D), (2, T, D), (2, T, D))

KERNELS = [
    Kernel(
        "rotary",
        turn,
        lambda x, u: turn_back(u),
        draws((2, 5, 6)),
        [
            Bug("turned on, not back", "sign direction transposed", lambda x, u: turn(u)),
            Bug("pairs taken as interleaved", "order", lambda x, u: interleaved(u)),
            Bug("positions begin at 1", "shift", lambda x, u: turn_back(u, start=1)),
            Bug(
                "the second half has the sign of the first",
                "sign part",
                lambda x, u: turn_back(u) * torch.tensor([1, 1, 1, -1, -1, -1]),
            ),
            Bug("cosines only", "term part", lambda x, u: (turn(u) + turn_back(u)) / 2),
            Bug("halves exchanged", "exchanged order part", lambda x, u: turn_back(u).roll(3, -1)),
        ],
    ),
    Kernel(
        "rotary_attention",
        lambda q, k, v: attend(turn(q), turn(k), v),
        rotary_attend_rule,
        same,
        [
            Bug("dq is not turned back", "term factor replaced", partial(rotary_attend_rule, back=(lambda g: g, turn_back))),
            Bug(
                "dk is turned on, not back", "sign direction transposed", partial(rotary_attend_rule, back=(turn_back, turn))
            ),
            Bug(
                "dq from k that is not turned",
                "replaced",
                changed(rotary_attend_rule, 0, lambda g, q, k, v, u: turn_back(slope(turn(q), turn(k), v, u) @ k)),
            ),
            Bug("softmax without its normaliser", "term projection", partial(rotary_attend_rule, project=0)),
        ],
    ),
]
