"""Classic mistakes inside a network, made on purpose: what would they do to the gradients of all the leaves before them?

A wrong derivative of one layer spoils every gradient on the way back from it, where it looks like nothing known. So the
network itself is run with the mistake in it, and its gradients are predictions to compare with. No backward rule is
written for them. The function with the value of f and the derivative of another function s is

    stop(f - s) + s        stop(x): x, with derivative 0

and any automatic derivative then makes the mistake.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from torch import Tensor

from .. import tree
from ..causes import Cause
from ..layers.combine import chain
from ..types import Inputs, Params

Forward: TypeAlias = Callable[[Params, Tensor], Tensor]
Rule: TypeAlias = Callable[..., Any]  # the forward rule of a layer, with its residuals
Prediction: TypeAlias = tuple[Cause, str, list[Tensor]]  # cause, sentence, and a gradient for every leaf


def predict(forward: Rule, params: Params, x: Inputs, gradient: Callable[[Forward], list[Tensor]]) -> list[Prediction]:
    """Every mistake that can be made in one of the layers of a network, with the gradient that it makes."""
    predictions, links = [], chain(forward, params)
    for position, (link, own) in enumerate(links):
        y = link(own, x)[0]
        for cause, sentence, mistaken in _mistakes(link, own, x, y):
            place = f" in layer {position} of the network, counted from 0" if len(links) > 1 else ""
            predictions.append((cause, sentence + place, gradient(_with(forward, position, mistaken))))
        x = y
    return predictions


def _with(rule: Rule, position: int, mistaken: Forward) -> Forward:
    def forward(params: Params, x: Tensor) -> Tensor:
        for index, (link, own) in enumerate(chain(rule, params)):
            x = mistaken(own, x) if index == position else link(own, x)[0]
        return x

    return forward


def _mistakes(rule: Rule, params: Params, x: Inputs, y: Tensor) -> Iterator[tuple[Cause, str, Forward]]:
    def forward(params: Params, x: Tensor) -> Tensor:
        y: Tensor = rule(params, x)[0]
        return y

    def missing(params: Params, x: Tensor) -> Tensor:
        return _swap(forward(params, x), x)

    def elsewhere(params: Params, x: Tensor) -> Tensor:
        return _swap(forward(params, x), forward(params, _swap(y, x)))

    def straight(params: Params, x: Tensor) -> Tensor:
        return _swap(forward(params, x), forward(params, x.detach()) + x @ params["w"].detach().mT)

    if not isinstance(x, Tensor) or x.shape != y.shape:
        return
    if isinstance(params, dict) and "w" in params:
        yield Cause.TRANSPOSED, "dX = dY W in place of dY W^T", straight
    elif not tree.leaves(params):
        yield Cause.ACTIVATION_DERIVATIVE, "the derivative of the activation is missing", missing
        yield (
            Cause.ACTIVATION_DERIVATIVE,
            "the derivative of the activation is taken at its output, not at its input",
            elsewhere,
        )


def _swap(value: Tensor, s: Tensor) -> Tensor:
    """The value, with the derivative of s."""
    return (value - s).detach() + s
