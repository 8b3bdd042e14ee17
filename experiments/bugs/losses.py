"""Losses with a wrong gradient, on 5 samples.

The rule of the squared errors and of binary cross entropy is given the outputs y and the targets t; that of softmax cross
entropy the probabilities p = softmax(z) and the targets t as one-hot rows, so that its gradient reads (p - t) / N.

With an epsilon in the logarithm, -log(p_t + e), that gradient is no longer right: the chain rule gives p_t / (p_t + e)
times it. What the difference amounts to depends on how confident and wrong the network is.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

import funcnn as fn
from experiments.bugs.mistakes import Mistake, Rule, bugs, normal
from experiments.bugs.subject import Subject
from funcnn import Cause

LABELS = torch.tensor([0, 1, 0, 1, 2])  # class 2 only once
ONE_HOT = F.one_hot(LABELS, 3).double()


def negative_log(epsilon: float) -> fn.Loss:
    """L = -1/N sum_n log(softmax(z_n)[t_n] + epsilon), and its gradient, derived with the epsilon."""

    def forward(z: Tensor, targets: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        p, t = probabilities(z, targets)
        return -((p * t).sum(1) + epsilon).log().mean(), (p, t)

    def backward(residuals: tuple[Tensor, Tensor]) -> Tensor:
        p, t = residuals
        own = (p * t).sum(1, keepdim=True)
        return own / (own + epsilon) * (p - t) / len(p)

    return fn.Loss(forward, backward)


def probabilities(z: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """What the rules of cross entropy are given: softmax(z) and one-hot targets."""
    return z.softmax(1), F.one_hot(targets, z.shape[1]).to(z)


def as_they_are(y: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """What the rules of the other losses are given."""
    return y, t


Sees = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
LOSSES: dict[str, tuple[fn.Loss, Tensor, Tensor, Sees]] = {
    "half squared error": (fn.half_squared_error(), normal(5, 4), normal(5, 4, seed=1), as_they_are),
    "mean squared error": (fn.mean_squared_error(), normal(5, 4), normal(5, 4, seed=1), as_they_are),
    "binary cross entropy": (fn.binary_cross_entropy(), normal(5, 1).sigmoid(), ONE_HOT[:, :1], as_they_are),
    "cross entropy": (fn.softmax_cross_entropy(), normal(5, 3), LABELS, probabilities),
    "-log(p + 1e-9)": (negative_log(1e-9), normal(5, 3), LABELS, probabilities),
    "-log(p + 1e-9), confident and wrong": (negative_log(1e-9), normal(5, 3) - 9 * ONE_HOT, LABELS, probabilities),
}

MISTAKES: list[Mistake] = [
    ("half squared error", "t - y for y - t", Cause.SIGN, lambda y, t: (t - y) / len(y)),
    ("half squared error", "not averaged", Cause.FACTOR_N, lambda y, t: y - t),
    ("half squared error", "the 2 that the 1/2 was there for", Cause.FACTOR_2, lambda y, t: 2 * (y - t) / len(y)),
    ("half squared error", "the sign of the error alone", Cause.NONE, lambda y, t: (y - t).sign() / len(y)),
    ("mean squared error", "the 2 of the square forgotten", Cause.FACTOR_2, lambda y, t: (y - t) / y.numel()),
    ("mean squared error", "averaged over samples, not over entries", Cause.NONE, lambda y, t: 2 * (y - t) / len(y)),
    ("mean squared error", "summed", Cause.NONE, lambda y, t: 2 * (y - t)),
    ("binary cross entropy", "that of the logit", Cause.NONE, lambda p, t: (p - t) / len(p)),
    ("binary cross entropy", "the (1 - t) half forgotten", Cause.NONE, lambda p, t: -t / p / len(p)),
    ("binary cross entropy", "t - p for p - t", Cause.SIGN, lambda p, t: (t - p) / (p * (1 - p)) / len(p)),
    ("binary cross entropy", "epsilon in the denominator", Cause.NONE, lambda p, t: (p - t) / (p * (1 - p) + 1e-4) / len(p)),
    ("cross entropy", "not averaged", Cause.FACTOR_N, lambda p, t: p - t),
    ("cross entropy", "averaged twice", Cause.FACTOR_N, lambda p, t: (p - t) / len(p) ** 2),
    ("cross entropy", "t - p for p - t", Cause.SIGN, lambda p, t: (t - p) / len(p)),
    ("cross entropy", "labels counted from 1", Cause.NONE, lambda p, t: (p - t.roll(1, 1)) / len(p)),
    ("cross entropy", "softmax taken of the softmax", Cause.NONE, lambda p, t: (p.softmax(1) - t) / len(p)),
    ("cross entropy", "nothing but the entry of the label", Cause.NONE, lambda p, t: (p - 1) * t / len(p)),
    ("cross entropy", "class 0 taken for padding", Cause.NONE, lambda p, t: (p - t) * (1 - t[:, :1]) / len(p)),
    ("cross entropy", "class 2 taken for padding", Cause.SINGLE_ROW, lambda p, t: (p - t) * (1 - t[:, 2:]) / len(p)),
    ("cross entropy", "divided by the number of classes", Cause.NONE, lambda p, t: (p - t) / p.shape[1]),
    ("cross entropy", "divided by the labels that are not 0", Cause.NONE, lambda p, t: (p - t) / t[:, 1:].sum()),
    ("-log(p + 1e-9)", "the epsilon not in the gradient", Cause.NONE, lambda p, t: (p - t) / len(p)),
    ("-log(p + 1e-9), confident and wrong", "the epsilon not in the gradient", Cause.NONE, lambda p, t: (p - t) / len(p)),
]


def plant(where: str, rule: Rule | None) -> Subject:
    """A loss, its gradient by another rule."""
    loss, outputs, targets, sees = LOSSES[where]
    return Subject(planted(loss, sees, rule), (outputs, targets))


def planted(loss: fn.Loss, sees: Sees, rule: Rule | None) -> fn.Loss:
    """The loss with the gradient rule(*sees(outputs, targets)), or its own."""
    if rule is None:
        return loss
    return fn.Loss(
        lambda outputs, targets: (loss.forward(outputs, targets)[0], (outputs, targets)),
        lambda residuals: rule(*sees(*residuals)),
    )


BUGS = bugs("loss", plant, MISTAKES)
