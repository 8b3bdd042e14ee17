"""A subject: whatever a user has in hand and wants checked, with its arguments, and its backward rule laid bare.

A Layer, a Loss, a StepFn and a torch.autograd.Function are four spellings of one thing, a function y = f(leaves) with a
rule that pulls dL/dy back to the gradients dL/dleaves. `opened` undoes the spelling: everything that must treat all four
alike (the true error of a planted bug, the adapters of other checkers) goes through it.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

import funcnn as fn
from funcnn import tree

Pull = Callable[[Tensor], list[Tensor]]


class Subject(NamedTuple):
    """A Layer and (params, x), a Loss and (outputs, targets), a StepFn and (params, batch), a Function and its inputs."""

    what: Any
    inputs: tuple[Any, ...]


def opened(subject: Subject) -> tuple[list[Tensor], Callable[..., tuple[Tensor, Pull]]]:
    """The leaves that have gradients, and the function leaves -> (y, pull), pull(dy) being the gradients of the leaves."""
    what, inputs = subject
    if isinstance(what, fn.Layer):
        leaves, unflatten = tree.flatten(inputs)

        def layer(*leaves: Tensor) -> tuple[Tensor, Pull]:
            y, residuals = what.forward(*unflatten(list(leaves)))
            return y, lambda dy: tree.leaves(what.backward(residuals, dy))

        return leaves, layer
    if isinstance(what, fn.Loss):

        def loss(outputs: Tensor) -> tuple[Tensor, Pull]:
            value, residuals = what.forward(outputs, inputs[1])
            return value, lambda dy: [dy * what.backward(residuals)]

        return [inputs[0]], loss
    if isinstance(what, fn.StepFn):
        leaves, unflatten = tree.flatten(inputs[0])

        def step(*leaves: Tensor) -> tuple[Tensor, Pull]:
            params = unflatten(list(leaves))
            return what.value(params, inputs[1]), lambda dy: [
                dy * g for g in tree.leaves(what.value_and_grad(params, inputs[1])[1])
            ]

        return leaves, step

    def function(*leaves: Tensor) -> tuple[Tensor, Pull]:
        with torch.enable_grad():
            taped = [leaf.detach().requires_grad_() for leaf in leaves]
            y = what.apply(*taped)
        return y.detach(), lambda dy: list(torch.autograd.grad(y, taped, dy, materialize_grads=True))

    return list(inputs), function


def true_error(right: Subject, wrong: Subject) -> float:
    """How wrong a planted bug is: the largest relative error |g - r| / max(|g|, |r|) of anything that a call shows."""
    return max(relative_error(g, r) for g, r in zip(shown(wrong), shown(right), strict=True))


def shown(subject: Subject) -> Iterator[Tensor]:
    """All that a user could see: y, gradients, what is left of dy and of the inputs, and the value that is reported."""
    leaves, function = opened(subject)
    for layout in (0, 1):
        mine = [leaf.clone() for leaf in leaves]
        y, pull = function(*mine)
        yield y
        function(*(0.5 * leaf for leaf in leaves))  # a call in between, as for a layer that is used twice
        dy = cotangents(y)[layout]
        yield from pull(dy)
        yield from (dy, *mine)
    if isinstance(subject.what, fn.StepFn):
        yield subject.what.value_and_grad(*tree.clone(subject.inputs))[0]


def cotangents(y: Tensor) -> tuple[Tensor, Tensor]:
    """Two dy of the shape of y: random numbers, and the same numbers with their axes in reverse order in memory."""
    dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(y)
    backwards = tuple(reversed(range(y.ndim)))
    return dy, dy.permute(backwards).contiguous().permute(backwards)


def relative_error(g: Tensor, r: Tensor) -> float:
    """|g - r| / max(|g|, |r|), 0 for two zeros, infinite where the shapes differ or only one of them is finite."""
    if g.shape != r.shape or not g.isfinite().all():
        return math.inf
    largest = max(g.norm().item(), r.norm().item())
    return (g - r).norm().item() / largest if largest else 0.0
