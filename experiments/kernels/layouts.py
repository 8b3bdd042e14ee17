"""Layouts: the numbers are those of x in other places, so the gradient is u brought back, and added up where x was repeated.

tile             y = [x, x, x] along an axis:  the sum over the copies         dx = u.unflatten(1, (3, n)).sum(1)
repeat           y = x_0 x_0 x_0 x_1 ...:      the sum over neighbours         dx = u.unflatten(1, (n, 3)).sum(2)
pixel shuffle    (N, C r^2, H, W) to (N, C, H r, W r)          heads    (N, T, h d) to (N, h, T, d)
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.kernels.kernel import Bug, Kernel, cut, draws


def copies(u: Tensor) -> Tensor:
    """Three copies of 5 along the middle axis: (N, 3, 5, K)."""
    return u.unflatten(1, (3, 5))


def neighbours(u: Tensor) -> Tensor:
    """Five threes of neighbours along the middle axis: (N, 5, 3, K)."""
    return u.unflatten(1, (5, 3))


def unshuffle(u: Tensor, order: tuple[int, ...] = (0, 1, 3, 5, 2, 4)) -> Tensor:
    """From (N, C, H 2, W 3) back to (N, C 6, H, W), 2 and 3 in this order in the channels; right with (..., 3, 5, 2, 4)."""
    n, c, h, w = u.shape
    return u.view(n, c, h // 2, 2, w // 2, 2).permute(order).reshape(n, 4 * c, h // 2, w // 2)


def split(x: Tensor) -> Tensor:
    """2 heads of 3."""
    return x.unflatten(2, (2, 3)).transpose(1, 2).contiguous()


KERNELS = [
    Kernel(
        "tile",
        lambda x: x.repeat(1, 3, 1),
        lambda x, u: copies(u).sum(1),
        draws((2, 5, 4)),
        [
            Bug("regrouped: repeat for tile", "order", lambda x, u: neighbours(u).sum(2)),
            Bug("averaged over the copies", "count factor", lambda x, u: copies(u).mean(1)),
            Bug("the first copy only", "border term part", lambda x, u: copies(u)[:, 0].clone()),
            Bug("the last copy is left out", "border term part", lambda x, u: copies(u)[:, :-1].sum(1)),
            Bug("rows within a copy reversed", "order direction", lambda x, u: copies(u).sum(1).flip(1)),
        ],
    ),
    Kernel(
        "repeat_interleave",
        lambda x: x.repeat_interleave(3, 1),
        lambda x, u: neighbours(u).sum(2),
        draws((2, 5, 4)),
        [
            Bug("regrouped: tile for repeat", "order", lambda x, u: copies(u).sum(1)),
            Bug("averaged over the neighbours", "count factor", lambda x, u: neighbours(u).mean(2)),
            Bug("the last of the neighbours wins", "repeats overwritten term", lambda x, u: neighbours(u)[:, :, -1].clone()),
            Bug("one place off", "shift", lambda x, u: neighbours(u.roll(1, 1)).sum(2)),
            Bug("the last three is not written", "border", lambda x, u: cut(neighbours(u).sum(2), slice(None), -1)),
        ],
    ),
    Kernel(
        "pixel_shuffle",
        partial(F.pixel_shuffle, upscale_factor=2),
        lambda x, u: unshuffle(u),
        draws((2, 8, 3, 4)),
        [
            Bug(
                "rows and columns within a pixel exchanged",
                "order transposed exchanged",
                lambda x, u: unshuffle(u, (0, 1, 5, 3, 2, 4)),
            ),
            Bug("reshaped without a permutation", "order", lambda x, u: u.reshape(x.shape)),
            Bug("channels outermost", "order part", lambda x, u: unshuffle(u, (0, 3, 5, 1, 2, 4))),
            Bug("one pixel off", "shift", lambda x, u: unshuffle(u.roll(1, 3))),
            Bug(
                "the first of four pixels only",
                "mask term part",
                lambda x, u: unshuffle(u) * (torch.arange(8) % 4 == 0)[:, None, None],
            ),
        ],
    ),
    Kernel(
        "split_heads",
        split,
        lambda x, u: u.transpose(1, 2).flatten(2),
        draws((2, 5, 6)),
        [
            Bug("reshaped without the transpose", "order transposed", lambda x, u: u.reshape(x.shape)),
            Bug("3 heads of 2 for 2 of 3", "order part", lambda x, u: u.permute(0, 2, 3, 1).flatten(2)),
            Bug("heads in reverse", "order direction exchanged", lambda x, u: u.flip(1).transpose(1, 2).flatten(2)),
            Bug(
                "the second head is lost",
                "part zero border",
                lambda x, u: u.transpose(1, 2).flatten(2) * (torch.arange(6) < 3),
            ),
        ],
    ),
]
