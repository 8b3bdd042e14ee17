"""Ways in which a tensor gets into other places: each a linear map T that keeps the shape, with the words for T x."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from ...causes import Cause


class Move(NamedTuple):
    """T, the words that follow "x", and the name of such a mistake; "permuted" and "transposed" only change the order."""

    words: str
    to: Callable[[Tensor], Tensor]
    cause: Cause = Cause.PERMUTED

    @property
    def permutes(self) -> bool:
        """Whether all entries are kept."""
        return self.cause in (Cause.PERMUTED, Cause.TRANSPOSED)


def moves(shape: torch.Size) -> Iterator[Move]:
    """The moves that a tensor of this shape can have made, the plain ones first."""
    axes = [axis for axis, n in enumerate(shape) if n > 1]
    for axis in axes:
        yield Move(f"in reverse order along axis {axis}", partial(torch.flip, dims=(axis,)))
    for axis in axes:
        yield from _along(axis, shape[axis])
    for a, b in combinations(axes, 2):
        yield from _exchanged(shape, a, b)
    for axis in axes:
        yield from _spread(axis, shape[axis])
    for axis in axes:
        yield from _border(axis, shape[axis])


def _along(axis: int, n: int) -> Iterator[Move]:
    for k in [1, -1] if n > 2 else []:
        way = "on" if k > 0 else "back"
        yield Move(f"rolled {way} by one along axis {axis}", partial(torch.roll, shifts=k, dims=axis))
        yield Move(f"shifted {way} by one along axis {axis}, 0 coming in", partial(_shifted, k=k, axis=axis), Cause.SHIFTED)
        edge = "first" if k > 0 else "last"
        words = f"shifted {way} by one along axis {axis}, its {edge} repeated"
        yield Move(words, partial(_shifted, k=k, axis=axis, repeat=True), Cause.SHIFTED)
    for parts in (2, 3, 4):
        for i, j in combinations(range(parts), 2) if n % parts == 0 else ():
            named = "halves" if parts == 2 else f"parts {i} and {j} of {parts}"
            yield Move(f"with {named} along axis {axis} exchanged", partial(_parts, axis=axis, parts=parts, i=i, j=j))
    if n % 2 == 0 and n > 2:
        yield Move(f"with neighbours in pairs along axis {axis} exchanged", partial(_pairs, axis=axis))
    for d in range(2, n // 2 + 1):
        if n % d == 0:
            words = (
                f"regrouped along axis {axis}, ({d}, {n // d}) read as ({n // d}, {d}): tile and repeat_interleave differ so"
            )
            yield Move(words, partial(_regrouped, axis=axis, d=d))
    for k in range(2, min(n - 1, 9)):
        yield Move(f"rolled on by {k} along axis {axis}", partial(torch.roll, shifts=k, dims=axis))
    for k in (2, -2, 3, -3) if n > 4 else ():
        words = f"shifted {'on' if k > 0 else 'back'} by {abs(k)} along axis {axis}, 0 coming in"
        yield Move(words, partial(_shifted, k=k, axis=axis), Cause.SHIFTED)


def _exchanged(shape: torch.Size, a: int, b: int) -> Iterator[Move]:
    words = f"transposed in axes {a} and {b}"
    if shape[a] == shape[b]:
        yield Move(words, partial(torch.transpose, dim0=a, dim1=b), Cause.TRANSPOSED)
    else:
        yield Move(f"{words} and reshaped back", lambda x: x.transpose(a, b).reshape(shape), Cause.TRANSPOSED)
        other = [*shape]
        other[a], other[b] = other[b], other[a]
        yield Move(
            f"reshaped and transposed in axes {a} and {b}", lambda x: x.reshape(other).transpose(a, b), Cause.TRANSPOSED
        )


def _spread(axis: int, n: int) -> Iterator[Move]:
    for k, name in ((0, "first"), (n - 1, "last")):
        yield Move(f"its {name} along axis {axis} in place of every one", partial(_one, axis=axis, k=k), Cause.BROADCAST)
        yield Move(f"all of it summed into the {name} along axis {axis}", partial(_only, axis=axis, k=k), Cause.GATHERED)
    yield Move(f"its sum over axis {axis} in place of every one", partial(_total, axis=axis), Cause.BROADCAST)
    yield Move(f"its mean over axis {axis} in place of every one", lambda x: _total(x, axis) / n, Cause.BROADCAST)


def _border(axis: int, n: int) -> Iterator[Move]:
    for start, name in ((0, "last"), (1, "first")):
        words = f"without its {name} entries along axis {axis}, 0 in their place: the border is left out"
        yield Move(words, partial(_within, axis=axis, start=start, length=n - 1), Cause.SLAB)
    for start, name in ((0, "first"), (n - 1, "last")) if n > 2 else ():
        words = f"its {name} {'entries' if axis else 'row'} along axis {axis} alone, and 0 elsewhere"
        yield Move(words, partial(_within, axis=axis, start=start, length=1), Cause.SLAB)


def _one(x: Tensor, axis: int, k: int) -> Tensor:
    return x.narrow(axis, k, 1).expand_as(x)


def _within(x: Tensor, axis: int, start: int, length: int) -> Tensor:
    only = torch.zeros_like(x)
    only.narrow(axis, start, length).copy_(x.narrow(axis, start, length))
    return only


def _total(x: Tensor, axis: int) -> Tensor:
    return x.sum(axis, keepdim=True).expand_as(x)


def _only(x: Tensor, axis: int, k: int) -> Tensor:
    index = torch.tensor([k], device=x.device)
    return torch.zeros_like(x).index_copy(axis, index, x.sum(axis, keepdim=True))


def _shifted(x: Tensor, k: int, axis: int, repeat: bool = False) -> Tensor:
    n = x.shape[axis]
    source = torch.arange(n, device=x.device) - k
    inside = ((source >= 0) & (source < n)).reshape([-1 if a == axis else 1 for a in range(x.ndim)])
    y = x.index_select(axis, source.clamp(0, n - 1))
    return y if repeat else y * inside


def _parts(x: Tensor, axis: int, parts: int, i: int, j: int) -> Tensor:
    pieces = [*x.chunk(parts, axis)]
    pieces[i], pieces[j] = pieces[j], pieces[i]
    return torch.cat(pieces, axis)


def _pairs(x: Tensor, axis: int) -> Tensor:
    pairs: Tensor = x.unflatten(axis, (-1, 2))
    return pairs.flip(axis + 1).flatten(axis, axis + 1)


def _regrouped(x: Tensor, axis: int, d: int) -> Tensor:
    groups: Tensor = x.unflatten(axis, (d, -1))
    return groups.transpose(axis, axis + 1).flatten(axis, axis + 1)
