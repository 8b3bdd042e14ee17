"""The check moves the point: a rule that is right where its author looked may be wrong beside it.

Weights of 1, biases of 0, a probability of 0, one group, one step in time, indices that never repeat: a mistake that such a
point hides shows at others. So a handful of points is derived from the given one, where the function may refuse what it is
given. At each of them one difference is taken, of all operands together along a random direction,

    |<g, z> - (f(w + h z) - f(w - h z)) / 2h| <= tolerance (|<g, z>| + |g| |z| / sqrt(n))

and only where it objects are the witnesses heard, leaf by leaf.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from .. import tree
from ..report import relative_error
from ..types import Batch, Params
from .plain import derived, plain
from .subject import Subject
from .thresholds import EPS, LIMITS
from .trials import attempt, copied

Operands = list[Any]
AWAY, FACTOR = 0.5, 1000.0


def nearby(operands: Operands, paths: list[str]) -> Iterator[tuple[str, Operands]]:
    """Points derived from the given one: the condition that holds there, and the operands."""
    together = [off(leaf) if _is_real(leaf) else leaf for leaf in operands]
    if sum(leaf.numel() for leaf in operands if _is_real(leaf)) > LIMITS.many:
        yield "all inputs are others", together
        return
    for i, (path, leaf) in enumerate(zip(paths, operands, strict=True)):
        for condition, moved in _moves(leaf):
            yield f"{path} {condition}", [*operands[:i], moved, *operands[i + 1 :]]
    yield "all inputs are others", together
    whole = [leaf for leaf in operands if isinstance(leaf, Tensor) and not _is_real(leaf)]
    for axis in range(3):
        if any(leaf.ndim > axis and leaf.shape[axis] == 1 for leaf in whole):
            continue  # an index is not to be doubled with what it points to
        longer = [_doubled(leaf, axis) for leaf in operands]
        if any(x is not y for x, y in zip(longer, operands, strict=True)):
            yield f"axis {axis} has 2 entries in place of 1", longer


def beside(params: Params, batch: Batch) -> Iterator[tuple[str, Params, Batch]]:
    """The same for a function of parameters and a batch: one point, since many numbers have few special values."""
    if all(_is_real(leaf) for leaf in tree.leaves(params)):
        others = tree.map(lambda leaf: _tied(_zeroed(leaf)) if _is_real(leaf) else leaf, batch)
        yield "the parameters are others, and the batch has zeros and ties", tree.map(off, params), others


def _moves(leaf: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(leaf, bool):
        yield f"is {not leaf}", not leaf
    elif isinstance(leaf, int):
        yield f"is {leaf + 1}", leaf + 1
    elif isinstance(leaf, float):
        yield f"is not {leaf:g}", leaf / 2 if leaf else 0.25
    elif _is_real(leaf):
        yield from _of_real(leaf)
    elif isinstance(leaf, Tensor) and leaf.dtype == torch.bool:
        yield "is the opposite", ~leaf
    elif isinstance(leaf, Tensor) and leaf.ndim and leaf.numel() > 1 and not leaf.is_complex():
        yield "has repeated entries", leaf[:1].expand_as(leaf).clone()
        yield "is in another order", leaf.flip(0)


def _of_real(leaf: Tensor) -> Iterator[tuple[str, Tensor]]:
    if (leaf == leaf.flatten()[0]).all() and leaf.numel() > 1:
        yield f"is not {leaf.flatten()[0]:g}", off(leaf)
    yield f"is {FACTOR:g} times as large", FACTOR * leaf
    yield f"is {FACTOR:g} times as small", leaf / FACTOR
    yield "has zeros", _zeroed(leaf)
    if leaf.ndim and leaf.shape[0] > 1:
        yield "has ties", _tied(leaf)


def _zeroed(leaf: Tensor) -> Tensor:
    zeros = leaf.clone().flatten()
    zeros[::3] = 0
    return zeros.reshape(leaf.shape)


def _tied(leaf: Tensor) -> Tensor:
    ties = leaf.clone()
    if leaf.ndim and leaf.shape[0] > 1:
        ties[1] = ties[0]
    return ties


def off(leaf: Tensor, seed: int = 0) -> Tensor:
    """Other numbers of the same size and, where all have one, of the same sign."""
    generator = torch.Generator().manual_seed(leaf.numel() + seed)
    size = leaf.abs().mean().item() or 1.0
    noise = AWAY * torch.randn(leaf.shape, generator=generator, dtype=torch.float64, device="cpu").to(leaf)
    if (leaf > 0).all() or (leaf < 0).all():
        return leaf * noise.exp()
    return leaf + size * noise


def _doubled(leaf: Any, axis: int) -> Any:
    if not isinstance(leaf, Tensor) or leaf.ndim <= axis or leaf.shape[axis] != 1:
        return leaf
    other = off(leaf) if _is_real(leaf) else leaf
    return torch.cat([leaf, other], axis)


def _is_real(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.dtype == torch.float64 and bool(leaf.numel()) and bool(leaf.isfinite().all())


def objects(there: Subject, tolerance: float) -> bool:
    """Whether one difference along a random direction disagrees with a gradient; not where the function refuses."""
    reference, (leaves, unflatten) = there.reference or there.claimed, tree.flatten(there.params)
    h, generator = LIMITS.step, torch.Generator().manual_seed(len(leaves))
    normal = [torch.randn(x.shape, generator=generator, dtype=torch.float64, device="cpu").to(x) for x in leaves]
    zs = [max(x.abs().max().item(), 1e-3) * z if x.numel() else z for x, z in zip(leaves, normal, strict=True)]
    result = attempt(there.claimed.value_and_grad, copied(there.params), copied(there.batch))
    moved = [unflatten([x + step * z for x, z in zip(leaves, zs, strict=True)]) for step in (h, -h)]
    ends = [attempt(reference.value, point, copied(there.batch)) for point in moved]
    if result is None or any(end is None or not end.isfinite() for end in (*ends, result[0])):
        return False
    grads = tree.leaves(result[1])
    if any(g.shape != x.shape for g, x in zip(grads, leaves, strict=True)):
        return True
    slope = ((ends[0] - ends[1]) / (2 * h)).item()
    parts = [g.double() * z for g, z in zip(grads, zs, strict=True)]
    own = sum(part.sum().item() for part in parts)
    size = max(abs(own), abs(slope), sum(part.square().sum().item() for part in parts) ** 0.5)
    noise = LIMITS.roundings * EPS * abs(ends[0].item()) / h
    return not abs(own - slope) <= 100 * tolerance * size + noise


def overflows(there: Subject) -> bool:
    """Whether the exponential of an operand does."""
    most = math.log(torch.finfo(torch.float64).max)
    return any(bool((leaf.abs() > most).any()) for leaf in tree.leaves(there.params))


def agreeing(there: Subject) -> set[str]:
    """The leaves of which torch's gradient of the plain operations says the same as the one in question, NaN included."""
    reference = there.reference or there.claimed
    right = derived(plain(lambda params: reference.value(params, copied(there.batch)), there.params), there.params)
    result = attempt(there.claimed.value_and_grad, copied(there.params), copied(there.batch))
    if right is None or result is None:
        return set()
    pairs = zip(there.paths, tree.leaves(result[1]), right, strict=True)
    close = [(path, g, r) for path, g, r in pairs if g.isfinite().all() == r.isfinite().all()]
    return {path for path, g, r in close if not g.isfinite().all() or relative_error(g, r) <= LIMITS.seen}
