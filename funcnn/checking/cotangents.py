"""Cotangents that attack a backward rule, and the identities that it must keep whatever they are.

    layouts      transposed in memory, channels last, cut out of a larger tensor, expanded (stride 0, as `sum` hands down):
                 the numbers are the same, so the result must be, whatever the strides
    linearity    J^T 0 = 0, J^T (2 u) = 2 J^T u, J^T (u + v) = J^T u + J^T v, where v is random, or is one-hot
    adjoint      <u, J v> = <J^T u, v> for a direction v, with J v by forward-mode differentiation of f

None of them takes a difference of values. The first two say that J^T of one cotangent is a sum of J^T of others. And a
backward belongs to its own forward, though another may have been called in between.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from .. import kernels, tree
from ..report import Finding, relative_error
from ..types import Params, StepFn, Tree
from .formula import Swap
from .pullback import Pullback
from .question import Rows
from .surface import ELSEWHERE, rounded, upcast
from .trials import copied

LAYOUTS = ("transposed", "channels last", "sliced", "expanded")


class Contraction:
    """<u, f(x)> as a function of those inputs that the rule gives a gradient for; () stands for the others."""

    def __init__(self, pullback: Pullback, inputs: tuple[Tree, ...], u: Tensor) -> None:
        """Calls the rule once, to see for which inputs it gives a gradient."""
        self.pullback, self.inputs, self.u = pullback, inputs, u
        self.given = [gradient is not None for gradient in pullback.gradient(copied(inputs), u.clone(), tuple)]
        self.params = tuple(x if given else () for x, given in zip(inputs, self.given, strict=True))

    def whole(self, params: Params, inputs: tuple[Tree, ...] | None = None) -> tuple[Tree, ...]:
        """All inputs, these among them; the others, or those of other `inputs`, in the same precision."""
        exact = any(leaf.dtype in (torch.float64, torch.complex128) for leaf in tree.leaves(params))
        inputs = self.inputs if inputs is None else inputs
        rest = copied(upcast(inputs) if exact else inputs)
        return tuple(x if given else fixed for x, fixed, given in zip(params, rest, self.given, strict=True))

    def value(self, params: Params) -> Tensor:
        """f(x)."""
        return self.pullback.value(self.whole(params))

    def pull(self, params: Params, u: Tensor, meanwhile: Callable[[], Any] = tuple, swap: Swap | None = None) -> Params:
        """J^T u, with () where there is no gradient."""
        grads = self.pullback.gradient(self.whole(params), u, meanwhile, swap)
        return tuple(() if gradient is None else gradient for gradient in grads)

    def own_pull(self, meanwhile: Callable[[], Any] = tuple) -> Params:
        """J^T u at the point itself."""
        return self.pull(copied(self.params), self.u.clone(), meanwhile)

    @cached_property
    def step_fn(self) -> StepFn:
        """The value and, by the rule, its gradient."""

        def value(params: Params, batch: tuple[()]) -> Tensor:
            y = self.value(params)
            return (self.u.to(y) * y).sum()

        return StepFn(value, lambda params, batch: (value(params, batch), self.pull(params, self.u.clone())))

    @property
    def rows(self) -> Rows | None:
        """<u_n, f(x)_n> along the leading axis of y, and the gradients of these."""
        if not self.u.ndim or not len(self.u):
            return None

        def terms(params: Params) -> Tensor:
            y = self.value(params)
            return (self.u.to(y) * y).reshape(len(y), -1).sum(1)

        def gradients() -> Params:
            pulled = []
            for n in range(len(self.u)):
                row = torch.zeros_like(self.u)
                row[n] = self.u[n]
                pulled.append(self.pull(copied(self.params), row))
            return tree.map(lambda *leaves: torch.stack(leaves), *pulled)

        return Rows(terms, gradients)


def attacks(contraction: Contraction, v: Tensor, generator: torch.Generator, allowed: float) -> dict[str, Finding]:
    """The layouts and the linear combinations."""
    cotangents = _cotangents(contraction.u, v, generator)
    return {name: _sums_up(contraction, name, cotangent, parts, allowed) for name, cotangent, parts in cotangents}


def _cotangents(
    u: Tensor, v: Tensor, generator: torch.Generator
) -> Iterator[tuple[str, Tensor, list[tuple[float, Tensor]]]]:
    """A name, a cotangent, and the pairs (c, w) for which J^T of it is the sum of c J^T w."""
    if u.ndim > 1:
        yield "transposed", u.mT.contiguous().mT, [(1, u)]
        yield "channels last", u.movedim(0, -1).contiguous().movedim(-1, 0), [(1, u)]
        yield "sliced", torch.cat([v, u], dim=-1)[..., u.shape[-1] :], [(1, u)]
    if u.ndim == 1:
        yield "sliced", torch.stack([u, v], dim=1)[:, 0], [(1, u)]
    if u.ndim:
        one = torch.zeros_like(u)
        one.view(-1)[int(torch.randint(u.numel(), (), generator=generator))] = 1
        yield "expanded", u.new_ones(()).expand(u.shape), [(1, torch.ones_like(u))]
        yield "one-hot", u + 1000 * one, [(1, u), (1000, one)]
    yield "zero", torch.zeros_like(u), []
    yield "doubled", 2 * u, [(2, u)]
    yield "additivity", u + v, [(1, u), (1, v)]


def _sums_up(
    contraction: Contraction, name: str, cotangent: Tensor, parts: list[tuple[float, Tensor]], allowed: float
) -> Finding:
    def pull(w: Tensor) -> list[Tensor]:
        return [leaf.detach().double() for leaf in tree.leaves(contraction.pull(copied(contraction.params), w))]

    cause, strides = "strides" if name in LAYOUTS else "linearity", cotangent.stride()
    try:
        found = pull(cotangent)
    except (RuntimeError, ValueError, TypeError) as error:
        sentence = f"the backward refuses strides {strides}: {str(error).splitlines()[0]}"
        return Finding("wrong", math.inf, allowed, cause=cause, diagnosis=sentence)
    expected = [torch.zeros_like(leaf) for leaf in found]
    for c, w in parts:
        expected = [total + c * leaf for total, leaf in zip(expected, pull(w.clone()), strict=True)]
    distance = max(relative_error(x, y) for x, y in zip(found, expected, strict=True))
    if distance <= allowed:
        return Finding("ok", distance, allowed)
    nonlinear = "a pullback is linear in the cotangent, and this one is not"
    sentence = (
        nonlinear if cause == "linearity" else f"with strides {strides} in memory the same numbers give another gradient"
    )
    return Finding("wrong", distance, allowed, cause=cause, diagnosis=sentence)


def another_forward(contraction: Contraction, allowed: float) -> Finding:
    """Whether the backward is of its own forward, when between the two there was another one elsewhere."""

    def meanwhile() -> None:
        with suppress(RuntimeError, ValueError, TypeError):  # the function may be nowhere else
            contraction.pullback.value(contraction.whole(rounded(contraction.params, ELSEWHERE)))

    found, expected = (tree.leaves(contraction.own_pull(way)) for way in (meanwhile, tuple))
    distance = max(relative_error(x.detach().double(), y.detach().double()) for x, y in zip(found, expected, strict=True))
    if distance <= allowed:
        return Finding("ok", distance, allowed)
    sentence = "after another forward pass the backward gives another gradient: it takes the residuals of the last one"
    return Finding("wrong", distance, allowed, cause="stale", diagnosis=sentence)


def adjoint(contraction: Contraction, generator: torch.Generator, allowed: float) -> Finding:
    """Whether <u, J v> = <J^T u, v>, in float64 on the left."""
    leaves, unflatten = tree.flatten(upcast(contraction.params))
    v = [torch.randn(leaf.shape, generator=generator, dtype=torch.float64).to(leaf.device) for leaf in leaves]

    def f(*moved: Tensor) -> Tensor:
        return contraction.value(unflatten(list(moved)))

    try:
        with warnings.catch_warnings():  # torch's own, of what it uses to get there
            warnings.simplefilter("ignore", DeprecationWarning)
            _, pushed, *_ = kernels.undisturbed(torch.func.jvp, f, tuple(leaves), tuple(v))
    except (RuntimeError, ValueError, TypeError):
        return Finding(
            "ok", math.nan, allowed, diagnosis="not tested: forward-mode differentiation cannot follow the function"
        )
    pulled = [
        leaf.detach().double() for leaf in tree.leaves(contraction.pull(copied(contraction.params), contraction.u.clone()))
    ]
    there = (contraction.u.double() * pushed).sum().item()
    back = sum((leaf * direction).sum().item() for leaf, direction in zip(pulled, v, strict=True))
    size = max(abs(there), abs(back), math.sqrt(sum(leaf.square().sum().item() for leaf in pulled)))
    distance = abs(there - back) / size if size else 0.0
    if distance <= allowed:
        return Finding("ok", distance, allowed)
    sentence = f"<u, J v> = {there:.9g}, but <J^T u, v> = {back:.9g}: the backward is not the adjoint of the derivative"
    return Finding("wrong", distance, allowed, diagnosis=sentence)
