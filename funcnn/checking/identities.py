"""What torch's other transforms make of a rule: forward mode, vmap, and the derivative of its derivative.

    adjoint              <u, J v> = <J^T u, v> for a direction v, with J v by forward-mode differentiation of f
    vmap                 f of two points at once = f of each by itself
    second derivative    <d(J^T u), v> along z is what differences of J^T u say

A rule has jvp and vmap rules of its own, or torch's; where these are wrong, and the backward right, that is told, and is no
mistake of the backward. The last word is with values: differences along v, and a loop.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import kernels
from ..causes import Cause
from ..providers.differences import CENTRAL, quotients
from ..report import Finding
from .contraction import Contraction, Leaves, norm, real, upcast
from .thresholds import LIMITS
from .trials import attempt, copied


def adjoint(c: Contraction, value: Callable[[Leaves], Tensor], generator: torch.Generator, allowed: float) -> Finding:
    """Whether <u, J v> = <J^T u, v>, in float64 on the left. `value` is <u, f(x)> in float64.

    Where they differ and differences along v side with the rule, forward mode is absent or wrong, not the rule.
    """
    leaves = [upcast(leaf) for leaf in c.params]
    v = [torch.randn(leaf.shape, generator=generator, dtype=torch.float64, device="cpu").to(leaf.device) for leaf in leaves]
    pushed: Any = attempt(_pushed, lambda *moved: c.outputs(list(moved)), tuple(leaves), tuple(v))
    if pushed is None:
        sentence = "not tested: forward-mode differentiation cannot follow the function"
        return Finding("ok", math.nan, allowed, diagnosis=sentence)
    pulled = [leaf.double() for leaf in c.own_pull()]
    there = sum((real(upcast(u)) * one).sum().item() for u, one in zip(c.u, pushed, strict=True))
    back = sum((leaf * direction).sum().item() for leaf, direction in zip(pulled, v, strict=True))
    size = max(abs(there), abs(back), norm([*pulled]))
    distance = abs(there - back) / size if size and math.inf not in c.scales else 0.0
    if distance <= allowed:
        return Finding("ok", distance, allowed)

    def along(offsets: Tensor) -> Tensor:
        values = [value([x + h * z for x, z in zip(leaves, v, strict=True)]) for h in offsets.flatten()]
        return torch.stack(values).to(offsets.device)

    slope = quotients(along, torch.zeros(1, dtype=torch.float64, device="cpu"), LIMITS.step, CENTRAL)[0].item()
    if abs(slope - back) < abs(slope - there) / 10:
        sentence = f"forward mode is absent or wrong: torch.func.jvp gives {there:.6g}, the values {slope:.6g}"
        return Finding("ok", distance, allowed, cause=Cause.FORWARD_MODE, diagnosis=sentence)
    sentence = f"<u, J v> = {there:.9g}, but <J^T u, v> = {back:.9g}: the backward is not the adjoint of the derivative"
    return Finding("wrong", distance, allowed, diagnosis=sentence)


def second_derivative(c: Contraction, generator: torch.Generator) -> Finding:
    """Whether torch's derivative of J^T u is one: what a rule saved between the inputs and y has lost its history.

    Told, and no mistake: who needs first derivatives alone need not care, and can say so by once_differentiable.
    """
    if c.rule.follows is None or any(leaf.dtype != torch.float64 for leaf in c.params):
        return Finding("ok", math.nan, diagnosis="not tested: it claims none, or not in float64")
    v, z = (
        [torch.randn(x.shape, generator=generator, dtype=torch.float64, device="cpu").to(x) for x in c.params]
        for _ in range(2)
    )
    grads: Any = attempt(c.rule.follows, c.whole(copied(c.params)), copied(c.u), c.own, v)
    if grads is None:
        return Finding("ok", math.nan, diagnosis="not tested: the backward cannot be differentiated")
    own = sum((real(g) * d).sum().item() for g, d in zip(grads, z, strict=True) if g is not None)

    def along(h: float) -> float:
        there = c.pull([x + h * d for x, d in zip(c.params, z, strict=True)], copied(c.u))
        return sum((g * d).sum().item() for g, d in zip(there, v, strict=True))

    slope = (along(LIMITS.step) - along(-LIMITS.step)) / (2 * LIMITS.step)
    error = abs(own - slope) / max(abs(own), abs(slope), norm([*c.own_pull()]), 1e-300)
    if error <= LIMITS.seen * 10:
        return Finding("ok", error)
    sentence = f"the derivative of the backward by torch is {own:.6g} where it should be {slope:.6g}: once_differentiable"
    return Finding("ok", error, cause=Cause.SECOND_DERIVATIVE, diagnosis=sentence)


def mapped(c: Contraction, generator: torch.Generator, allowed: float) -> Finding:
    """Whether f under torch.func.vmap is f one by one, at x and beside it."""
    leaves = [upcast(leaf) for leaf in c.params]
    beside = [x + 0.1 * torch.randn(x.shape, generator=generator, dtype=torch.float64, device="cpu").to(x) for x in leaves]
    stacked = [torch.stack(pair) for pair in zip(leaves, beside, strict=True)]
    together: Any = attempt(_mapped, lambda *point: tuple(c.outputs(list(point))), stacked)
    alone: list[Any] = [attempt(c.outputs, point) for point in (leaves, beside)]
    if together is None or None in alone:
        return Finding("ok", math.nan, allowed, diagnosis="not tested: torch.func.vmap cannot follow the function")
    each = [torch.stack(pair) for pair in zip(*alone, strict=True)]
    if [y.shape for y in together] != [y.shape for y in each]:
        shapes = ", ".join(str(tuple(y.shape)) for y in together)
        sentence = f"torch.func.vmap is wrong: of two points it gives outputs of shape {shapes}"
        return Finding("ok", math.inf, allowed, cause=Cause.VMAP, diagnosis=sentence)
    pairs = [(y, z) for y, z in zip(together, each, strict=True) if y.numel()]
    errors = [((y - z).abs().max() / z.abs().max().clamp(min=1e-300)).item() for y, z in pairs]
    error = max(errors, default=0.0)
    if error <= allowed or math.isnan(error):
        return Finding("ok", error, allowed)
    sentence = f"torch.func.vmap is wrong: its values are {error:.1e} from those of a loop"
    return Finding("ok", error, allowed, cause=Cause.VMAP, diagnosis=sentence)


def _mapped(f: Callable[..., tuple[Tensor, ...]], stacked: list[Tensor]) -> tuple[Tensor, ...]:
    with warnings.catch_warnings():  # torch's own, of operations that it maps by a loop
        warnings.simplefilter("ignore")
        found: tuple[Tensor, ...] = torch.func.vmap(f)(*stacked)
    return found


def _pushed(f: Callable[..., list[Tensor]], leaves: tuple[Tensor, ...], v: tuple[Tensor, ...]) -> list[Tensor]:
    with warnings.catch_warnings():  # torch's own, of what it uses to get there
        warnings.simplefilter("ignore")
        pushed: list[Tensor] = kernels.undisturbed(torch.func.jvp, f, leaves, v)[1]
    return pushed
