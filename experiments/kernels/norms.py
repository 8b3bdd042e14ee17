"""Normalisations.

With xh = (x - <x>) r, r = (<(x - <x>)^2> + eps)^-1/2 and g = u w, all means over the normalised axes,

dx = r (g - <g> - xh <g xh>)      dw = sum u xh      db = sum u
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from experiments.kernels.kernel import Bug, Kernel, changed, draws, rounded

EPS = 1e-5


def norm(x: Tensor, w: Tensor, b: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Returns xh w + b, the statistics over the axes."""
    centered = x - x.mean(axes, keepdim=True)
    return centered * (centered.square().mean(axes, keepdim=True) + EPS).rsqrt() * w + b


def norm_rule(
    x: Tensor,
    w: Tensor,
    b: Tensor,
    u: Tensor,
    axes: Any,
    mean: float = 1,
    project: float = 1,
    power: int = 1,
    eps: float = EPS,
) -> tuple[Tensor, Tensor, Tensor]:
    """The rule above; mean, project and power are 1 in it."""
    centered = x - x.mean(axes, keepdim=True)
    r = (centered.square().mean(axes, keepdim=True) + eps).rsqrt()
    xh, g = centered * r, u * w**power
    dx = r * (g - mean * g.mean(axes, keepdim=True) - project * xh * (g * xh).mean(axes, keepdim=True))
    return dx, (u * xh).sum_to_size(w.shape), u.sum_to_size(b.shape)


def rms(x: Tensor, w: Tensor) -> Tensor:
    """Returns x w (<x^2> + eps)^-1/2."""
    return x * (x.square().mean(-1, keepdim=True) + EPS).rsqrt() * w


def rms_rule(x: Tensor, w: Tensor, u: Tensor, count: int = 7, alias: bool = False) -> tuple[Tensor, Tensor]:
    """Returns dx = r (g - xh <g xh>) with xh = x r, r = (<x^2> + eps)^-1/2."""
    r = (x.square().mean(-1, keepdim=True) + EPS).rsqrt()
    xh, g = x * r, (x if alias else u) * w
    return r * (g - xh * (g * xh).sum(-1, keepdim=True) / count), (u * xh).sum((0, 1))


def groups(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """Group norm of (N, 6, T) in 2 groups of 3 channels: the norm over (3, T) of (N, 2, 3, T)."""
    return norm(x.unflatten(1, (2, 3)), w.view(2, 3, 1), b.view(2, 3, 1), (2, 3)).flatten(1, 2)


def groups_rule(x: Tensor, w: Tensor, b: Tensor, u: Tensor, split: tuple[int, int] = (2, 3), **options: Any) -> Any:
    """The rule of the norm over (3, T)."""
    grouped, w2, b2 = x.unflatten(1, split), w.view(*split, 1), b.view(*split, 1)
    dx, dw, db = norm_rule(grouped, w2, b2, u.unflatten(1, split), (2, 3), **options)
    return dx.flatten(1, 2), dw.flatten(), db.flatten()


def unit(x: Tensor) -> Tensor:
    """Returns x / |x| along the middle axis."""
    return x / x.norm(dim=1, keepdim=True)


def unit_rule(x: Tensor, u: Tensor, project: float = 1, power: int = 1, axis: int = 1) -> Tensor:
    """Returns dx = (u - y <y, u>) / |x|."""
    size = x.norm(dim=1, keepdim=True)
    y = x / size
    return (u - project * y * (y * u).sum(axis, keepdim=True)) / size**power


layer_rule = partial(norm_rule, axes=(-1,))
batch_rule = partial(norm_rule, axes=(0, 2))

KERNELS = [
    Kernel(
        "layer_norm",
        partial(norm, axes=(-1,)),
        layer_rule,
        draws((3, 5, 7), (7,), (7,)),
        [
            Bug("mean and variance held constant", "term mean projection", partial(layer_rule, mean=0, project=0)),
            Bug("the mean of g is not subtracted", "term mean", partial(layer_rule, mean=0)),
            Bug("the projection onto xh is missing", "term projection", partial(layer_rule, project=0)),
            Bug("w twice in dx", "twice factor", partial(layer_rule, power=2)),
            Bug("dx without w", "once factor", partial(layer_rule, power=0)),
            Bug("dw from x, not from xh", "replaced", changed(layer_rule, 1, lambda g, x, w, b, u: (u * x).sum((0, 1)))),
        ],
    ),
    Kernel(
        "rms_norm",
        rms,
        rms_rule,
        draws((3, 5, 7), (7,)),
        [
            Bug("r held constant", "term projection", changed(rms_rule, 0, lambda g, x, w, u: u * w * rms(x, w) / (x * w))),
            Bug("n - 1 in the mean", "count factor", partial(rms_rule, count=6)),
            Bug("the mean over n forgotten in the projection", "count factor projection", partial(rms_rule, count=1)),
            Bug("u overwritten by x before it is read", "overwritten replaced upstream", partial(rms_rule, alias=True)),
            Bug(
                "dw of the first rows only",
                "row border axis",
                changed(rms_rule, 1, lambda g, x, w, u: rms_rule(x[:1], w, u[:1])[1]),
            ),
            Bug("in bfloat16", "precision", rounded(rms_rule, torch.bfloat16)),
        ],
    ),
    Kernel(
        "group_norm",
        groups,
        groups_rule,
        draws((3, 6, 5), (6,), (6,)),
        [
            Bug("the groups are (3, 2), not (2, 3)", "order axis part", partial(groups_rule, split=(3, 2))),
            Bug("the mean is held constant", "term mean", partial(groups_rule, mean=0)),
            Bug("the projection is added", "sign projection", partial(groups_rule, project=-1)),
            Bug("n - 1 of n in the projection", "count factor projection", partial(groups_rule, project=15 / 14)),
            Bug("dw averaged over the samples", "count factor", changed(groups_rule, 1, lambda g, *_: g / 3)),
        ],
    ),
    Kernel(
        "batch_norm",
        lambda x, w, b: norm(x, w[:, None], b[:, None], (0, 2)),
        lambda x, w, b, u: tuple(
            g.view(s.shape) for g, s in zip(batch_rule(x, w[:, None], b[:, None], u), (x, w, b), strict=True)
        ),
        draws((4, 3, 5), (3,), (3,)),
        [
            Bug(
                what,
                causes,
                lambda x, w, b, u, f=options: tuple(
                    g.view(s.shape) for g, s in zip(norm_rule(x, w[:, None], b[:, None], u, **f), (x, w, b), strict=True)
                ),
            )
            for what, causes, options in (
                ("running statistics: as in evaluation", "term mean projection", {"axes": (0, 2), "mean": 0, "project": 0}),
                ("means over the batch only", "axis mean count", {"axes": (0,)}),
                ("eps 1e-3 for 1e-5", "constant factor elsewhere", {"axes": (0, 2), "eps": 1e-3}),
                ("the variance is held constant", "term projection", {"axes": (0, 2), "project": 0}),
            )
        ],
    ),
    Kernel(
        "l2_normalize",
        unit,
        unit_rule,
        draws((3, 5, 4)),
        [
            Bug("|x| held constant", "term projection", partial(unit_rule, project=0)),
            Bug("not divided by |x|", "factor once", partial(unit_rule, power=0)),
            Bug("divided by |x| twice", "factor twice", partial(unit_rule, power=2)),
            Bug("<y, u> along the last axis", "axis projection", partial(unit_rule, axis=2)),
            Bug(
                "projected onto x, not y",
                "replaced projection",
                lambda x, u: (u - x * (x * u).sum(1, keepdim=True)) / x.norm(dim=1, keepdim=True),
            ),
        ],
    ),
]
