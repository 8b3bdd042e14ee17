"""Modules of torch.nn, kind by kind: the layer of each has its numbers, its gradients, and those of its samples."""

import pytest
import torch
from helpers import EPS, assert_close, labels, normal, one_by_one, seeded
from torch import nn

import funcnn as fn

ROWS, SIGNALS, IMAGES, TOKENS = normal(4, 6), normal(4, 6, 8), normal(2, 6, 8, 8), labels(20, 10).reshape(4, 5)
ENCODER = {"d_model": 8, "nhead": 2, "dim_feedforward": 16, "batch_first": True}

ACTIVATIONS = """ELU Hardshrink Hardsigmoid Hardtanh Hardswish LeakyReLU LogSigmoid PReLU ReLU ReLU6 SELU CELU GELU Sigmoid
SiLU Mish Softplus Softshrink Softsign Tanh Tanhshrink GLU Identity Flatten"""

# name: (a module, its inputs)
KINDS = {
    **{name: (getattr(nn, name), ROWS) for name in ACTIVATIONS.split()},
    "LogSoftmax": (lambda: nn.LogSoftmax(-1), ROWS),
    "Softmax2d": (nn.Softmax2d, IMAGES),
    "SELU in place": (lambda: nn.SELU(inplace=True), ROWS),
    "Hardtanh in place": (lambda: nn.Sequential(nn.Linear(6, 6), nn.Hardtanh(inplace=True)), ROWS),
    "Conv1d, circular": (lambda: nn.Conv1d(6, 4, 3, padding=1, padding_mode="circular"), SIGNALS),
    "Conv2d, grouped": (lambda: nn.Conv2d(6, 6, 3, groups=3, dilation=2), IMAGES),
    "Conv3d": (lambda: nn.Conv3d(2, 3, 3), normal(2, 2, 4, 4, 4)),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(6, 4, 3, stride=2), SIGNALS),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(6, 4, 3, stride=2, output_padding=1), IMAGES),
    "Unfold": (lambda: nn.Unfold(3), IMAGES),
    "Fold": (lambda: nn.Fold((4, 4), 2), normal(2, 12, 9)),
    "MaxPool2d": (lambda: nn.MaxPool2d(3, 2, ceil_mode=True), IMAGES),
    "AvgPool2d": (lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), IMAGES),
    "LPPool2d": (lambda: nn.LPPool2d(2, 2), IMAGES.abs()),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d(3), IMAGES),
    "AdaptiveMaxPool2d": (lambda: nn.AdaptiveMaxPool2d(3), IMAGES),
    "ReflectionPad2d": (lambda: nn.ReflectionPad2d(2), IMAGES),
    "LayerNorm": (lambda: nn.LayerNorm([6, 8]), SIGNALS),
    "GroupNorm": (lambda: nn.GroupNorm(3, 6), IMAGES),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(6, affine=True), IMAGES),
    "RMSNorm": (lambda: nn.RMSNorm(8), SIGNALS),
    "LocalResponseNorm": (lambda: nn.LocalResponseNorm(3), IMAGES),
    "BatchNorm2d in use": (lambda: nn.BatchNorm2d(6).eval(), IMAGES),
    "weight norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(6, 3, 3)), IMAGES),
    "orthogonal": (lambda: nn.utils.parametrizations.orthogonal(nn.Linear(6, 3)), ROWS),
    "PixelUnshuffle": (lambda: nn.PixelUnshuffle(2), IMAGES),
    "ChannelShuffle": (lambda: nn.ChannelShuffle(3), IMAGES),
    "Upsample": (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), IMAGES),
    "Embedding": (lambda: nn.Embedding(10, 4), TOKENS),
    "EmbeddingBag": (lambda: nn.EmbeddingBag(10, 4, mode="mean"), TOKENS),
    "Dropout in use": (lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 2)).eval(), ROWS),
    "Dropout of 0": (lambda: nn.Sequential(nn.Dropout(0.0), nn.Linear(6, 2)), ROWS),
    "TransformerEncoder in use": (lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(**ENCODER), 2).eval(), SIGNALS),
    "TransformerEncoderLayer, norm first": (
        lambda: nn.TransformerEncoderLayer(**ENCODER, norm_first=True, activation="gelu", dropout=0.0),
        SIGNALS,
    ),
}


@pytest.mark.filterwarnings("ignore:There is a performance drop because")
@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")
@pytest.mark.parametrize("name", KINDS)
def test_its_numbers_and_gradients_are_torchs_and_those_of_samples_are_its_own(name):
    make, x = KINDS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = make()
    layer = fn.module(module)
    params = layer.init(seeded())
    y, residuals = layer.forward(params, x)
    dy = normal(*y.shape, seed=1)
    dparams, dx = layer.backward(residuals, dy)
    own = x.clone().requires_grad_(x.is_floating_point())
    outputs = module(own.clone())
    inputs = [*module.parameters(), *([own] if own.requires_grad else [])]
    grads = list(torch.autograd.grad(outputs, inputs, dy))
    assert_close(y, outputs.detach(), 20 * EPS)
    found = dict(zip(fn.tree.paths(dparams, ""), fn.tree.leaves(dparams), strict=True))
    names = ["".join(f"['{part}']" for part in path.split(".")) for path, _ in module.named_parameters()]
    assert_close([*(found[path] for path in names), *fn.tree.leaves(dx)], grads, 50 * EPS)

    def gradients(x, dy):
        return layer.backward(layer.forward(params, x)[1], dy)

    mapped = torch.func.vmap(lambda x, dy: gradients(x[None], dy[None]))(x, dy)
    assert_close(mapped, one_by_one(lambda sample: gradients(*sample), (x, dy)), 50 * EPS)
