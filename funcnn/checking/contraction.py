"""<u, f(x)> as a function of real numbers: that makes of every backward rule the gradient of a value.

For a fixed u the pullback is the gradient of <u, f(x)>, so all of `check` applies, with a u that is different everywhere.
A complex number counts as its two real ones, with <u, y> = Re u Re y + Im u Im y, as torch's gradients do.
"""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from .. import kernels, tree
from ..errors import InputError, describe
from ..types import StepFn, Tree
from .digits import spreads
from .formula import Formula, Swap
from .piece import numbers
from .rules import Gradients, Rule, floats
from .sparse import dense, stored
from .subject import Rows
from .thresholds import LIMITS
from .trials import attempt, copied, quoted

Leaves = list[Tensor]


def real(x: Tensor) -> Tensor:
    """The two real numbers of each complex one."""
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x


def norm(xs: Sequence[Tensor | None]) -> float:
    """The Euclidean norm of all numbers together."""
    return math.sqrt(sum(x.abs().double().square().sum().item() for x in xs if x is not None))


class RaisedError(RuntimeError):
    """What a backward rule raises, as its `args[0]`."""


class Contraction:
    """A rule at a point: its operands, which of them it gives a gradient for, and a cotangent of every output.

    The parameters of its values and gradients are the list of these operands, as real numbers; `first` is J^T u at the
    point, as it was when the rule was called first.
    """

    def __init__(self, rule: Rule, inputs: tuple[Tree, ...], constants: tuple[int, ...], generator: torch.Generator) -> None:
        """Calls the rule twice, to see what it returns and for which operands it has a gradient."""
        self.rule, self.inputs = rule, inputs
        self.operands, self.paths = copied(tree.leaves(inputs)), tree.paths(inputs, "inputs")
        held = [i in constants for i, x in enumerate(inputs) for _ in tree.leaves(x)]
        y = self._forward()
        if not any(out.numel() for out in y):
            raise InputError("forward(*inputs)", describe(y[0]), "a floating tensor with entries")
        self.u, self.v = (self.cotangent(y, generator) for _ in range(2))
        self.error: Exception | None = None  # that the backward raises
        given: Gradients = [*self.operands]
        try:
            given = kernels.undisturbed(rule.gradient, copied(self.operands), copied(self.u))
        except InputError:
            raise
        except Exception as error:
            self.error = error
        floating = [floats(leaf) and not fixed for leaf, fixed in zip(self.operands, held, strict=True)]
        self.own = [i for i, (x, want) in enumerate(zip(given, floating, strict=True)) if want and x is not None]
        self.none = [i for i, (x, want) in enumerate(zip(given, floating, strict=True)) if want and x is None]
        self.params = [real(self.operands[i]) for i in self.own]
        self.first = self.among(given)
        self.stored = {} if self.error else stored([self.paths[i] for i in self.own], [given[i] for i in self.own])

    def _forward(self) -> list[Tensor]:
        try:
            y: list[Tensor] = kernels.undisturbed(self.rule.outputs, copied(self.operands))
        except InputError:
            raise
        except Exception as error:
            raise InputError("forward(*inputs)", quoted(error), "a function that runs at these inputs") from error
        return y

    @staticmethod
    def cotangent(y: list[Tensor], generator: torch.Generator) -> list[Tensor]:
        """Normal numbers, different everywhere."""
        wide = [torch.complex128 if out.is_complex() else torch.float64 for out in y]
        return [
            torch.randn(x.shape, generator=generator, dtype=dtype, device="cpu").to(x)
            for x, dtype in zip(y, wide, strict=True)
        ]

    def whole(self, params: Leaves, **others: Tensor) -> list[Any]:
        """All operands, these among them; the rest as it is, or others by their names, in the same precision."""
        own, exactly = dict(zip(self.own, params, strict=True)), any(leaf.dtype == torch.float64 for leaf in params)

        def operand(i: int, path: str, x: Any) -> Any:
            if i in own:
                return torch.view_as_complex(own[i]) if x.is_complex() else own[i]
            rest = others.get(path, x)
            return copied(upcast(rest) if exactly else rest)

        return [operand(i, path, x) for i, (path, x) in enumerate(zip(self.paths, self.operands, strict=True))]

    def outputs(self, params: Leaves, **others: Tensor) -> list[Tensor]:
        """f(x), as real numbers."""
        return [real(out) for out in self.rule.outputs(self.whole(params, **others))]

    def value(self, params: Leaves) -> Tensor:
        """<u, f(x)>."""
        return self.contracted(self.outputs(params))

    def contracted(self, y: list[Tensor]) -> Tensor:
        """<u, y>."""
        terms = [(real(u).to(out) * out).sum() for u, out in zip(self.u, y, strict=True)]
        return torch.stack([term.to(terms[0]) for term in terms]).sum() if len(terms) > 1 else terms[0]

    def pull(self, params: Leaves, u: Sequence[Tensor | None], **how: Any) -> Leaves:
        """J^T u, as real numbers; 0 for what it gives no gradient for this time."""
        operands = self.whole(params)
        try:
            return self.among(self.rule.gradient(operands, u, **how))
        except InputError:
            raise
        except Exception as error:
            raise RaisedError(error) from error

    def among(self, grads: Gradients) -> Leaves:
        """The gradients of the parameters among those of all operands."""
        own = [(grads[i], self.operands[i]) for i in self.own]
        return [real(torch.zeros_like(x) if g is None else dense(g)).detach() for g, x in own]

    def at(self, i: int, x: Tensor) -> list[Tensor] | None:
        """The outputs where operand i is x, or None where the function refuses that."""
        operands = copied(self.operands)
        operands[i] = x
        found: list[Tensor] | None = attempt(self.rule.outputs, operands)
        return found

    def own_pull(self, **how: Any) -> Leaves:
        """J^T u at the point itself."""
        return self.pull(copied(self.params), copied(self.u), **how)

    @cached_property
    def scales(self) -> list[float]:
        """The size of each leaf's gradient for a cotangent of norm 1: what is smaller by rounding alone is no difference.

        Infinite where the gradient itself is nothing but rounding.
        """
        size, norms = norm(self.u) or 1.0, [norm([leaf]) for leaf in self.own_pull()]
        few = numbers(self.params) <= LIMITS.many
        moved = spreads(lambda params, u: (None, self.pull(params, u)), self.params, self.u, few)
        return [math.inf if own <= LIMITS.noise * spread else own / size for own, spread in zip(norms, moved, strict=True)]

    @cached_property
    def step_fn(self) -> StepFn:
        """The value and, by the rule, its gradient."""
        return StepFn(
            lambda params, batch: self.value(params),
            lambda params, batch: (self.value(params), self.pull(params, copied(self.u))),
        )

    @property
    def rows(self) -> Rows | None:
        """<u_n, f(x)_n> along the leading axis of the only output, and the gradients of these."""
        if len(self.u) != 1 or not self.u[0].ndim or not len(self.u[0]):
            return None
        u = self.u[0]

        def terms(params: Leaves) -> Tensor:
            y = self.outputs(params)[0]
            return (real(u).to(y) * y).reshape(len(y), -1).sum(1)

        def gradients() -> Leaves:
            pulled = []
            for n in range(len(u)):
                row = torch.zeros_like(u)
                row[n] = u[n]
                pulled.append(self.pull(copied(self.params), [row]))
            return [torch.stack(leaves) for leaves in zip(*pulled, strict=True)]

        return Rows(terms, gradients)

    def formula(self, leaves: Leaves, position: int) -> Formula:
        """What the rule is of, for a hypothesis to read."""

        def pull(leaves: Sequence[Tensor], u: Sequence[Tensor], swap: Swap | None = None) -> Leaves:
            own = [torch.view_as_complex(x) if one.is_complex() else x for x, one in zip(u, self.u, strict=True)]
            return self.pull(list(leaves), own, swap=swap)

        names = tuple(self.paths[i] for i in self.own)
        u = tuple(real(upcast(one)) for one in self.u)
        others = [(path, x) for path, x in zip(self.paths, self.operands, strict=True) if path not in names]
        rest = tuple((path, x) for path, x in others if isinstance(x, Tensor))

        def f(*leaves: Tensor, **others: Tensor) -> tuple[Tensor, ...]:
            return tuple(self.outputs(list(leaves), **others))

        return Formula(f, tuple(leaves), names, u, pull, position, rest)


def upcast(x: Any) -> Any:
    """A floating or complex tensor in double precision, exactly; anything else as it is."""
    if not floats(x):
        return x
    return x.to(torch.complex128 if x.is_complex() else torch.float64)
