"""Handwritten digits as they look, to be drawn: `fn.data.digits` standardises each pixel, which suits no eye."""

import torch

import funcnn as fn


def digit_pixels(
    *, generator: torch.Generator, dtype: torch.dtype, device: str, test_fraction: float = 0.2
) -> fn.data.Dataset:
    """The same digits with pixels from 0 (white) to 1 (black): inputs (N, 64), targets the labels (N,)."""
    pictures, labels = fn.data.digit_images()
    inputs, targets = (pictures.flatten(1) / 16).to(dtype=dtype, device=device), labels.to(device)
    order = torch.randperm(len(labels), generator=generator).to(device)
    test, train = order.tensor_split([round(test_fraction * len(labels))])
    return fn.data.Dataset((inputs[train], targets[train]), (inputs[test], targets[test]))
