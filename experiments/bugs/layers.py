"""Layers with a wrong backward rule.

The dense layer Y = X W + 1 b has the gradients

    dW = X^T dY     db = 1^T dY     dX = dY W^T

and is square here, 4 to 4, on 6 samples: where all sides are equal a forgotten transpose has the right shape. An
activation y = f(x) has dx = dy f'(x); its rule is given the output y.
"""

import torch
from torch import Tensor

import funcnn as fn
from experiments.bugs.mistakes import Mistake, Rule, bugs, memory, normal, without
from experiments.bugs.subject import Subject
from funcnn import Cause

DENSE: dict[str, Rule] = {
    "dW": lambda x, w, dy: x.T @ dy,
    "db": lambda x, w, dy: dy.sum(0),
    "dX": lambda x, w, dy: dy @ w.T,
}
SATURATED = torch.tensor([0, 0, 9.0, 0], dtype=torch.float64)  # what shifts one unit of four into saturation
ACTIVATIONS = {
    "sigmoid": (fn.sigmoid(), normal(6, 4)),
    "tanh": (fn.tanh(), normal(6, 4)),
    "relu": (fn.relu(), normal(6, 4)),
    "softmax": (fn.softmax(), normal(6, 4)),
    "sigmoid with a saturated unit": (fn.sigmoid(), normal(6, 4) + SATURATED),
}

MISTAKES: list[Mistake] = [
    ("dW", "descends uphill", Cause.SIGN, lambda x, w, dy: -(x.T @ dy)),
    ("dW", "averaged over the samples once more", Cause.FACTOR_N, lambda x, w, dy: x.T @ dy / len(x)),
    ("dW", "transposed", Cause.TRANSPOSED, lambda x, w, dy: dy.T @ x),
    ("dW", "the derivative of a square kept", Cause.FACTOR_2, lambda x, w, dy: 2 * (x.T @ dy)),
    ("dW", "never filled", Cause.ZERO, lambda x, w, dy: torch.zeros_like(w)),
    ("dW", "features in reverse order", Cause.PERMUTED, lambda x, w, dy: x.flip(1).T @ dy),
    ("dW", "loop over the units ends one early", Cause.SINGLE_COLUMN, lambda x, w, dy: without(x.T @ dy, ..., -1)),
    ("dW", "loop over the features starts at 1", Cause.SINGLE_ROW, lambda x, w, dy: without(x.T @ dy, 0)),
    ("dW", "one entry overwritten", Cause.SINGLE_ENTRY, lambda x, w, dy: without(x.T @ dy, 1, 2)),
    ("dW", "divided by a count of 0", Cause.NOT_FINITE, lambda x, w, dy: (x.T @ dy) / (len(x) - len(dy))),
    ("dW", "weight decay that the value lacks", Cause.LINEARITY, lambda x, w, dy: x.T @ dy + 0.01 * w),
    ("dW", "in float32 inside", Cause.NONE, lambda x, w, dy: (x.float().T @ dy.float()).double()),
    ("db", "of the first sample", Cause.BIAS_REDUCTION, lambda x, w, dy: dy[0]),
    ("db", "of the last sample", Cause.BIAS_REDUCTION, lambda x, w, dy: dy[-1]),
    ("db", "averaged", Cause.BIAS_REDUCTION, lambda x, w, dy: dy.mean(0)),
    ("db", "not summed at all", Cause.BIAS_REDUCTION, lambda x, w, dy: dy),
    ("db", "summed over everything", Cause.NONE, lambda x, w, dy: dy.sum().expand(dy.shape[1])),
    ("db", "units off by one", Cause.PERMUTED, lambda x, w, dy: dy.sum(0).roll(1)),
    ("db", "last unit forgotten", Cause.SINGLE_ENTRY, lambda x, w, dy: without(dy.sum(0), -1)),
    ("db", "0.1% too large", Cause.NONE, lambda x, w, dy: 1.001 * dy.sum(0)),
    ("dX", "W in place of its transpose", Cause.TRANSPOSED, lambda x, w, dy: dy @ w),
    ("dX", "sign lost in the chain rule", Cause.SIGN, lambda x, w, dy: -dy @ w.T),
    ("dX", "averaged over the samples", Cause.FACTOR_N, lambda x, w, dy: dy @ w.T / len(x)),
    ("dX", "not passed on", Cause.ZERO, lambda x, w, dy: torch.zeros_like(x)),
    ("dX", "first sample taken for padding", Cause.SINGLE_ROW, lambda x, w, dy: without(dy @ w.T, 0)),
    ("dX", "samples in reverse order", Cause.PERMUTED, lambda x, w, dy: dy.flip(0) @ w.T),
    ("dX", "reads dy as if it were contiguous", Cause.STRIDES, lambda x, w, dy: memory(dy) @ w.T),
    ("dX", "takes dy to be the same for all samples", Cause.NONE, lambda x, w, dy: dy[:1].expand_as(dy) @ w.T),
    ("sigmoid", "no derivative", Cause.ACTIVATION_DERIVATIVE, lambda y, dy: dy),
    ("sigmoid", "derivative taken at y", Cause.ACTIVATION_DERIVATIVE, lambda y, dy: dy * y.sigmoid() * (1 - y.sigmoid())),
    ("sigmoid", "y for y (1 - y)", Cause.NONE, lambda y, dy: dy * y),
    ("sigmoid", "y (y - 1)", Cause.SIGN, lambda y, dy: dy * y * (y - 1)),
    ("sigmoid", "the mean of dy for dy", Cause.UPSTREAM, lambda y, dy: dy.mean() * y * (1 - y)),
    ("sigmoid", "clips what it is given", Cause.LINEARITY, lambda y, dy: dy.clamp(-1, 1) * y * (1 - y)),
    (
        "sigmoid with a saturated unit",
        "derivative kept above 1%",
        Cause.SINGLE_COLUMN,
        lambda y, dy: dy * (y * (1 - y)).clamp(min=0.01),
    ),
    ("tanh", "no derivative", Cause.ACTIVATION_DERIVATIVE, lambda y, dy: dy),
    ("tanh", "derivative taken at y", Cause.ACTIVATION_DERIVATIVE, lambda y, dy: dy * (1 - y.tanh() ** 2)),
    ("tanh", "1 - y for 1 - y^2", Cause.NONE, lambda y, dy: dy * (1 - y)),
    ("tanh", "y^2 - 1", Cause.SIGN, lambda y, dy: dy * (y**2 - 1)),
    ("tanh", "reads dy as if it were contiguous", Cause.STRIDES, lambda y, dy: memory(dy) * (1 - y**2)),
    ("relu", "y >= 0, which is always so", Cause.ACTIVATION_DERIVATIVE, lambda y, dy: dy * (y >= 0)),
    ("softmax", "Jacobian reduced to its diagonal", Cause.NONE, lambda y, dy: y * (1 - y) * dy),
    ("softmax", "inner product over the samples", Cause.NONE, lambda y, dy: y * (dy - (dy * y).sum(0))),
    ("softmax", "mean for the inner product", Cause.NONE, lambda y, dy: y * (dy - dy.mean(1, keepdim=True))),
]


def plant(where: str, rule: Rule | None) -> Subject:
    """A dense layer with one of its gradients replaced, or an activation with another rule."""
    if where in DENSE:
        params = {"w": normal(4, 4, seed=1), "b": normal(4, seed=2)}
        return Subject(dense(4, 4, where, rule), (params, normal(6, 4)))
    layer, x = ACTIVATIONS[where]
    return Subject(activation(layer, rule), ((), x))


def dense(in_features: int, out_features: int, where: str, rule: Rule | None) -> fn.Layer:
    """fn.dense with dW, db or dX by another rule, of (x, w, dy)."""
    rules = DENSE | ({where: rule} if rule else {})

    def backward(residuals: tuple[Tensor, Tensor], dy: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        dw, db, dx = (rule(*residuals, dy) for rule in rules.values())
        return {"w": dw, "b": db}, dx

    return fn.dense(in_features, out_features)._replace(backward=backward)


def activation(layer: fn.Layer, rule: Rule | None) -> fn.Layer:
    """An activation with the gradient rule(y, dy), or its own."""
    return layer._replace(backward=lambda y, dy: ((), rule(y, dy))) if rule else layer


BUGS = bugs("layer", plant, MISTAKES)
