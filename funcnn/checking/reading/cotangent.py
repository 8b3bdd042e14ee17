"""Another cotangent than the one that was handed in.

The rule may be J^T right, and u wrong: overwritten by x, by dx or by y before it is read, u^2, |u|, its mean, a part of
it, or u in another order. All of these are J^T w for a w of the shape of u.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from ...causes import Cause
from ..evidence import Evidence, Said
from ..hypotheses.moves import moves
from .graph import Reading, read


def other_cotangent(e: Evidence) -> Iterator[Said]:
    """J^T w for another w than u: a value of the formula, or u changed."""
    for r in read(e):
        if len(r.formula.u) == 1:
            (u,), (output,) = r.formula.u, r.tape.outputs
            found = list(_cotangents(r, u))
            for k in r.mistaken(output, u, torch.stack([w for _, w in found])):
                yield Cause.UPSTREAM, found[k][0]


def _cotangents(r: Reading, u: Tensor) -> Iterator[tuple[str, Tensor]]:
    numbers, values = r.alike(u.shape)
    for number, value in zip(numbers, values, strict=True):
        name = r.words.phrase(number)
        yield f"the cotangent is overwritten by {name} before it is read, or confused with it", value
    yield "the cotangent is taken to be 1", torch.ones_like(u)
    for what, w in (("its absolute value", u.abs()), ("its square", u * u), ("its sign", u.sign())):
        yield f"{what} is taken in place of the cotangent", w
    for move in moves(u.shape):
        yield f"the cotangent is not as it was handed in: {move.words}", move.to(u)
