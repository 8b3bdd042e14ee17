"""Sequences: a causal filter, a selective scan, a cell with peepholes.

causal filter    y_t = sum_k w_k x_{t-k} + b, channel by channel:  dx_s = sum_k w_k u_{s+k}
selective scan   h_t = a_t h_{t-1} + d_t x_t b_t, a_t = exp(d_t l), y_t = <c_t, h_t>; with g_t = u_t c_t + a_{t+1} g_{t+1}:
                 dx = d <g, b>   db = g d x   dc = u h   dl = sum g a d h_{t-1}   dd = x <g, b> + <g, l a h_{t-1}>
peepholes        i, f = s(. + p c), c' = f c + i g, o = s(. + p c'), y = o tanh(c'):  dc' = u o (1 - tanh^2) + do p
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.kernels.kernel import Bug, Inputs, Kernel, changed, cut, draws


def causal(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """Of (N, C, T), filters (C, K)."""
    size = w.shape[1]
    return F.conv1d(F.pad(x, (size - 1, 0)), w.flip(1)[:, None], b, groups=len(w))


def causal_rule(
    x: Tensor, w: Tensor, b: Tensor, u: Tensor, flip: bool = False, late: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Mistakes: the filter reversed, dw of an input that came `late`."""
    size, steps = w.shape[1], x.shape[2]
    dx = F.conv1d(F.pad(u, (0, size - 1)), (w.flip(1) if flip else w)[:, None], groups=len(w))
    early = F.pad(x, (size - 1 + late, 0))
    dw = [(u * early[..., size - 1 - k : size - 1 - k + steps]).sum((0, 2)) for k in range(size)]
    return dx, torch.stack(dw, 1), u.sum((0, 2))


def scan(x: Tensor, d: Tensor, rate: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Of x and d (N, T), rates (H,), b and c (N, T, H)."""
    return (c * states(x, d, rate, b)).sum(-1)


def states(x: Tensor, d: Tensor, rate: Tensor, b: Tensor) -> Tensor:
    """All h."""
    h, all_h = torch.zeros_like(b[:, 0]), []
    for t in range(x.shape[1]):
        h = (d[:, t, None] * rate).exp() * h + (d * x)[:, t, None] * b[:, t]
        all_h.append(h)
    return torch.stack(all_h, 1)


def scan_rule(
    x: Tensor, d: Tensor, rate: Tensor, b: Tensor, c: Tensor, u: Tensor, carry: float = 1, decay: float = 1, lag: int = 1
) -> tuple[Tensor, ...]:
    """The carry, the path of the decay to d, and which a carries back stand as in the right rule."""
    a, h = (d[..., None] * rate).exp(), states(x, d, rate, b)
    before = torch.cat([torch.zeros_like(h[:, :1]), h[:, :-1]], 1)
    g, steps = u[..., None] * c, x.shape[1]
    for t in reversed(range(steps - 1)):
        g = torch.cat([g[:, :t], g[:, t : t + 1] + carry * (a[:, t + lag] * g[:, t + 1])[:, None], g[:, t + 1 :]], 1)
    drive, passed = (g * b).sum(-1), g * a * before
    dd = x * drive + decay * (passed * rate).sum(-1)
    return d * drive, dd, (passed * d[..., None]).sum((0, 1)), g * (d * x)[..., None], u[..., None] * h


def slow(seed: int) -> Inputs:
    """Positive steps and decaying rates."""
    x, d, rate, b, c = draws((2, 5), (2, 5), (3,), (2, 5, 3), (2, 5, 3))(seed)
    return x, F.softplus(d), -rate.exp(), b, c


def peephole(a: Tensor, c: Tensor, p: Tensor) -> Tensor:
    """One step of a cell c (N, H), from the sums a (N, 4 H) of i, f, g, o and peepholes p (3, H) of i, f, o."""
    i, f, g, o = a.chunk(4, 1)
    new = (f + p[1] * c).sigmoid() * c + (i + p[0] * c).sigmoid() * g.tanh()
    return (o + p[2] * new).sigmoid() * new.tanh()


def peephole_rule(
    a: Tensor, c: Tensor, p: Tensor, u: Tensor, peeps: tuple[float, float] = (1, 1), old: bool = False, swap: bool = False
) -> Any:
    """Peeps are the peepholes of i and f, and of o, to the cell. Mistakes: dp of o by the old cell, i and f exchanged."""
    i, f, g, o = a.chunk(4, 1)
    i, f, g = (i + p[0] * c).sigmoid(), (f + p[1] * c).sigmoid(), g.tanh()
    new = f * c + i * g
    o = (o + p[2] * new).sigmoid()
    do = u * new.tanh() * o * (1 - o)
    dnew = u * o * (1 - new.tanh() ** 2) + peeps[1] * do * p[2]
    di, df, dg = dnew * g * i * (1 - i), dnew * c * f * (1 - f), dnew * i * (1 - g**2)
    dc = dnew * f + peeps[0] * (di * p[0] + df * p[1])
    dp = torch.stack([(di * c).sum(0), (df * c).sum(0), (do * (c if old else new)).sum(0)])
    return torch.cat([df, di, dg, do] if swap else [di, df, dg, do], 1), dc, dp


KERNELS = [
    Kernel(
        "causal_depthwise",
        causal,
        causal_rule,
        draws((2, 3, 7), (3, 3), (3,)),
        [
            Bug("the filter reversed in dx", "direction", partial(causal_rule, flip=True)),
            Bug("dw shifted by a step", "shift", partial(causal_rule, late=1)),
            Bug(
                "the last 2 steps of dx are not written",
                "border",
                changed(causal_rule, 0, lambda g, *_: cut(g, ..., slice(-2, None))),
            ),
            Bug("db averaged over N and T", "count factor", changed(causal_rule, 2, lambda g, *_: g / 14)),
            Bug("db of the first sample", "row", changed(causal_rule, 2, lambda g, x, w, b, u: u[0].sum(1))),
        ],
    ),
    Kernel(
        "selective_scan",
        scan,
        scan_rule,
        slow,
        [
            Bug("nothing is carried back", "term", partial(scan_rule, carry=0)),
            Bug("carried by a of the same step", "shift", partial(scan_rule, lag=0)),
            Bug("dd without the decay's path", "term", partial(scan_rule, decay=0)),
            Bug("db not times d", "factor once", changed(scan_rule, 3, lambda g, x, d, *_: g / d[..., None])),
            Bug(
                "the last step of dc is not written", "border", changed(scan_rule, 4, lambda g, *_: cut(g, slice(None), -1))
            ),
        ],
    ),
    Kernel(
        "peephole_lstm",
        peephole,
        peephole_rule,
        draws((4, 12), (4, 3), (3, 3)),
        [
            Bug("the output's peephole is no path to the cell", "term", partial(peephole_rule, peeps=(1, 0))),
            Bug("the peepholes of i and f are no paths to c", "term", partial(peephole_rule, peeps=(0, 1))),
            Bug("dp of the output by the old cell", "replaced", partial(peephole_rule, old=True)),
            Bug("di and df exchanged", "exchanged order", partial(peephole_rule, swap=True)),
            Bug(
                "dp of the first sample",
                "row",
                lambda a, c, p, u: (*peephole_rule(a, c, p, u)[:2], peephole_rule(a[:1], c[:1], p, u[:1])[2]),
            ),
        ],
    ),
]
