"""A sum over uses that is gathered otherwise.

Where y_k = x_p(k), such as rows of an embedding, x is handed down the sum of y'_k over all k with p(k) = i. A rule that
writes where it must add keeps the last; others average, or forget one.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from ...causes import Cause
from ..tape import filled
from .graph import Edge, Reading
from .local import Mistakes, tried


def _collected(r: Reading, edge: Edge) -> Iterator[Mistakes]:
    """Where an entry is handed on several times, what comes back is a sum: other ways to gather it."""
    node, own = r.node(edge), r.value(edge.source)
    if node.pointwise or len(node.outs) != 1 or edge.up.numel() == 0:
        return
    slots = iter(range(len(node.given)))
    numbers = torch.arange(own.numel(), dtype=own.dtype, device=own.device).reshape(own.shape)
    args, kwargs = filled(
        (node.args, node.kwargs), lambda ref: numbers if next(slots) == edge.slot else r.live[ref.number].detach()
    )
    places = node.op(*args, **kwargs).flatten().long()
    if places.amin() < 0 or places.amax() >= own.numel():
        return
    if not torch.equal(own.flatten()[places], r.value(node.outs[0]).flatten()) or len(places.unique()) == len(places):
        return
    up, right = edge.up.flatten(), edge.down.flatten()
    count = torch.bincount(places, minlength=own.numel()).clamp(min=1).to(own)
    last, first = (_one(places, up, up == up, which, own.numel()) for which in ("amax", "amin"))
    last_given, first_given = (_one(places, up, up != 0, which, own.numel()) for which in ("amax", "amin"))
    downs = [last, first, last_given, first_given, right / count, right - last, right - first]
    ways = (
        "are not added up: the last overwrites the others",
        "are not added up: the first term alone is kept",
        "are not added up: the last that is not 0 overwrites the others",
        "are not added up: the first that is not 0 is kept",
        "are averaged, a mean in place of a sum over the count of its uses",
        "are added up without the last of them",
        "are added up without the first of them",
    )
    told = f"where {r.words.operation(node)} uses an entry of {r.words.phrase(edge.source)} repeatedly, its cotangents"
    yield Mistakes(Cause.REPEATS, lambda k: f"{told} {ways[k]}", torch.stack(downs).reshape(-1, *own.shape))


def _one(places: Tensor, up: Tensor, among: Tensor, which: str, size: int) -> Tensor:
    """For every place the cotangent of its last or first use among some, or 0."""
    order = torch.arange(len(places), device=places.device)[among]
    found = torch.full((size,), -1, device=places.device).scatter_reduce_(0, places[among], order, which, include_self=False)
    return torch.where(found >= 0, up[found.clamp(min=0)], 0)


collected = tried(_collected)
