"""A rule that is right once it is given another tensor in place of one that it saved.

The rule under test is run again with what the formula has in the shape of a saved tensor, such as the output in place of
the input. What repairs it names the mistake.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from ...causes import Cause
from ..evidence import Evidence, Said
from .graph import Reading, read

MOST_TRIED = 40
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")


def repaired(e: Evidence) -> Iterator[Said]:
    """The rule is right with another saved tensor."""
    for r in read(e):
        saved = _saved(r)
        tried = 0
        for i, own in saved.items():
            for name, other in _others(r, own):
                tried += 1
                if tried > MOST_TRIED:
                    return
                if _right(r, i, other):
                    which = ORDINALS[i] if i < len(ORDINALS) else f"{i + 1}th"
                    place = f"in place of {_known(r, own)}" if _known(r, own) else "in its place"
                    yield (
                        Cause.SAVED_TENSOR,
                        f"a wrong operand: the rule is right if the {which} tensor it saved is {name}, {place}",
                    )


def _saved(r: Reading) -> dict[int, Tensor]:
    found: dict[int, Tensor] = {}

    def kept(i: int, tensor: Tensor) -> Tensor:
        found[i] = tensor.detach().clone()
        return tensor

    _pulled(r, kept)
    return {i: x for i, x in found.items() if x.is_floating_point() and x.ndim}


def _pulled(r: Reading, swap: object) -> Tensor:
    leaves, u = ([each.clone() for each in x] for x in (r.formula.leaves, r.formula.u))
    return r.formula.pull(leaves, u, swap)[r.formula.position]  # type: ignore[arg-type]


def _right(r: Reading, i: int, other: Tensor) -> bool:
    try:
        p = _pulled(r, lambda j, tensor: other.to(tensor).clone() if j == i else tensor)
    except (RuntimeError, ValueError, TypeError, IndexError):
        return False
    return bool(
        r.evidence >= 3 and p.shape == r.r.shape and (p - r.r).norm() <= min(1e-9 * r.r.norm(), 1e-5 * r.error.norm())
    )


def _others(r: Reading, own: Tensor) -> Iterator[tuple[str, Tensor]]:
    numbers, values = r.alike(own.shape)
    for number, value in zip(numbers, values, strict=True):
        if not torch.equal(value, own):
            yield r.words.phrase(number), value
    if own.ndim > 1 and own.shape[-1] == own.shape[-2]:
        yield "its transpose", own.mT.contiguous()


def _known(r: Reading, own: Tensor) -> str:
    numbers, values = r.alike(own.shape)
    return next((r.words.phrase(i) for i, x in zip(numbers, values, strict=True) if torch.equal(x, own)), "")
