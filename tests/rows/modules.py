"""Modules of torch as layers: alone, between ours, with constants, with tied names, on tokens."""

import torch
from helpers import labels, normal
from row import LayerRow, affine, series
from torch import nn

import funcnn as fn

N = 5
X, TOKENS, IMAGES = normal(N, 4), normal(N, 3, 4, seed=1), normal(N, 2, 3, 3, seed=2)


def weighted(make):
    """The layer of a module in float64 whose parameters and buffers are drawn here."""
    nn_module = make().double().eval()
    for seed, leaf in enumerate([*nn_module.parameters(), *nn_module.buffers()]):
        if leaf.is_floating_point():
            leaf.data = normal(*leaf.shape, seed=20 + seed).mul(0.3).abs().add(0.2)
    return fn.module(nn_module), nn_module


class Tied(nn.Module):
    """The logits x W^T s of tokens' rows x of W, s a buffer."""

    def __init__(self):
        super().__init__()
        self.rows, self.logits = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
        self.logits.weight = self.rows.weight
        self.register_buffer("scale", torch.tensor([0.5]))

    def forward(self, tokens):
        return self.logits(self.rows(tokens)) * self.scale


def linear(params, x):
    return x @ params["weight"].mT + params["bias"]


def two(params, x):
    return linear(params["2"], linear(params["0"], x).tanh())


def over_images(params, x):
    centred = x - x.mean((1, 2, 3), keepdim=True)
    xhat = centred / ((centred**2).mean((1, 2, 3), keepdim=True) + 1e-5) ** 0.5
    return xhat * params["weight"].reshape(-1, 1, 1) + params["bias"].reshape(-1, 1, 1)


LINEAR, TWO = weighted(lambda: nn.Linear(4, 3)), weighted(lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)))
NORM, TIED = weighted(lambda: nn.BatchNorm1d(4)), weighted(Tied)


def by_running_statistics(params, x):
    mean, variance = NORM[1].running_mean.to(x), NORM[1].running_var.to(x)
    return (x - mean) / (variance + 1e-5) ** 0.5 * params["weight"] + params["bias"]


def of_tied(params, x):
    w = params["rows"]["weight"]
    return w[x] @ w.mT * TIED[1].scale.to(w)


ROWS = {
    "a torch module": LayerRow(LINEAR[0], X, linear),
    "a torch module on tokens": LayerRow(LINEAR[0], TOKENS, linear),
    "a torch module of modules": LayerRow(TWO[0], X, two),
    "a torch module on images": LayerRow(weighted(lambda: nn.GroupNorm(1, 2))[0], IMAGES, over_images),
    "a torch module with buffers": LayerRow(NORM[0], X, by_running_statistics),
    "a torch module of tokens, tied": LayerRow(TIED[0], labels(N, 7), of_tied),
    "a torch module without parameters": LayerRow(fn.module(nn.Tanh()), X, lambda params, x: torch.tanh(x)),
    "a torch module that overwrites": LayerRow(
        fn.module(nn.ReLU(inplace=True)), X + 0.1 * X.sign(), lambda params, x: x.clamp(min=0), analytic=False
    ),
    "a torch module between": LayerRow(fn.serial(fn.dense(4, 4), TWO[0], fn.dense(3, 2)), X, series(affine, two, affine)),
}
