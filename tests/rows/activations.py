"""Activations whose derivative is known from their input."""

import math

import torch
from helpers import normal
from row import LayerRow, affine

import funcnn as fn

N = 5
_x = normal(N, 4)
X = 2 * torch.where(_x < 0, _x - 0.1, _x + 0.1)  # differences must not step over the kink
TOKENS = 2 * normal(N, 2, 4, seed=1)


def leaking(params, x):
    return x.clamp(min=0) + 0.2 * x.clamp(max=0)


def normally_gated(params, x):
    return x * (1 + torch.special.erf(x / 2**0.5)) / 2


def nearly_so(params, x):
    return x / (1 + (-2 * (2 / math.pi) ** 0.5 * (x + 0.044715 * x**3)).exp())  # (1 + tanh u) / 2 = 1 / (1 + exp(-2 u))


def self_gated(params, x):
    return x / (1 + (-x).exp())


def smoothly_rectified(params, x):
    return (1 + x.exp()).log()


def between(formula):
    return lambda params, x: affine(params[2], formula((), affine(params[0], x)))


def network(activation):
    return fn.mlp([4, 5, 3], activation)


ROWS = {
    "leaky relu": LayerRow(fn.leaky_relu(0.2), X, leaking, analytic=False),
    "gelu": LayerRow(fn.gelu(), X, normally_gated),
    "gelu by tanh": LayerRow(fn.gelu("tanh"), TOKENS, nearly_so),
    "silu": LayerRow(fn.silu(), X, self_gated),
    "softplus": LayerRow(fn.softplus(), X, smoothly_rectified),
    "mlp, leaky relu": LayerRow(network(lambda: fn.leaky_relu(0.2)), X, between(leaking), analytic=False),
    "mlp, gelu": LayerRow(network(fn.gelu), X, between(normally_gated)),
    "mlp on tokens, gelu by tanh": LayerRow(network(lambda: fn.gelu("tanh")), TOKENS, between(nearly_so)),
    "mlp, silu": LayerRow(network(fn.silu), X, between(self_gated)),
    "mlp on tokens, softplus": LayerRow(network(fn.softplus), TOKENS, between(smoothly_rectified)),
}
