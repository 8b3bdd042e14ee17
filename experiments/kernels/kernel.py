"""A kernel: a function y = f(*inputs), its backward rule, where to check it, and mistakes that people make in the rule.

A rule takes the inputs and the upstream gradient u, and returns the gradient of the only input or one for each of the first
inputs; what is missing at the end is None. So every rule is rule(*inputs, u), right or wrong, and f stays the same.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

Inputs: TypeAlias = tuple[Tensor, ...]
Rule: TypeAlias = Callable[..., Any]


class Bug(NamedTuple):
    """What was done, the causes that a report may name for it (keys of `words.WORDS`), and the wrong rule."""

    what: str
    causes: str
    rule: Rule


class Kernel(NamedTuple):
    """A right kernel and its planted bugs."""

    name: str
    forward: Callable[..., Tensor]
    rule: Rule
    inputs: Callable[[int], Inputs]
    bugs: list[Bug]

    def function(self, rule: Rule | None = None) -> type[torch.autograd.Function]:
        """The kernel as users have it, with its own rule or another."""
        return function(self.forward, rule or self.rule)

    def pair(self, rule: Rule | None = None) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """forward(*inputs) -> (y, residuals) and backward(residuals, u) -> gradients, with its own rule or another."""
        used = rule or self.rule
        return lambda *inputs: (self.forward(*inputs), inputs), lambda residuals, u: used(*residuals, u)


def function(forward: Callable[..., Tensor], rule: Rule) -> type[torch.autograd.Function]:
    """The Function with y = forward(*inputs) and the gradients rule(*inputs, u)."""

    class Written(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Tensor) -> Tensor:
            ctx.save_for_backward(*inputs)
            return forward(*inputs)

        @staticmethod
        def backward(ctx: Any, u: Tensor) -> Any:
            return padded(rule(*ctx.saved_tensors, u), len(ctx.saved_tensors))

    return Written


def padded(grads: Any, count: int) -> tuple[Any, ...]:
    """One gradient for each input, None where the rule gives none."""
    given = grads if isinstance(grads, tuple) else (grads,)
    return (*given, *[None] * (count - len(given)))


def draws(*shapes: tuple[int, ...], scale: float = 1.0, shift: float = 0.0) -> Callable[[int], Inputs]:
    """Normal numbers in float64, a tensor for each shape."""

    def inputs(seed: int) -> Inputs:
        generator = torch.Generator().manual_seed(seed)
        return tuple(shift + scale * torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)

    return inputs


def followed(inputs: Callable[[int], Inputs], *more: Tensor) -> Callable[[int], Inputs]:
    """The inputs and after them what is the same for every seed, such as labels."""
    return lambda seed: (*inputs(seed), *(tensor.clone() for tensor in more))


def changed(rule: Rule, position: int, change: Callable[..., Tensor]) -> Rule:
    """The rule with one of its gradients changed: change(g, *inputs, u)."""

    def wrong(*operands: Tensor) -> Any:
        grads = padded(rule(*operands), 0)
        return (*grads[:position], change(grads[position], *operands), *grads[position + 1 :])

    return wrong


def exchanged(rule: Rule, i: int, j: int) -> Rule:
    """The rule with two of its gradients exchanged."""

    def wrong(*operands: Tensor) -> Any:
        grads = list(rule(*operands))
        grads[i], grads[j] = grads[j], grads[i]
        return tuple(grads)

    return wrong


def upstream(rule: Rule, taken: Callable[[Tensor], Tensor]) -> Rule:
    """The rule with another upstream gradient than the one that it is given."""
    return lambda *operands: rule(*operands[:-1], taken(operands[-1]))


def rounded(rule: Rule, dtype: torch.dtype) -> Rule:
    """The rule computed in another precision, its gradients in that of u."""

    def wrong(*operands: Tensor) -> Any:
        grads = rule(*(x.to(dtype) if x.is_floating_point() else x for x in operands))
        return tuple(None if g is None else g.to(operands[-1].dtype) for g in padded(grads, 0))

    return wrong


def cut(g: Tensor, *index: Any) -> Tensor:
    """The gradient with the entries at an index not written: left at 0."""
    g = g.clone()
    g[index] = 0
    return g
