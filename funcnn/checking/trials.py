"""What is tried before any gradient is compared.

Does the function keep its hands off its inputs, repeat itself, and agree with itself on its own value? A gradient of
something else, or of something that changes, has no error to speak of.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .. import kernels, tree
from ..causes import Cause
from ..report import Finding, Verdict, relative_error
from ..types import Tree
from .thresholds import LIMITS


def attempt(call: Any, *arguments: Any) -> Any:
    """What the call returns, or None where the function refuses: it may be nowhere else than where it was given."""
    try:
        return kernels.undisturbed(call, *arguments)
    except Exception:
        return None


def quoted(error: Exception) -> str:
    """The kind of an error, and the first line of what it says."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


def same_bits(x: Tree, y: Tree) -> bool:
    """Whether all leaves are equal, NaN being equal to NaN."""
    return all(map(_same, tree.leaves(x), tree.leaves(y)))


def _same(x: Any, y: Any) -> bool:
    if not isinstance(x, Tensor):
        return x is y
    return torch.equal(x, y) or torch.equal(x.nan_to_num(), y.nan_to_num())


def copied(x: Tree) -> Tree:
    """A copy to hand out, strides and all, in which a function may write; what requires gradients goes on to."""

    def leaf(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        copy = _with_strides(x.detach())
        return copy.requires_grad_() if x.requires_grad else copy

    return tree.map(leaf, x)


def _with_strides(x: Tensor) -> Tensor:
    if x.is_contiguous() or x.layout is not torch.strided or x.is_conj() or x.is_neg() or not x.numel():
        return x.clone()
    span = 1 + sum((n - 1) * stride for n, stride in zip(x.shape, x.stride(), strict=True))
    return x.as_strided((span,), (1,)).clone().as_strided(x.shape, x.stride())


def untouched(call: Callable[..., Any], *arguments: Tree, paths: Sequence[str]) -> tuple[Any, Finding]:
    """What the call returns for copies of the arguments, whose leaves have these paths, and whether it writes into them."""
    handed = copied(arguments)
    result = call(*handed)
    if same_bits(handed, arguments):
        return result, Finding("ok", 0.0)
    leaves = zip(paths, tree.leaves(arguments), tree.leaves(handed), strict=True)
    changed = [path for path, x, y in leaves if not same_bits(x, y)]
    sentence = f"the call writes into {', '.join(changed)}: who passed it in has other numbers now"
    return result, Finding("wrong", math.inf, cause=Cause.MUTATION, diagnosis=sentence)


def repeated(first: list[Tensor], second: list[Tensor], allowed: float, nondeterminism: float = 0.0) -> Finding:
    """Whether two calls at the same point give the same, but for sums in another order, as an accelerator takes them."""
    if same_bits(first, second):
        return Finding("ok", 0.0)
    spread = max(relative_error(x.double(), y.double()) for x, y in zip(first, second, strict=True))
    order = LIMITS.reordered * max(torch.finfo(x.dtype).eps for x in first)
    least = max(allowed / 10, order, nondeterminism)
    sentence = f"two calls at the same point differ by {spread:.1e} of a leaf: the function is not deterministic"
    verdict: Verdict = "ok" if spread <= least else "unreliable"
    return Finding(verdict, spread, least, cause=Cause.NONDETERMINISTIC, diagnosis=sentence)


def same_value(value: Tensor, own: Tensor, reference: Tensor, moved: Tensor, tolerance: float) -> Finding:
    """Whether the value that came with the gradient is that of the function, alone and in float64.

    `moved` is the reference's with its operands rounded to the precision of the value: what may be lost there.
    """
    exact, eps = value.dtype == torch.float64, torch.finfo(value.dtype).eps
    loss = relative_error(moved.double(), reference)
    finer = tolerance + LIMITS.roundings * eps
    others: tuple[tuple[str, Tensor, float, Verdict, str], ...] = (
        ("without it", own, finer, "wrong", "two functions"),
        ("the reference's", reference, finer, "wrong", "two functions")
        if exact
        else ("float64's", reference, finer + LIMITS.roundings * loss, "unreliable", "the precision has no digits left"),
    )
    v = value.double().item()
    for name, other, allowed, verdict, why in others:
        w = other.double().item()
        if not (math.isfinite(v) and math.isfinite(w)):
            return Finding("wrong", math.inf, allowed, cause=Cause.NOT_FINITE, diagnosis=f"it is {v:g}, and {name} {w:g}")
        error = abs(v - w) / max(abs(v), abs(w), eps)
        if error > allowed:
            sentence = f"with the gradient it is {v:.9g}, but {name} {w:.9g}: {why}"
            return Finding(verdict, error, allowed, cause=Cause.VALUE, diagnosis=sentence)
    return Finding("ok", 0.0, finer)
