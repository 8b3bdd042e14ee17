"""Networks with one wrong part: what a mistake in a layer or a loss looks like in the gradient of the whole.

A wrong dX harms no gradient of its own layer, only those of the layers before it, mixed through all of their weights. Here
the checker sees the network and not the part.
"""

from collections.abc import Callable
from typing import Any

import torch

import funcnn as fn
from experiments.bugs.layers import activation, dense
from experiments.bugs.losses import planted, probabilities
from experiments.bugs.mistakes import Mistake, Rule, bugs, labels, normal
from experiments.bugs.networks import start
from experiments.bugs.subject import Subject
from funcnn import Cause

X = normal(7, 4).index_fill(0, torch.tensor([6]), 0)  # the last sample is padding


def network(**part: Any) -> Subject:
    """The network 4-4-4 on 7 samples of 4 classes with another part: first, between, last or loss."""
    parts = {"first": fn.dense(4, 4), "between": fn.tanh(), "last": fn.dense(4, 4), "loss": fn.softmax_cross_entropy()}
    *layers, loss = (parts | part).values()
    layer = fn.serial(*layers)
    return Subject(fn.explicit(fn.supervised(layer, loss)), (start(layer), (X, labels(7, 4))))


def perceptron(rule: Rule | None) -> Subject:
    """One sigmoid unit with half the squared error."""
    layer = fn.serial(fn.dense(4, 1), activation(fn.sigmoid(), rule))
    step_fn = fn.explicit(fn.supervised(layer, fn.half_squared_error()))
    return Subject(step_fn, (start(layer), (X, (labels(7, 2)[:, None]).double())))


PARTS: dict[str, Callable[[Rule | None], Subject]] = {
    "perceptron": perceptron,
    "sigmoid in a network": lambda rule: network(between=activation(fn.sigmoid(), rule)),
    "tanh in a network": lambda rule: network(between=activation(fn.tanh(), rule)),
    "relu in a network": lambda rule: network(between=activation(fn.relu(), rule)),
    "dX in a network": lambda rule: network(last=dense(4, 4, "dX", rule)),
    "db in a network": lambda rule: network(first=dense(4, 4, "db", rule)),
    "dW in a network": lambda rule: network(last=dense(4, 4, "dW", rule)),
    "loss of a network": lambda rule: network(loss=planted(fn.softmax_cross_entropy(), probabilities, rule)),
}

MISTAKES: list[Mistake] = [
    ("perceptron", "no derivative", Cause.ACTIVATION_DERIVATIVE, lambda y, dy: dy),
    ("sigmoid in a network", "no derivative", Cause.ACTIVATION_DERIVATIVE, lambda y, dy: dy),
    (
        "sigmoid in a network",
        "derivative at y",
        Cause.ACTIVATION_DERIVATIVE,
        lambda y, dy: dy * y.sigmoid() * (1 - y.sigmoid()),
    ),
    ("tanh in a network", "no derivative", Cause.ACTIVATION_DERIVATIVE, lambda y, dy: dy),
    ("tanh in a network", "derivative at y", Cause.ACTIVATION_DERIVATIVE, lambda y, dy: dy * (1 - y.tanh() ** 2)),
    ("relu in a network", "y >= 0, which is always so", Cause.ACTIVATION_DERIVATIVE, lambda y, dy: dy * (y >= 0)),
    ("dX in a network", "W in place of its transpose", Cause.TRANSPOSED, lambda x, w, dy: dy @ w),
    ("dX in a network", "not passed on", Cause.ZERO, lambda x, w, dy: torch.zeros_like(x)),
    ("db in a network", "averaged", Cause.BIAS_REDUCTION, lambda x, w, dy: dy.mean(0)),
    ("db in a network", "of the first sample", Cause.BIAS_REDUCTION, lambda x, w, dy: dy[0]),
    ("db in a network", "padded rows left out", Cause.NONE, lambda x, w, dy: dy[x.abs().sum(1) > 0].sum(0)),
    ("dW in a network", "last sample left out", Cause.NONE, lambda x, w, dy: x[:-1].T @ dy[:-1]),
    ("dW in a network", "transposed", Cause.TRANSPOSED, lambda x, w, dy: dy.T @ x),
    ("loss of a network", "class 0 taken for padding", Cause.NONE, lambda p, t: (p - t) * (1 - t[:, :1]) / len(p)),
    ("loss of a network", "not averaged", Cause.FACTOR_N, lambda p, t: p - t),
    ("loss of a network", "t - p for p - t", Cause.SIGN, lambda p, t: (t - p) / len(p)),
]

BUGS = bugs("network", lambda where, rule: PARTS[where](rule), MISTAKES)
