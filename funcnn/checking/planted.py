"""Mistakes to plant in a backward rule that is right: of its gradients, of its cotangents, or of its later calls.

Each is written with operations that vmap can follow, since a rule may be called under it.
"""

from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import torch
from torch import Tensor

SMALL, ENTRY, LESS = 1e-3, 0.1, 0.1  # the relative errors, and what an entry in the first half of a leaf counts


class Call(NamedTuple):
    """One call of the right rule."""

    grads: list[Tensor]
    cotangents: list[Tensor]  # none where the rule takes none
    pull: Callable[[list[Tensor]], list[Tensor]]  # the gradients for other cotangents
    number: int  # from 1
    rows: int  # N


class Mistake(NamedTuple):
    """A mistake, what a test is that passes it and what would see it, and what it takes to make it.

    `plant` gives the wrong gradients, None for a missing one; or None where the call leaves no room for the mistake.
    """

    name: str
    plant: Callable[[Call], list[Tensor | None] | None]
    blind: str
    needs: str = ""


def fits(mistake: Mistake, call: Call) -> bool:
    """Whether the rule can make the mistake: some sums and symmetric gradients stay what they are in any order."""
    if mistake.name not in ("permuted", "exchanged"):
        with suppress(Exception):  # the rule may take no other cotangent
            return mistake.plant(call) is not None
        return False
    grads = call.grads
    with suppress(Exception):
        grads = call.pull([_generic(dy) for dy in call.cotangents]) if call.cotangents else grads
    planted = mistake.plant(call._replace(grads=grads))
    try:
        return planted is not None and any(
            not torch.equal(w, g) for w, g in zip(planted, grads, strict=True) if w is not None
        )
    except RuntimeError:
        return True  # under vmap there are no numbers to look at


def alone(index: int, path: str) -> Mistake:
    """The wrong sign in one gradient, all others being right."""

    def plant(call: Call) -> list[Tensor | None]:
        return [-g if i == index else g for i, g in enumerate(call.grads)]

    return Mistake(f"sign of {path}", plant, f"a rule of the wrong sign in {path} alone: compare that gradient too")


def _generic(dy: Tensor) -> Tensor:
    """Numbers like no others, without a generator, which vmap would refuse."""
    return torch.arange(1, dy.numel() + 1, device=dy.device).sin().to(dy.dtype).reshape(dy.shape)


def _scaled(factor: float) -> Callable[[Call], list[Tensor | None]]:
    return lambda call: [factor * g for g in call.grads]


def _entry(call: Call) -> list[Tensor | None] | None:
    """In each leaf the largest entry of its second half, where who looks at a few of them does not look."""

    def wrong(g: Tensor) -> Tensor:
        if g.numel() < 2:
            return g
        flat, index = g.flatten(), torch.arange(g.numel(), device=g.device)
        weight = torch.where(index < g.numel() // 2, LESS, 1.0)
        return torch.where(index == (weight * flat.abs()).argmax(), (1 + ENTRY) * flat, flat).reshape(g.shape)

    return [wrong(g) for g in call.grads] if any(g.numel() > 1 for g in call.grads) else None


def _small(call: Call) -> list[Tensor | None] | None:
    coarse = any(torch.finfo(g.dtype).eps > SMALL / 10 for g in call.grads)
    return None if coarse else [(1 + SMALL) * g for g in call.grads]


def _of_other(change: Callable[[Tensor], Tensor]) -> Callable[[Call], list[Tensor | None] | None]:
    return lambda call: [*call.pull([change(dy) for dy in call.cotangents])] if call.cotangents else None


def _layout(call: Call) -> list[Tensor | None] | None:
    several = any(dy.numel() > 1 for dy in call.cotangents)
    return [*call.pull([_as_in_memory(dy) for dy in call.cotangents])] if several else None


def _as_in_memory(dy: Tensor) -> Tensor:
    """What a kernel gets that ignores strides; NaN beyond the end of the memory."""
    if dy.is_contiguous():
        return dy
    try:
        start = dy.storage_offset()
        read = dy.as_strided((min(dy.numel(), dy.untyped_storage().nbytes() // dy.itemsize - start),), (1,), start)
        return torch.cat([read, dy.new_full((dy.numel() - len(read),), torch.nan)]).reshape(dy.shape)
    except (RuntimeError, NotImplementedError):  # under torch.func there is no storage
        return dy.permute(sorted(range(dy.ndim), key=lambda i: -dy.stride()[i])).reshape(dy.shape)


def _rows(call: Call) -> list[Tensor | None] | None:
    return [call.rows * g for g in call.grads] if call.rows > 1 else None


def _permuted(call: Call) -> list[Tensor | None] | None:
    def permuted(g: Tensor) -> Tensor:
        square = g.ndim > 1 and g.shape[-1] == g.shape[-2] > 1
        return g.mT if square else g.flatten().roll(1).reshape(g.shape)

    return [permuted(g) for g in call.grads] if any(g.numel() > 1 for g in call.grads) else None


def _exchanged(call: Call) -> list[Tensor | None] | None:
    alike: defaultdict[object, list[int]] = defaultdict(list)
    for i, g in enumerate(call.grads):
        alike[g.shape, g.dtype].append(i)
    found: list[Tensor | None] = [*call.grads]
    for places in alike.values():
        for i, j in zip(places, places[1:] + places[:1], strict=True):
            found[i] = call.grads[j]
    return found if len(alike) < len(found) else None


def _missing(call: Call) -> list[Tensor | None] | None:
    return [*call.grads[:-1], None] if len(call.grads) > 1 else None


def _later(call: Call) -> list[Tensor | None]:
    return [g if call.number == 1 else 2 * g for g in call.grads]


UPSTREAM = "the rule takes no cotangent, or no other one"
MISTAKES = (
    Mistake("sign", _scaled(-1), "a rule of the wrong sign: compare g - r, not squares, norms or absolute values"),
    Mistake("factor 2", _scaled(2), "a rule that is twice too large: compare g - r; a correlation is blind to scale"),
    Mistake("zero", _scaled(0), "a rule that gives 0: compare with another source, at a point where the gradient is not 0"),
    Mistake(
        "one entry",
        _entry,
        f"a rule with one entry wrong by {ENTRY:.0%}: compare every entry, not a few of them, a sum or a norm",
        "no gradient has two entries",
    ),
    Mistake(
        "1e-3",
        _small,
        "a rule that is wrong by a thousandth: compare in float64, with a tolerance of 1e-6 or less",
        "the gradients have no digits for it",
    ),
    Mistake("NaN", _scaled(torch.nan), "NaN: assert error <= tolerance, since NaN is not above any tolerance"),
    Mistake(
        "permuted",
        _permuted,
        "a rule with the right entries in the wrong places: compare entry by entry, with random inputs and cotangents",
        "no gradient changes when its entries change places",
    ),
    Mistake(
        "exchanged",
        _exchanged,
        "a rule that exchanges the gradients of its inputs: make the inputs different, and compare each with its own",
        "no two gradients of one shape differ",
    ),
    Mistake(
        "missing",
        _missing,
        "a rule without the gradient of its last input: ask for all of them, as zip does with strict=True, and for no None",
        "there are no two gradients",
    ),
    Mistake(
        "cotangent ignored",
        _of_other(torch.ones_like),
        "a rule that takes the cotangent for 1: y.sum().backward() sends ones; use a random cotangent",
        UPSTREAM,
    ),
    Mistake(
        "cotangent squared",
        _of_other(lambda dy: dy * dy.abs()),
        "a rule that is not linear in the cotangent u, but takes u |u|: ones and one-hot u are like that; use a random one",
        UPSTREAM,
    ),
    Mistake(
        "cotangent's layout",
        _layout,
        "a rule that reads the cotangent as it lies in memory: send one that is not contiguous, as u.T.contiguous().T is",
        "the rule takes no cotangent of several entries, or no other one",
    ),
    Mistake(
        "factor N",
        _rows,
        "a rule that takes a sum over the batch for a mean, or is N times too large: compare g - r, of several samples",
        "there is one sample alone",
    ),
    Mistake("second call", _later, "a rule that is wrong from its second call on: call it twice, and compare both"),
)
