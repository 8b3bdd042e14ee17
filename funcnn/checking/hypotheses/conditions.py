"""Wrong only under a condition, and right elsewhere: beyond a threshold, at zeros, at ties, under a mask."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ...causes import Cause
from ..evidence import Evidence, Said
from .known import LARGE, known, together, wrong
from .words import times

CHANCE = 200  # ways to choose the wrong entries, for each condition that is tried


def masked(e: Evidence) -> Iterator[Said]:
    """Where an input of labels, or of zeros and ones, has one value; or on one side of a diagonal."""
    yield from _diagonals(e)
    yield from _where(e, discrete=True)


def branched(e: Evidence) -> Iterator[Said]:
    """Beyond a threshold of an input, of y or of u, at their zeros, or where entries tie."""
    yield from _where(e, discrete=False)


def under_conditions(es: Sequence[Evidence]) -> Iterator[Said]:
    """A threshold of an entry, or of a statistic of a line, that holds at several points: these have more entries."""
    yield from _where(together(es), discrete=False)


def _where(e: Evidence, discrete: bool) -> Iterator[Said]:
    if e.g.shape != e.r.shape or e.g.numel() > LARGE:
        return
    seen, visible = wrong(e), (e.g != 0) | (e.r != 0)
    fields = known(e).fields
    if not seen.any() or seen[visible].all():
        return
    for name, x in fields:
        for v in _broadcast(x, e.g.shape):
            own, at = _collapsed(v, seen), _collapsed(v, visible & ~seen)
            ways = math.comb(int((own | at).sum()), int(own.sum()))
            if (own & at).any() or not at.any():
                continue
            values, bad, good = x.flatten(), own.flatten(), at.flatten()
            plain = not x.is_floating_point() or bool(((x == 0) | (x == 1)).all())
            if plain != discrete or ways < (10 if plain else CHANCE * 4 * len(fields)):
                continue
            for cause, words in _conditions(name, values, bad, good, plain):
                yield cause, f"it is wrong only where {words}{_there(e, seen, fields)}"
    if e.g.numel() > 3 and not discrete:
        yield from _ties(e, seen, visible)


def _diagonals(e: Evidence) -> Iterator[Said]:
    if e.g.ndim < 2 or e.g.shape != e.r.shape or e.g.shape[-1] != e.g.shape[-2] or e.g.shape[-1] < 3:
        return
    seen, visible = wrong(e), (e.g != 0) | (e.r != 0)
    i = torch.arange(e.g.shape[-1], device=e.g.device)
    for words, holds in (
        ("on the diagonal", i[:, None] == i),
        ("off the diagonal", i[:, None] != i),
        ("below the diagonal", i[:, None] > i),
        ("above the diagonal", i[:, None] < i),
        ("on and below the diagonal", i[:, None] >= i),
        ("on and above the diagonal", i[:, None] <= i),
    ):
        if seen.any() and (visible & ~seen).any() and (seen == (holds & visible)).all():
            yield Cause.TRIANGLE, f"it is wrong only {words}, and there everywhere{_there(e, seen, known(e).fields)}"


def _broadcast(x: Tensor, shape: torch.Size) -> list[Tensor]:
    """The tensor beside one of this shape: entry by entry, along its last axes, or along its first."""
    if not x.ndim or x.numel() < 4:
        return []
    ways = {x.shape, torch.Size([*x.shape, *[1] * (len(shape) - x.ndim)])}
    return [x.reshape(way) for way in ways if len(way) <= len(shape) and _fits(way, shape)]


def _fits(way: torch.Size, shape: torch.Size) -> bool:
    return all(n in (1, m) for n, m in zip(way[::-1], shape[::-1], strict=False))


def _collapsed(v: Tensor, mask: Tensor) -> Tensor:
    """Where the mask is true anywhere over the axes along which v is repeated."""
    aligned = v.reshape([1] * (mask.ndim - v.ndim) + [*v.shape])
    axes = [axis for axis, n in enumerate(aligned.shape) if n == 1 and mask.shape[axis] > 1]
    return (mask.sum(axes, keepdim=True) > 0 if axes else mask).reshape(aligned.shape)


def _conditions(name: str, v: Tensor, bad: Tensor, good: Tensor, plain: bool) -> Iterator[Said]:
    inside, outside = v[bad], v[good]
    if plain:
        if (inside == inside[0]).all() and (outside != inside[0]).all():
            binary = bool(((v == 0) | (v == 1)).all())
            value = f"{inside[0].item():g}"
            yield Cause.MASK if binary else Cause.BRANCH, f"{name} is {value}" + (", under the mask" if binary else "")
        return
    if not inside.any() and outside.all():
        yield Cause.BRANCH, f"{name} is 0"
    for sign, words, a, b in (
        (">", name, inside, outside),
        ("<", name, inside, outside),
        (">", f"|{name}|", inside.abs(), outside.abs()),
        ("<", f"|{name}|", inside.abs(), outside.abs()),
    ):
        low, high = (b.max(), a.min()) if sign == ">" else (a.max(), b.min())
        if low < high:
            yield Cause.BRANCH, f"{words} {sign} {_plain(low.item(), high.item())}, a region or branch of its own"


def _plain(low: float, high: float) -> str:
    """The shortest number in between."""
    for digits in range(-3, 9):
        c = round((low + high) / 2, digits)
        if low <= 0 <= high:
            return "0"
        if low <= c <= high:
            return f"{c:.9g}"
    return f"{(low + high) / 2:.9g}"


def _ties(e: Evidence, seen: Tensor, visible: Tensor) -> Iterator[Said]:
    if e.formula is None or e.formula.x.numel() > 10_000:
        return
    x = e.formula.x
    for axis, n in enumerate(x.shape):
        ties = (x.unsqueeze(axis) == x.unsqueeze(axis + 1)).sum(axis) > 1
        if n > 1 and ties.any() and (ties | ~seen).all() and (seen | ~ties | ~visible).all():
            yield Cause.TIES, f"it is wrong only where entries tie along axis {axis}{_there(e, seen, known(e).fields)}"


def _there(e: Evidence, seen: Tensor, fields: list[tuple[str, Tensor]]) -> str:
    """What it is at these entries, if that is plain."""
    g, r = e.g[seen], e.r[seen]
    own = Evidence(g, r, e.allowed)
    if not g.any():
        return f": there it is {times(0)}"
    if own.fits(own.factor * r) and r.any():
        return f": there it is {times(own.factor)}"
    if (g - g[0]).abs().max() <= 1e-9 * g.abs().max():
        return f": there it is {g[0]:.6g} throughout"
    for name, x in reversed(fields):
        if x.shape == e.g.shape and own.fits(x[seen].to(g)):
            return f": there it is {name} itself"
    return ""
