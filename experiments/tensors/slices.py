"""Slices and batches: parts of a tensor that copy nothing, drawn on handwritten digits."""

from typing import Any

import torch
from torch import Tensor

import funcnn as fn
from funcnn.plots import figure, images

SLICES = {
    "[10:100]": (slice(10, 100),),
    "[10:100, 14:, 14:]": (slice(10, 100), slice(14, None), slice(14, None)),
    "[10:100, 7:-7, 7:-7]": (slice(10, 100), slice(7, -7), slice(7, -7)),
}


def digits() -> Tensor:
    """The 1797 digits as images of 28 x 28, of 0 (white) to 1 (black): each of 8 x 8 pixels is 3 x 3 here, in a margin of 2.

    The enlargement is a broadcast: two axes of length 1 are expanded to 3, and a reshape makes rows and columns of them.
    """
    small, _ = fn.data.digit_images()
    large = small[:, :, None, :, None].expand(-1, -1, 3, -1, 3).reshape(-1, 24, 24)
    return torch.nn.functional.pad(large, (2, 2, 2, 2)) / 16


def facts(x: Tensor) -> dict[str, dict[str, Any]]:
    """What each slice is: its shape, and whether it looks at the memory of x itself."""
    return {
        name: {
            "shape": tuple(x[chosen].shape),
            "copies": x[chosen].untyped_storage().data_ptr() != x.untyped_storage().data_ptr(),
        }
        for name, chosen in SLICES.items()
    }


def batches(x: Tensor, size: int) -> list[Tensor]:
    """The n-th is x[n B:(n + 1) B]; the last one is short unless B divides the number of samples."""
    return [x[n * size : (n + 1) * size] for n in range(-(-len(x) // size))]


def draw(x: Tensor, shown: int = 8) -> tuple[Any, str]:
    """What each slice keeps of the first samples; the rest is shaded."""
    drawing, (axis,) = figure(1, width=8, height=2.9)
    pictures = []
    for chosen in SLICES.values():
        kept = 0.35 + 0.25 * x
        kept[chosen] = x[chosen]
        pictures.append(kept[10 : 10 + shown])
    images(axis, torch.stack(pictures), rows=list(SLICES), columns=[f"x[{10 + index}]" for index in range(shown)])
    return drawing, "Some samples, their corner and their centre; what a slice leaves out is shaded."
