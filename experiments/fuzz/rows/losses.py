"""Losses and their gradients, beside classic autograd."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

import funcnn as fn
from experiments.fuzz.case import Call
from experiments.fuzz.formulas import differentiable, gradients, plain
from experiments.fuzz.rows.networks import normal


def loss(
    make: Callable[..., fn.Loss], given: tuple[Any, ...], formula: Callable[..., Tensor], draw: Any, like: bool = True
) -> Call:
    """The arguments are (*given, outputs, targets); targets are like the outputs, or labels."""

    def run(*arguments: Any) -> Any:
        *own, outputs, targets = arguments
        made = make(*own)
        value, residuals = made.forward(outputs, targets)
        return value, made.backward(residuals)

    def truth(*arguments: Any) -> Any:
        *own, outputs, targets = arguments
        outputs, targets = plain(outputs), plain(targets)
        if targets.shape != (outputs.shape if like else outputs.shape[:-1]) or not outputs.numel():
            raise TypeError("targets of another shape")
        if targets.dtype != (outputs.dtype if like else torch.int64):
            raise TypeError("targets of another dtype")
        with torch.enable_grad():
            differentiable(outputs)
            value, sent = formula(outputs, targets, *own)
        return value.detach(), sent(gradients(value, outputs))

    return Call(lambda g: (*given, *draw(g)), run, truth)


def of(formula: Callable[..., Tensor]) -> Callable[..., Any]:
    """A loss whose gradient is that of its value."""
    return lambda y, t, *own: (formula(y, t, *own), lambda gradient: gradient)


def clipped(y: Tensor, t: Tensor, clip: float | None) -> Any:
    """The cross entropy and its gradient, which is clamped."""
    value = F.cross_entropy(y.reshape(-1, y.shape[-1]), t.flatten())
    return value, lambda gradient: gradient if clip is None else gradient.clamp(-float(clip), float(clip))


def probabilities(y: Tensor, t: Tensor) -> Tensor:
    """The entropy with logarithms that are bounded below."""
    if not bool(((y >= 0) & (y <= 1) & (t >= 0) & (t <= 1)).all()):
        raise TypeError("no probabilities")
    tiny = torch.finfo(y.dtype).tiny
    return -(t * y.clamp(min=tiny).log() + (1 - t) * (1 - y).clamp(min=tiny).log()).mean()


def reals(g: Generator) -> tuple[Tensor, Tensor]:
    """Outputs and targets."""
    return normal(g, 5, 3), normal(g, 5, 3)


def shares(g: Generator) -> tuple[Tensor, Tensor]:
    """The same between 0 and 1."""
    y, t = torch.rand(2, 5, 3, generator=g, dtype=torch.float64)
    return y.clone(), t.clone()


def scores(g: Generator) -> tuple[Tensor, Tensor]:
    """Logits and labels."""
    return normal(g, 5, 3), torch.randint(3, (5,), generator=g)


ROWS = {
    "half_squared_error": loss(
        fn.half_squared_error, (), of(lambda y, t: 0.5 * ((y - t) ** 2).reshape(len(y), -1).sum(1).mean()), reals
    ),
    "mean_squared_error": loss(
        fn.mean_squared_error, (2.0,), of(lambda y, t, scale: float(scale) * ((y - t) ** 2).mean()), reals
    ),
    "binary_cross_entropy": loss(fn.binary_cross_entropy, (), of(probabilities), shares),
    "softmax_cross_entropy": loss(fn.softmax_cross_entropy, (0.05,), clipped, scores, like=False),
}
