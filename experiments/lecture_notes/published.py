"""Formulas as lecture notes and blogs print them, put into the form of this library.

softmax         y = exp(x) / sum(exp(x)), no maximum subtracted     overflows and underflows far from 0
cross entropy   -log(p + 1e-9) with the gradient (p - t) / N        that of -log p: off by 1e-9 / (p + 1e-9)
ReLU            dy[x < 0] = 0; return dy                            1 at x = 0, and the caller's dy is written into
"""

import torch.nn.functional as F
from torch import Tensor

import funcnn as fn

EPSILON = 1e-9


def softmax() -> fn.Layer:
    """The rows exp(x) / sum(exp(x)), with the right backward rule."""

    def forward(params: tuple[()], x: Tensor) -> tuple[Tensor, Tensor]:
        y = x.exp() / x.exp().sum(1, keepdim=True)
        return y, y

    return fn.softmax()._replace(forward=forward)


def cross_entropy() -> fn.Loss:
    """-log(p + 1e-9) of the labels, averaged, with the gradient (p - t) / N of the logits."""

    def forward(outputs: Tensor, targets: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        p, t = outputs.softmax(1), F.one_hot(targets, outputs.shape[1]).to(outputs)
        return -((p * t).sum(1) + EPSILON).log().mean(), (p, t)

    return fn.Loss(forward, lambda residuals: (residuals[0] - residuals[1]) / len(residuals[0]))


def relu() -> fn.Layer:
    """The rectifier whose backward rule masks dy where it lies, and keeps it where x = 0."""

    def backward(x: Tensor, dy: Tensor) -> tuple[tuple[()], Tensor]:
        dy[x < 0] = 0
        return (), dy

    return fn.relu()._replace(forward=lambda params, x: (x.relu(), x), backward=backward)
