"""Another cotangent than the one that was handed in.

The rule may be J^T right, and u wrong: overwritten by x, by dx or by y before it is read, u^2, |u|, its mean, a part of
it, or u in another order. All of these are J^T w for a w of the shape of u. The same is tried of what is written: g is r
in another order, or without its last entries.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ...causes import Cause
from ..evidence import Evidence, Said
from .graph import Reading, read
from .tape import replay


def other_cotangent(e: Evidence) -> Iterator[Said]:
    """J^T w for another w than u: a value of the formula, or u changed."""
    yield from _among(e, _cotangents)


def written_over(e: Evidence) -> Iterator[Said]:
    """J^T w where w is a gradient."""
    yield from _among(e, _gradients)


def _among(e: Evidence, cotangents: Callable[[Reading, Tensor], Iterator[tuple[str, Tensor]]]) -> Iterator[Said]:
    for r in read(e):
        if len(r.formula.u) == 1:
            (u,), (output,) = r.formula.u, r.tape.outputs
            found = list(cotangents(r, u))
            for k in r.mistaken(output, u, torch.stack([w for _, w in found])) if found else ():
                yield Cause.UPSTREAM, found[k][0]


def _cotangents(r: Reading, u: Tensor) -> Iterator[tuple[str, Tensor]]:
    numbers, values = r.alike(u.shape)
    for number, value in zip(numbers, values, strict=True):
        name = r.words.phrase(number)
        yield f"the cotangent is overwritten by {name} before it is read, or confused with it", value
    yield "the cotangent is taken to be 1", torch.ones_like(u)
    for what, w in (("its absolute value", u.abs()), ("its square", u * u), ("its sign", u.sign())):
        yield f"{what} is taken in place of the cotangent", w
    for what, w in rearranged(u):
        yield f"the cotangent is {what}", w


def _gradients(r: Reading, u: Tensor) -> Iterator[tuple[str, Tensor]]:
    alike = [i for i, leaf in enumerate(r.formula.leaves) if leaf.shape == u.shape]
    with torch.enable_grad():
        leaves = [leaf.detach().clone().requires_grad_() for leaf in r.formula.leaves]
        (y,) = replay(r.tape, leaves)
        grads = torch.autograd.grad(y, [leaves[i] for i in alike], u, materialize_grads=True) if alike else ()
    for i, gradient in zip(alike, grads, strict=True):
        yield f"the cotangent is overwritten by the gradient of {r.formula.names[i]} before it is read", gradient


def written_elsewhere(e: Evidence) -> Iterator[Said]:
    """The right gradient in another order, or a part of it."""
    for r in read(e):
        for what, w in rearranged(r.r):
            if r.explains(w):
                yield Cause.ORDER, f"it is the reference {what}"


def unwritten(e: Evidence) -> Iterator[Said]:
    """The right gradient but for a part along an axis, which is 0."""
    for r in read(e):
        lost = (r.g == 0) & (r.r != 0)
        count, part = int(lost.sum()), _slab(r, lost)
        if part and count < int((r.r != 0).sum()) - 2 and r.explains(torch.where(lost, 0, r.r)):
            told = f"{count} of {lost.numel()} entries are 0, as if not written: {part}; the others are right"
            yield Cause.NOT_WRITTEN, told


def _slab(r: Reading, lost: Tensor) -> str:
    """Which part of an axis it is, if it is one."""
    for axis in range(lost.ndim):
        lines = lost.movedim(axis, 0).reshape(lost.shape[axis], -1).any(1)
        inside = lines.reshape(-1, *[1] * (lost.ndim - 1 - axis)).expand_as(lost)
        if lines.any() and not lines.all() and bool((r.g[inside] == 0).all()):
            found = lines.nonzero()[:, 0].tolist()
            if found == list(range(found[0], found[-1] + 1)):
                where = "the border" if found[0] == 0 or found[-1] == len(lines) - 1 else "a part"
                return f"{where} of axis {axis}, {found[0]} to {found[-1]}"
    return ""


def rearranged(x: Tensor) -> Iterator[tuple[str, Tensor]]:
    """A tensor in another order along an axis, or a part of it, in words."""
    for axis in range(x.ndim):
        n = x.shape[axis]
        if n < 2:
            continue
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
        yield f"at its first entries along axis {axis} alone, and 0 elsewhere", _alone(x, axis, 0)
        yield f"at its last entries along axis {axis} alone, and 0 elsewhere", _alone(x, axis, n - 1)
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
