"""Training in bfloat16 and float16 beside torch's: both are judged by the same path in float64.

Neither side is right there, so neither can be asked for the other's bits. What can be asked is that ours strays no farther
from the path in float64, of the same start and data, than torch's own module and optimizer do.
"""

from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from helpers import labels, normal, seeded
from torch import nn

import funcnn as fn

LOW = [torch.bfloat16, torch.float16]
STEPS, COUNT = 50, 16
INPUTS = normal(STEPS, COUNT, 20, seed=5)
BATCHES = INPUTS, (INPUTS @ normal(20, 5, seed=6)).argmax(-1)

# name: (ours, the same in torch.optim); in float16 an eps of 1e-8 is 0, and so are many squares: torch's adam ends in NaN
OPTIMIZERS = {
    "sgd": (fn.sgd(0.1), lambda w: torch.optim.SGD(w, 0.1)),
    "momentum": (fn.momentum(0.05), lambda w: torch.optim.SGD(w, 0.05, momentum=0.9)),
    "adam": (fn.adam(0.01), lambda w: torch.optim.Adam(w, 0.01)),
    "adam of a large eps": (fn.adam(0.01, eps=1e-1), lambda w: torch.optim.Adam(w, 0.01, eps=1e-1)),
}


def ours():
    return fn.serial(fn.dense(20, 32), fn.layer_norm(32), fn.tanh(), fn.dense(32, 5))


def theirs(params, dtype):
    """The same network of torch's, with these parameters."""
    network = nn.Sequential(nn.Linear(20, 32), nn.LayerNorm(32), nn.Tanh(), nn.Linear(32, 5)).to(dtype)
    own = [leaf for layer in params if layer for leaf in (layer["w"], layer["b"])]
    with torch.no_grad():
        for leaf, value in zip(network.parameters(), own, strict=True):
            leaf.copy_(turned(value))
    return network


def turned(leaf):
    return leaf.mT if leaf.ndim == 2 else leaf


def flat(leaves):
    """In one vector, the weights of both sides alike."""
    return torch.cat([leaf.detach().double().flatten() for leaf in leaves])


def of_ours(params):
    return flat(leaf for layer in params if layer for leaf in (turned(layer["w"]), layer["b"]))


def of_module(params):
    return flat(params[place][name] for place in ("0", "1", "3") for name in ("weight", "bias"))


def trained(step_fn, optimizer, params, dtype):
    inputs, targets = BATCHES
    *_, last = fn.train(step_fn, optimizer, params, zip(inputs.to(dtype), targets, strict=True))
    return last.params


def trained_by_torch(network, optimizer, dtype):
    for inputs, targets in zip(BATCHES[0].to(dtype), BATCHES[1], strict=True):
        optimizer.zero_grad()
        F.cross_entropy(network(inputs), targets).backward()
        optimizer.step()
    return flat(network.parameters())


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(("name", "dtype"), [pair for pair in product(OPTIMIZERS, LOW) if pair != ("adam", torch.float16)])
def test_training_strays_from_the_path_in_float64_no_farther_than_torchs(name, dtype):
    optimizer, make = OPTIMIZERS[name]
    start = ours().init(seeded(), dtype=dtype)
    exact = fn.tree.map(torch.Tensor.double, start)
    origin, entropy = of_ours(start), fn.softmax_cross_entropy()
    truth = of_ours(trained(fn.explicit(fn.supervised(ours(), entropy)), optimizer, exact, torch.float64)) - origin
    network = theirs(start, dtype)
    module, params = fn.module(network), fn.module(network).init(seeded())
    paths = {
        "explicit": of_ours(trained(fn.explicit(fn.supervised(ours(), entropy)), optimizer, start, dtype)),
        "module": of_module(trained(fn.explicit(fn.supervised(module, entropy)), optimizer, params, dtype)),
    }
    errors = {way: ((path - origin - truth).norm() / truth.norm()).item() for way, path in paths.items()}
    torchs = trained_by_torch(network, make(network.parameters()), dtype) - origin
    limit = 1.25 * ((torchs - truth).norm() / truth.norm()).item()
    assert limit < 0.2
    assert all(error <= limit for error in errors.values()), (errors, limit)


class Rule(NamedTuple):
    """A layer whose rule adds up many numbers, its inputs, and the same in torch."""

    layer: fn.Layer
    x: torch.Tensor
    function: Callable[..., Any]


def attention(p, x):
    q, k, v = (x @ p["qkv"]["w"] + p["qkv"]["b"]).unflatten(-1, (6, -1)).transpose(1, 2).chunk(3, 1)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2) @ p["out"]["w"] + p["out"]["b"]


FAR = 300 * normal(8, 2000)  # their squares are beyond the range of float16
IMAGES = normal(8, 16, 12, 12, seed=1)
RULES = {
    "dense": Rule(fn.dense(2000, 8), normal(8, 2000), lambda p, x: x @ p["w"] + p["b"]),
    "dense on tokens": Rule(fn.dense(16, 8), normal(8, 300, 16), lambda p, x: x @ p["w"] + p["b"]),
    "softmax": Rule(fn.softmax(), 3 * normal(8, 2000), lambda p, x: x.softmax(-1)),
    "layer norm": Rule(fn.layer_norm(2000), FAR, lambda p, x: F.layer_norm(x, (2000,), p["w"], p["b"])),
    "rms norm": Rule(fn.rms_norm(2000), FAR, lambda p, x: F.rms_norm(x, (2000,), p["w"], 1e-6)),
    "group norm": Rule(fn.group_norm(2, 16), 300 * IMAGES, lambda p, x: F.group_norm(x, 2, p["w"], p["b"])),
    "batch norm": Rule(fn.batch_norm(16), 300 * IMAGES, lambda p, x: F.batch_norm(x, None, None, p["w"], p["b"], True)),
    "convolution": Rule(fn.conv2d(16, 8, 3), IMAGES, lambda p, x: F.conv2d(x, p["w"], p["b"])),
    "average pool": Rule(fn.avg_pool2d(12), 1e4 + IMAGES, lambda p, x: F.avg_pool2d(x, 12)),
    "attention": Rule(fn.attention(32, 2), normal(8, 60, 32), attention),
    "embedding": Rule(fn.embedding(3, 8), labels(2000, 3).reshape(8, 250), lambda p, x: F.embedding(x, p["w"])),
    "positions": Rule(fn.positions(2, 8), normal(2000, 2, 8), lambda p, x: x + p["w"]),
    "gru": Rule(
        fn.gru(8, 8),
        normal(8, 30, 8),
        lambda p, x: torch.gru(
            x,
            x.new_zeros(1, 8, 8),
            (p["wx"].mT, p["wh"].mT, p["b"], torch.cat([0 * p["b"][8:], p["bn"]])),
            True,
            1,
            0.0,
            False,
            False,
            True,
        )[0],
    ),
}


def cast(tree, dtype):
    return fn.tree.map(lambda leaf: leaf.to(dtype) if leaf.is_floating_point() else leaf, tree)


def by_torch(function, params, x, dy):
    """[y, gradients] by torch alone."""
    leaves, unflatten = fn.tree.flatten((params, x))
    own = [leaf.clone().requires_grad_(leaf.is_floating_point()) for leaf in leaves]
    y = function(*unflatten(own))
    return [y.detach(), *torch.autograd.grad(y, [leaf for leaf in own if leaf.requires_grad], dy)]


@pytest.mark.parametrize("dtype", LOW, ids=str)
@pytest.mark.parametrize("name", RULES)
def test_rules_that_add_up_many_numbers_round_no_worse_than_torchs(name, dtype):
    layer, x, function = RULES[name]
    params, x = cast((layer.init(seeded()), x), dtype)
    y, residuals = layer.forward(params, x)
    dy = normal(*y.shape, seed=7, dtype=dtype)
    dparams, dx = layer.backward(residuals, dy)
    exact = by_torch(function, *cast((params, x, dy), torch.float64))
    found, torchs = [y, *fn.tree.leaves((dparams, dx))], by_torch(function, params, x, dy)
    assert {leaf.dtype for leaf in found} == {dtype}
    mine, other = (rounding(leaves, exact) / torch.finfo(dtype).eps for leaves in (found, torchs))
    assert mine <= max(1.25 * other, 0.5), (mine, other)


def rounding(leaves, exact):
    """The relative error of leaves, each in the mean over its entries, and then all of them."""
    errors = [(leaf.double() - truth).norm() / truth.norm() for leaf, truth in zip(leaves, exact, strict=True)]
    return torch.stack(errors).mean()
