"""The networks that times are measured on: three sizes, on random data."""

from typing import Any

import torch

import funcnn as fn

SIZES = {"tiny": (32, 64, 32, 10), "middle": (128, 784, 128, 10), "large": (1024, 784, 512, 10)}  # N, D, H, C


def scene(size: str, generator: torch.Generator, dtype: torch.dtype, device: str) -> tuple[Any, Any, Any]:
    """The network of a size on random data: (objective, parameters, batch)."""
    samples, features, hidden, classes = SIZES[size]
    layer = fn.mlp((features, hidden, classes))
    inputs = torch.randn(samples, features, generator=generator).to(device=device, dtype=dtype)
    targets = torch.randint(classes, (samples,), generator=generator).to(device)
    params = layer.init(generator, dtype=dtype, device=device)
    return fn.supervised(layer, fn.softmax_cross_entropy()), params, (inputs, targets)
