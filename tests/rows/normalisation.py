"""Norms over features, groups and batches, from scales and shifts that are not 1 and 0, where half a rule would not show."""

import torch
from helpers import normal
from row import LayerRow, affine

import funcnn as fn

N = 5
X, TOKENS, IMAGES = normal(N, 4), normal(N, 3, 4, seed=1), normal(N, 4, 3, 2, seed=2)
WIDE = normal(N, 8, seed=3)  # the variance of few numbers may be near 0, where the slope is steep


def drawn(layer):
    """The same layer, which starts anywhere."""

    def init(generator, *, dtype=None, device=None):
        def moved(leaf):
            return (leaf + torch.rand(leaf.shape, generator=generator, dtype=torch.float64)).to(dtype or torch.float32)

        return fn.tree.map(moved, layer.init(generator, dtype=torch.float64))

    return layer._replace(init=init)


def standard(x, axes, eps):
    centred = x - x.mean(axes, keepdim=True)
    return centred / ((centred**2).mean(axes, keepdim=True) + eps) ** 0.5


def channels(leaf, x):
    return leaf.reshape(-1, *[1] * (x.ndim - 2))


def over_features(params, x, eps=1e-5):
    return standard(x, -1, eps) * params["w"] + params["b"]


def by_root_mean_square(params, x, eps=1e-6):
    return x / ((x**2).mean(-1, keepdim=True) + eps) ** 0.5 * params["w"]


def over_groups(groups):
    def formula(params, x, eps=1e-5):
        each = [standard(part, tuple(range(1, x.ndim)), eps) for part in x.chunk(groups, 1)]
        return torch.cat(each, 1) * channels(params["w"], x) + channels(params["b"], x)

    return formula


def over_batch(params, x, eps=1e-5):
    return standard(x, (0, *range(2, x.ndim)), eps) * channels(params["w"], x) + channels(params["b"], x)


def by_statistics_of(data):
    axes = (0, *range(2, data.ndim))
    mean = data.mean(axes, keepdim=True)
    deviation = ((((data - mean) ** 2).mean(axes, keepdim=True)) + 1e-5) ** 0.5

    def formula(params, x):
        return (x - mean.to(x)) / deviation.to(x) * channels(params["w"], x) + channels(params["b"], x)

    return formula


def calibrated(features, data):
    layer = drawn(fn.batch_norm(features))
    return drawn(fn.calibrate(layer, layer.init(torch.Generator(), dtype=torch.float64), data.split(2)))


def between(formula):
    return lambda params, x: affine(params[2], formula(params[1], affine(params[0], x), 0.1))


def network(layer):
    return fn.serial(fn.dense(4, 8), drawn(layer), fn.dense(8, 3))


ROWS = {
    "layer norm": LayerRow(drawn(fn.layer_norm(8)), WIDE, over_features),
    "layer norm on tokens": LayerRow(drawn(fn.layer_norm(4)), TOKENS, over_features),
    "layer norm between": LayerRow(network(fn.layer_norm(8, eps=0.1)), TOKENS, between(over_features)),
    "rms norm": LayerRow(drawn(fn.rms_norm(8)), WIDE, by_root_mean_square),
    "rms norm on tokens": LayerRow(drawn(fn.rms_norm(4)), TOKENS, by_root_mean_square),
    "rms norm between": LayerRow(network(fn.rms_norm(8, eps=0.1)), TOKENS, between(by_root_mean_square)),
    "group norm": LayerRow(drawn(fn.group_norm(2, 4)), IMAGES, over_groups(2)),
    "group norm of one group": LayerRow(drawn(fn.group_norm(1, 8)), WIDE, over_groups(1)),
    "group norm of each channel": LayerRow(drawn(fn.group_norm(4, 4)), IMAGES[..., 0], over_groups(4)),
    "group norm between": LayerRow(network(fn.group_norm(2, 8, eps=0.1)), X, between(over_groups(2))),
    "batch norm": LayerRow(drawn(fn.batch_norm(4)), X, over_batch, mixes=True),
    "batch norm on images": LayerRow(drawn(fn.batch_norm(4)), IMAGES, over_batch, mixes=True),
    "batch norm between": LayerRow(network(fn.batch_norm(8, eps=0.1)), X, between(over_batch), mixes=True),
    "batch norm, calibrated": LayerRow(calibrated(4, IMAGES), IMAGES, by_statistics_of(IMAGES)),
}
