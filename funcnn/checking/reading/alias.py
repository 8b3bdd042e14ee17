"""Another cotangent than the one that was handed in.

The rule may be J^T right, and u wrong: overwritten by x, by dx or by y before it is read, u^2, |u|, its mean, a part of
it, or u in another order. All of these are J^T w for a w of the shape of u.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from ...causes import Cause
from ..evidence import Evidence, Said
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
    for what, w in _rearranged(u):
        yield f"the cotangent is {what}", w


def _rearranged(x: Tensor) -> Iterator[tuple[str, Tensor]]:
    """A tensor in another order along an axis, or a part of it, in words."""
    for axis in range(x.ndim):
        n = x.shape[axis]
        if n < 2:
            continue
        what = "row" if axis == 0 else "entries"
        yield f"reversed along axis {axis}", x.flip(axis)
        nothing, first, last = (x.narrow(axis, i, 1) for i in (0, 0, n - 1))
        nothing = torch.zeros_like(nothing)
        most, rest = x.narrow(axis, 0, n - 1), x.narrow(axis, 1, n - 1)
        yield f"shifted by 1 along axis {axis}", torch.cat([nothing, most], axis)
        yield f"shifted by -1 along axis {axis}", torch.cat([rest, nothing], axis)
        yield f"rolled by 1 along axis {axis}", x.roll(1, axis)
        yield f"rolled by -1 along axis {axis}", x.roll(-1, axis)
        yield f"without its last entries along axis {axis}: the border is left out", torch.cat([most, nothing], axis)
        yield f"without its first entries along axis {axis}: the border is left out", torch.cat([nothing, rest], axis)
        yield f"at its first {what} along axis {axis} alone, and 0 elsewhere", _alone(x, axis, 0)
        yield f"at its last {what} along axis {axis} alone, and 0 elsewhere", _alone(x, axis, n - 1)
        yield f"at its first entries along axis {axis}, repeated", first.expand(x.shape)
        yield f"at its last entries along axis {axis}, repeated", last.expand(x.shape)
        yield f"summed over axis {axis}, and the sum spread over it", x.sum(axis, keepdim=True).expand(x.shape)
        yield f"averaged over axis {axis}", x.mean(axis, keepdim=True).expand(x.shape)
    if x.ndim > 1 and x.shape[-1] == x.shape[-2]:
        yield "transposed", x.mT
    if x.ndim > 1 and x.shape[-1] != x.shape[-2]:
        yield "read in the order of its transpose: rows as columns", x.mT.reshape(x.shape)
        yield "read in the order of its transpose: columns as rows", x.reshape(x.mT.shape).mT


def _alone(x: Tensor, axis: int, index: int) -> Tensor:
    only = torch.zeros_like(x)
    only.select(axis, index).copy_(x.select(axis, index))
    return only
