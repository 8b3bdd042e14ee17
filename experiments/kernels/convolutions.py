"""Convolutions and pooling, tap by tap. With stride s, dilation d and the padded input p, tap k sees p[d k], p[d k + s], ...

y = sum_k w_k p[d k :: s] + b      dp[d k :: s] += w_k^T u      dw_k = <u, p[d k :: s]>      db = sum u

Average pooling has w_k = 1 / count. Maximum pooling sends u to the first of the largest of its window, and adds up.
"""

from functools import partial
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.kernels.kernel import Bug, Kernel, changed, cut, draws


def taps(size: tuple[int, ...], out: tuple[int, ...], stride: int, dilation: int, off: int = 0) -> Any:
    """The taps, each with what it sees of the padded input."""
    for tap in product(*map(range, size)):
        yield (
            tap,
            (
                ...,
                *(slice(dilation * t + off, dilation * t + off + stride * n, stride) for t, n in zip(tap, out, strict=True)),
            ),
        )


def conv_rule(
    x: Tensor, w: Tensor, b: Tensor, u: Tensor, stride: int, padding: int, dilation: int,
    flipped: bool = False, add: bool = True, turned: bool = False, tail: int = 0, off: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The rule above; the options in the last line are mistakes."""
    n = w.ndim - 2
    p = F.pad(x, [padding] * (2 * n))
    dp, dw = torch.zeros_like(F.pad(p, [0, off] * n)), torch.zeros_like(w)
    used = w.flip(tuple(range(2, 2 + n))) if flipped else w
    letters = "xyz"[:n]
    for tap, seen in taps(w.shape[2:], u.shape[2:], stride, dilation, off):
        here = torch.einsum(f"oi,bo{letters}->bi{letters}", used[(slice(None), slice(None), *tap)], u)
        dp[seen] = dp[seen] + here if add else here
    for tap, seen in taps(w.shape[2:], u.shape[2:], stride, dilation):
        dw[(slice(None), slice(None), *tap)] = torch.einsum(f"bo{letters},bi{letters}->oi", u, p[seen])
    if turned:
        dw = dw.flip(tuple(range(2, 2 + n)))
    inside = tuple(slice(padding, padding + size) for size in x.shape[2:])
    dx = dp[(..., *inside)].clone()
    if tail:
        dx[..., -tail:] = 0
    return dx, dw, u.transpose(0, 1).flatten(1).sum(1)


def convolution(name: str, options: dict[str, int], shapes: list[tuple[int, ...]], bugs: Any) -> Kernel:
    """A convolution with bugs of the rule's options, and others, (what, causes, rule of the right rule)."""
    n = len(shapes[0]) - 2
    rule = partial(conv_rule, **options)
    planted = [Bug(what, causes, partial(rule, **do) if isinstance(do, dict) else do(rule)) for what, causes, do in bugs]
    return Kernel(name, partial((F.conv1d, F.conv2d)[n - 1], **options), rule, draws(*shapes), planted)


def max_rule(
    x: Tensor, u: Tensor, size: int, stride: int, padding: int = 0, add: bool = True, assumed: int = 0, every: bool = False
) -> Tensor:
    """Over the last one or two axes; add, assumed (a stride) and every (position of the window) are mistakes."""
    n = u.ndim - 2
    p = F.pad(x, [padding] * (2 * n), value=-torch.inf)
    places = torch.arange(p[0, 0].numel()).view(p.shape[2:])
    seen = [index for _, index in taps((size,) * n, u.shape[2:], stride, 1)]
    source = [index for _, index in taps((size,) * n, u.shape[2:], assumed or stride, 1)]
    first = torch.stack([p[index] for index in seen]).argmax(0)
    to = torch.stack([places[index].expand_as(u) for index in source]).gather(0, first[None])[0].flatten(2)
    flat = torch.zeros_like(p).flatten(2)
    if every:
        for index in seen:
            p_zero = flat.view(p.shape)
            p_zero[index] += u
    elif add:
        flat.scatter_add_(2, to, u.flatten(2))
    else:
        for j in range(to.shape[2]):
            flat.scatter_(2, to[..., j : j + 1], u.flatten(2)[..., j : j + 1])
    inside = tuple(slice(padding, padding + m) for m in x.shape[2:])
    return flat.view(p.shape)[(..., *inside)].contiguous()


def average_rule(x: Tensor, u: Tensor, counted: str = "seen", add: bool = True, tail: int = 0) -> Tensor:
    """3 x 3 with stride 2 and padding 1, divided by the number of entries that are seen; the options are mistakes."""
    p, ones = F.pad(x, [1] * 4), F.pad(torch.ones_like(x), [1] * 4)
    seen = [index for _, index in taps((3, 3), u.shape[2:], 2, 1)]
    counts = {"seen": sum(ones[index] for index in seen), "padded": 9.0, "none": 1.0}[counted]
    dp = torch.zeros_like(p)
    for index in seen:
        dp[index] = dp[index] + u / counts if add else u / counts
    dx = dp[..., 1:-1, 1:-1].clone()
    if tail:
        dx[..., -tail:, :] = 0
    return dx


def of(position: int, change: Any) -> Any:
    """A mistake in one gradient of the right rule."""
    return lambda rule: changed(rule, position, change)


KERNELS = [
    convolution(
        "conv1d",
        {"stride": 1, "padding": 1, "dilation": 1},
        [(2, 3, 9), (4, 3, 3), (4,)],
        [
            ("w flipped in dx", "direction order", {"flipped": True}),
            ("dw flipped", "direction order", {"turned": True}),
            ("overwritten where taps overlap", "overwritten repeats term", {"add": False}),
            ("the tail of dx is not written", "border", {"tail": 2}),
            ("db averaged over the positions", "count factor", of(2, lambda g, *_: g / 9)),
        ],
    ),
    convolution(
        "conv2d_strided",
        {"stride": 2, "padding": 1, "dilation": 1},
        [(2, 3, 7, 5), (4, 3, 3, 3), (4,)],
        [
            ("one off along both axes", "shift", {"off": 1}),
            ("w flipped in dx", "direction order", {"flipped": True}),
            ("overwritten where taps overlap", "overwritten repeats term", {"add": False}),
            ("dw averaged over the batch", "count factor", of(1, lambda g, *_: g / 2)),
            ("db of the first sample", "row border term", of(2, lambda g, x, w, b, u: u[0].sum((1, 2)))),
        ],
    ),
    convolution(
        "conv2d_dilated",
        {"stride": 1, "padding": 0, "dilation": 2},
        [(2, 2, 8, 7), (3, 2, 3, 2), (3,)],
        [
            (
                "dx as without dilation",
                "shift order",
                of(0, lambda g, x, w, b, u: F.pad(conv_rule(x[..., :6, :6], w, b, u, 1, 0, 1)[0], (0, 1, 0, 2))),
            ),
            (
                "dw as without dilation",
                "shift order",
                of(1, lambda g, x, w, b, u: conv_rule(x[..., :6, :6], w, b, u, 1, 0, 1)[1]),
            ),
            ("the last column of dx is not written", "border", {"tail": 1}),
            ("dw flipped", "direction order", {"turned": True}),
            ("db taken to have u of ones", "upstream", of(2, lambda g, x, w, b, u: torch.ones_like(u).sum((0, 2, 3)))),
        ],
    ),
    Kernel(
        "max_pool1d",
        partial(F.max_pool1d, kernel_size=3, stride=2),
        partial(max_rule, size=3, stride=2),
        draws((2, 3, 11)),
        [
            Bug("the last of two windows wins", "repeats overwritten term", partial(max_rule, size=3, stride=2, add=False)),
            Bug("places as if the stride were 1", "shift order", partial(max_rule, size=3, stride=2, assumed=1)),
            Bug("u to the whole window", "axis term mask", partial(max_rule, size=3, stride=2, every=True)),
            Bug("u averaged over the window", "count factor mask", lambda x, u: max_rule(x, u, 3, 2, every=True) / 3),
            Bug("the last window is left out", "border", lambda x, u: max_rule(x, cut(u, ..., -1), 3, 2)),
        ],
    ),
    Kernel(
        "max_pool2d",
        partial(F.max_pool2d, kernel_size=3, stride=2, padding=1),
        partial(max_rule, size=3, stride=2, padding=1),
        draws((2, 2, 7, 5)),
        [
            Bug(
                "the last of the windows wins",
                "repeats overwritten term",
                partial(max_rule, size=3, stride=2, padding=1, add=False),
            ),
            Bug("places as if the stride were 1", "shift order", partial(max_rule, size=3, stride=2, padding=1, assumed=1)),
            Bug(
                "the padding forgotten in the places",
                "shift mask",
                lambda x, u: max_rule(x, u, 3, 2, 1).roll((1, 1), (2, 3)),
            ),
            Bug("the minimum of the window", "sign replaced", lambda x, u: max_rule(-x, u, 3, 2, 1)),
            Bug("the sign of x", "sign factor", lambda x, u: max_rule(x, u, 3, 2, 1) * x.sign()),
        ],
    ),
    Kernel(
        "avg_pool2d",
        partial(F.avg_pool2d, kernel_size=3, stride=2, padding=1, count_include_pad=False),
        average_rule,
        draws((2, 3, 7, 6)),
        [
            Bug("not divided by the count", "count factor", partial(average_rule, counted="none")),
            Bug("the padding is counted", "count border mask factor", partial(average_rule, counted="padded")),
            Bug("overwritten where windows overlap", "overwritten repeats term", partial(average_rule, add=False)),
            Bug("the last row is not written", "border", partial(average_rule, tail=1)),
            Bug("u read in columns", "transposed axis order", lambda x, u: average_rule(x, u.mT.reshape(u.shape))),
        ],
    ),
]
