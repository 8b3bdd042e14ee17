"""Mistakes that no formula shows: state that outlives a call, or that somebody else owns.

A backward rule that is right as a formula goes wrong when the residuals of another call are in its hands, when it writes
into what it was given, when it draws random numbers of its own, or when what it returns is still being added to.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import funcnn as fn
from experiments.bugs.functions import FUNCTIONS, X, function
from experiments.bugs.mistakes import Bug
from experiments.bugs.networks import scene
from experiments.bugs.subject import Subject
from funcnn import Cause, tree


def stale(name: str) -> Subject:
    """A Function with its inputs kept where the next call keeps its own."""
    forward, rule, inputs = FUNCTIONS[name]
    kept: list[Tensor] = []

    def keeping(*inputs: Tensor) -> Tensor:
        kept[:] = inputs
        return forward(*inputs)

    return Subject(function(keeping, lambda *inputs_and_dy: rule(*kept, inputs_and_dy[-1])), tree.clone(inputs))


def in_place() -> Subject:
    """The rectifier that spares the memory of its output, and its caller's input with it."""
    return Subject(function(lambda x: x.clamp_(min=0).clone(), lambda x, dy: dy * (x > 0)), (X.clone(),))


def dropout(again: bool) -> Subject:
    """Dropout whose backward rule draws its mask again, or keeps that of the forward rule."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(X.shape, generator=generator) < 0.5

    def rule(x: Tensor, dy: Tensor) -> Tensor:
        return 2 * dy * (torch.rand(X.shape, generator=generator) < 0.5 if again else mask)

    return Subject(function(lambda x: 2 * x * mask, rule), (X.clone(),))


def provider(change: Callable[[fn.StepFn], Callable[[Any, Any], Any]] | None = None) -> Subject:
    """The network of the leaves' catalogue, with another value_and_grad."""
    objective, params, batch = scene("network")
    right = fn.explicit(objective)
    return Subject(right if change is None else right._replace(value_and_grad=change(right)), (params, batch))


def noisy(right: fn.StepFn) -> Callable[[Any, Any], Any]:
    """Sums taken in an order that changes from call to call, as by atomic additions in half precision."""
    generator = torch.Generator().manual_seed(0)

    def value_and_grad(params: Any, batch: Any) -> Any:
        value, grads = right(params, batch)
        return value, tree.map(lambda g: g * (1 + 1e-4 * torch.randn(g.shape, generator=generator, dtype=g.dtype)), grads)

    return value_and_grad


def never_zeroed(right: fn.StepFn) -> Callable[[Any, Any], Any]:
    """A buffer that every call adds to, as `.grad` without zero_grad."""
    kept: list[Any] = []

    def value_and_grad(params: Any, batch: Any) -> Any:
        value, grads = right(params, batch)
        kept.append(grads)
        return value, tree.map(lambda *leaves: sum(leaves), *kept)

    return value_and_grad


def updating(right: fn.StepFn) -> Callable[[Any, Any], Any]:
    """A gradient with the step of gradient descent thrown in."""

    def value_and_grad(params: Any, batch: Any) -> Any:
        value, grads = right(params, batch)
        tree.map(lambda w, g: w.sub_(0.1 * g), params, grads)
        return value, grads

    return value_and_grad


def value_after(right: fn.StepFn) -> Callable[[Any, Any], Any]:
    """The value reported is that after the step."""

    def value_and_grad(params: Any, batch: Any) -> Any:
        grads = right(params, batch)[1]
        return right.value(tree.add_scaled(params, -0.1, grads), batch), grads

    return value_and_grad


def value_summed(right: fn.StepFn) -> Callable[[Any, Any], Any]:
    """The value is the sum over the samples, the gradient that of the mean."""
    return lambda params, batch: (len(batch[1]) * right.value(params, batch), right(params, batch)[1])


def twin(name: str) -> Callable[[], Subject]:
    """A Function of the other catalogue, as it should be."""
    forward, rule, inputs = FUNCTIONS[name]
    return lambda: Subject(function(forward, rule), tree.clone(inputs))


BUGS = {
    "tanh: residual of another call": Bug(Cause.STALE, "function", lambda: stale("tanh"), twin("tanh")),
    "product: residuals of another call": Bug(Cause.STALE, "function", lambda: stale("product"), twin("product")),
    "relu: forward writes into its input": Bug(Cause.MUTATION, "function", in_place, twin("relu")),
    "dropout: another mask in the backward": Bug(
        Cause.NONDETERMINISTIC, "function", lambda: dropout(True), lambda: dropout(False)
    ),
    "network: sums in changing order": Bug(Cause.NONDETERMINISTIC, "network", lambda: provider(noisy), provider),
    "network: gradients never zeroed": Bug(Cause.NONDETERMINISTIC, "network", lambda: provider(never_zeroed), provider),
    "network: takes the step as well": Bug(Cause.MUTATION, "network", lambda: provider(updating), provider),
    "network: value after the step": Bug(Cause.VALUE, "network", lambda: provider(value_after), provider),
    "network: value summed": Bug(Cause.VALUE, "network", lambda: provider(value_summed), provider),
}
