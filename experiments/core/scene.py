"""The networks that times are measured on, on random data: three sizes, one of a hundred layers, and two activations."""

from collections.abc import Callable
from typing import Any

import torch

import funcnn as fn

SIZES = {"tiny": (32, 64, 32, 10), "middle": (128, 784, 128, 10), "large": (1024, 784, 512, 10)}  # N, D, H, C
DEPTH, WIDTH = 100, 32  # of the deep network: its samples are as many as its units


def scene(size: str, generator: torch.Generator, dtype: torch.dtype, device: str) -> tuple[Any, Any, Any]:
    """The network of a size: (objective, parameters, batch)."""
    samples, features, hidden, classes = SIZES[size]
    return on_random_data(fn.mlp((features, hidden, classes)), (samples, features, classes), generator, dtype, device)


def deep(generator: torch.Generator, dtype: torch.dtype, device: str) -> tuple[Any, Any, Any]:
    """A hundred small layers, each with a tanh, where a step is nothing but its overheads."""
    layers = [layer for _ in range(DEPTH) for layer in (fn.dense(WIDTH, WIDTH), fn.tanh())]
    return on_random_data(fn.serial(*layers), (WIDTH, WIDTH, WIDTH), generator, dtype, device)


def with_second(
    activation: Callable[[], fn.Layer], generator: torch.Generator, dtype: torch.dtype, device: str
) -> tuple[Any, Any, Any]:
    """The network 64, 32, 32, 10 on 32 samples with tanh first and another activation second."""
    layer = fn.serial(fn.dense(64, 32), fn.tanh(), fn.dense(32, 32), activation(), fn.dense(32, 10))
    return on_random_data(layer, (32, 64, 10), generator, dtype, device)


def on_random_data(
    layer: fn.Layer, shape: tuple[int, int, int], generator: torch.Generator, dtype: torch.dtype, device: str
) -> tuple[Any, Any, Any]:
    """The network of a layer with softmax cross entropy, on (N, D, C) samples, features and classes."""
    samples, features, classes = shape
    inputs = torch.randn(samples, features, generator=generator).to(device=device, dtype=dtype)
    targets = torch.randint(classes, (samples,), generator=generator).to(device)
    params = layer.init(generator, dtype=dtype, device=device)
    return fn.supervised(layer, fn.softmax_cross_entropy()), params, (inputs, targets)


def products(params: Any, samples: int) -> int:
    """The floating point operations of a step's matrix products: Y, dW and, but for the first layer, dX."""
    weights = [own["w"].numel() for own in params if own]
    return 2 * samples * (3 * sum(weights) - weights[0])
