"""The right summands put together wrongly. r is the sum of s_k = J^T u_k, where u_k is the cotangent at index k of y, or 0.

g_i = s_k(i)                the last of those that meet at i in place of their sum, or the first
g_i = sum_{k in K(i)} s_k   some of them, such as that at the same index or those at earlier ones
g_i = w_i r_i               one weight for each index along an axis: 0 where it is not written
"""

from collections.abc import Callable, Iterator
from math import prod

import torch
from torch import Tensor

from ...causes import Cause
from ..evidence import Evidence, Said
from .known import Guess, known, told, wrong
from .words import weights

SUMMANDS = 64


def overwritten(e: Evidence) -> Iterator[Said]:
    """One of the summands stands where their sum belongs."""
    at = known(e)
    if e.formula is None or at.recorded is None:
        return
    u, seen = e.formula.u[0], wrong(e)
    for leading in range(u.ndim, -1, -1):
        count = prod(u.shape[:leading])
        if 2 <= count <= SUMMANDS:
            s = at.parts(leading)
            here = s.abs() > 1e-9 * e.r.abs().max()
            if not ((here.sum(0) > 1) & seen).any():
                return
            k = torch.arange(count, device=s.device).reshape(-1, *[1] * e.g.ndim)
            last, first = (here * (k + 1)).amax(0) - 1, torch.where(here, k, count).amin(0)
            where = "indices repeat" if leading == u.ndim else f"the indices along the first {leading} axes of y meet"
            for words, index in (("last", last.clamp(min=0)), ("first", first.clamp(max=count - 1))):
                p = s.gather(0, index[None])[0] * here.any(0)
                sentence = (
                    f"where several outputs reach one entry it has what the {words} gives, not the sum: {words} write wins"
                )
                yield from told(e, [Guess(Cause.OVERWRITTEN, sentence, p)])
            distance = torch.where(here, (s - e.g).abs(), torch.inf).amin(0)
            p = torch.where(distance <= 1e-6 * e.g.abs() + e.allowed * e.r.abs().max(), e.g, torch.inf)
            if seen.sum() >= 6 and ((here.sum(0) > 1) | ~seen).all() and p.isfinite()[seen].all():
                sentence = f"where {where} it has one of the summands, not their sum: writes overwrite each other"
                yield from told(e, [Guess(Cause.OVERWRITTEN, sentence, torch.where(seen, p, e.r), fitted=True)])
            return


RELATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "the same index": lambda i, k: i == k,
    "another index": lambda i, k: i != k,
    "the same or a later one": lambda i, k: k >= i,
    "the same or an earlier one": lambda i, k: k <= i,
    "a later one": lambda i, k: k > i,
    "an earlier one": lambda i, k: k < i,
}


def cross_terms(e: Evidence) -> Iterator[Said]:
    """Along an axis that y and the leaf share: entry i has what some of the outputs k give to it, and not all."""
    at = known(e)
    if e.formula is None or at.recorded is None:
        return
    u = e.formula.u[0]
    for axis in range(min(u.ndim, e.g.ndim)):
        n = u.shape[axis]
        if n != e.g.shape[axis] or not 3 <= n <= SUMMANDS:
            continue
        s = at.slices(axis)
        i = torch.arange(n, device=u.device).reshape([-1 if a == axis else 1 for a in range(e.g.ndim)])[None]
        k = torch.arange(n, device=u.device).reshape(-1, *[1] * e.g.ndim)
        related = {words: holds(i, k) for words, holds in RELATIONS.items()}
        related |= {f"one less than {b} away": (i - k).abs() < b for b in range(2, n - 1)}
        related |= {f"the same block of {b}": i // b == k // b for b in range(2, n)}
        for words, holds in related.items():
            what = "nothing is carried over or added up" if words == "the same index" else "the other terms are left out"
            sentence = f"along axis {axis} it has only what the outputs at {words} give: {what}"
            yield from told(e, [Guess(Cause.CROSS_TERMS, sentence, (s * holds).sum(0))])


def weighted_entries(e: Evidence) -> Iterator[Said]:
    """Along an axis g = w r, with one w for each index."""
    at = known(e)
    for axis, n in enumerate(e.r.shape if e.g.shape == e.r.shape else ()):
        if n < 2 or e.r.numel() < 3 * n:
            continue
        rest = [a for a in range(e.r.ndim) if a != axis]
        squares = e.r.square().sum(rest, keepdim=True)
        w = (e.g * e.r).sum(rest, keepdim=True) / squares.clamp(min=1e-300)
        w = torch.where(squares > 0, w, 1)
        off = (w.flatten() - 1).abs() > 1e-5
        if n > 2 and ((e.r != 0).sum(rest)[off] < 2).any():
            continue
        for cause, sentence in weights(w.flatten(), f"along axis {axis}", at.fields):
            yield from told(e, [Guess(cause, sentence, w * e.r, fitted=True)])
