"""Whether two trees hold the same numbers."""

import math
from typing import Any

import torch
from torch import Tensor


class Any_:
    """What stands for a result of which nothing is known but that there is one."""


ANY = Any_()


class Untold(Exception):
    """What a truth raises where the number is whatever a function among the arguments makes of it."""


def difference(
    found: Any, truth: Any, power: float, spreads: bool = False, coarse: float = 0.0, place: str = "result"
) -> str:
    """The first place where the trees differ and how, or nothing. Numbers agree within eps^power of the largest entry.

    A tensor on meta has no numbers, and agrees in shape and dtype. Where what is not finite `spreads`, NaN agrees with all.
    `coarse` is the eps of the argument that has the fewest digits.
    """
    if truth is ANY or found is truth:
        return ""
    if isinstance(truth, Tensor):
        return _of_tensors(found, truth, power, spreads, coarse, place)
    if isinstance(truth, dict):
        if not isinstance(found, dict) or set(found) != set(truth):
            return f"{place} is {_kind(found)} and not {_kind(truth)}"
        parts = [(f"{place}[{key!r}]", found[key], truth[key]) for key in truth]
    elif isinstance(truth, (tuple, list)):
        if not isinstance(found, (tuple, list)) or len(found) != len(truth):
            return f"{place} is {_kind(found)} and not {_kind(truth)}"
        parts = [(f"{place}[{key}]", a, b) for key, (a, b) in enumerate(zip(found, truth, strict=True))]
    elif isinstance(truth, float):
        near = isinstance(found, (int, float)) and math.isclose(
            found, truth, rel_tol=2 ** -(52**power), abs_tol=2 ** -(52**power)
        )
        return "" if near or (found != found and truth != truth) else f"{place} is {found!r} and not {truth!r}"
    else:
        return "" if found is truth or repr(found) == repr(truth) else f"{place} is {found!r} and not {truth!r}"
    return next(filter(None, (difference(a, b, power, spreads, coarse, path) for path, a, b in parts)), "")


def _kind(x: Any) -> str:
    inside = sorted(map(str, x)) if isinstance(x, dict) else len(x) if isinstance(x, (tuple, list)) else ""
    return f"{type(x).__name__} {inside}".strip()


def _of_tensors(found: Any, truth: Tensor, power: float, spreads: bool, coarse: float, place: str) -> str:
    if not isinstance(found, Tensor):
        return f"{place} is {_kind(found)} and no tensor"
    if found.is_nested or truth.is_nested:
        return "" if found.is_nested and truth.is_nested else f"{place} is another sort of tensor"
    if found.shape != truth.shape or found.dtype != truth.dtype:
        return f"{place} is {tuple(found.shape)} of {found.dtype} and not {tuple(truth.shape)} of {truth.dtype}"
    beyond = truth.layout is not torch.strided or truth.is_nested or truth.is_quantized or truth.numel() > 2**24
    if beyond or "meta" in (found.device.type, truth.device.type) or not truth.numel():
        return ""  # no numbers, or none that are worth the memory
    x, y = found.detach().as_subclass(Tensor).to(torch.complex128), truth.detach().to(torch.complex128)  # type: ignore[arg-type]
    eps = torch.finfo(truth.dtype).eps if truth.is_floating_point() or truth.is_complex() else 0.0
    eps = max(eps, coarse) if eps else eps
    finite = y.isfinite()
    scale = float(y[finite].abs().max()) if finite.any() else 1.0
    same = torch.isclose(x, y, rtol=0, atol=eps**power * scale + 100 * eps, equal_nan=True) if eps else x == y
    same = same | x.isnan() | y.isnan() if spreads else same
    return "" if bool(same.all()) else f"{place} is {_entry(x, ~same)} and not {_entry(y, ~same)}"


def _entry(x: Tensor, where: Tensor) -> str:
    first = x[where].flatten()[0]
    return f"{complex(first) if first.imag else float(first.real):.6g}"
