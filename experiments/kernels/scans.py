"""Scans along the middle axis, so that neither the first axis nor the last will do. rev is a cumulative sum from the end.

cumsum        dx = rev(u)
cumprod       dx = rev(u y) / x
linear scan   h_t = a_t h_{t-1} + x_t:  g_t = u_t + a_{t+1} g_{t+1},  dx = g,  da_t = g_t h_{t-1}
logcumsumexp  dx = exp(x) rev(u exp(-y))
"""

from functools import partial

import torch
from torch import Tensor

from experiments.kernels.kernel import Bug, Kernel, changed, cut, draws, exchanged, rounded, upstream


def rev(u: Tensor, axis: int = 1) -> Tensor:
    """The cumulative sum from the end."""
    return u.flip(axis).cumsum(axis).flip(axis)


def blocks(u: Tensor) -> Tensor:
    """The cumulative sum from the end of each block of 3, with no carry between the blocks."""
    return torch.cat([rev(part) for part in u.split(3, 1)], 1)


def later(x: Tensor) -> Tensor:
    """x_{t+1}, and 0 at the end."""
    return torch.cat([x[:, 1:], torch.zeros_like(x[:, :1])], 1)


def earlier(x: Tensor) -> Tensor:
    """x_{t-1}, and 0 at the start."""
    return torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)


def scan(a: Tensor, x: Tensor) -> Tensor:
    """All h_t."""
    steps = [x[:, 0]]
    for t in range(1, x.shape[1]):
        steps.append(a[:, t] * steps[-1] + x[:, t])
    return torch.stack(steps, 1)


def scan_rule(a: Tensor, x: Tensor, u: Tensor, own: bool = False) -> tuple[Tensor, Tensor]:
    """The rule above; own: with a_t in place of a_{t+1}."""
    weights = a if own else later(a)
    g, steps = torch.zeros_like(u[:, 0]), []
    for t in reversed(range(x.shape[1])):
        g = u[:, t] + weights[:, t] * g
        steps.append(g)
    g = torch.stack(steps[::-1], 1)
    return g * earlier(scan(a, x)), g


def product_rule(x: Tensor, u: Tensor) -> Tensor:
    """Of cumprod."""
    return rev(u * x.cumprod(1)) / x


def lse_rule(x: Tensor, u: Tensor) -> Tensor:
    """Of logcumsumexp."""
    return x.exp() * rev(u * (-x.logcumsumexp(1)).exp())


KERNELS = [
    Kernel(
        "cumsum",
        partial(torch.cumsum, dim=1),
        lambda x, u: rev(u),
        draws((3, 7, 4)),
        [
            Bug("from the start", "direction", lambda x, u: u.cumsum(1)),
            Bug("without its own step", "shift term", lambda x, u: rev(u) - u),
            Bug("along the last axis", "axis", lambda x, u: rev(u, 2)),
            Bug("no carry between blocks of 3", "term border part", lambda x, u: blocks(u)),
            Bug("u of the own step only", "term", lambda x, u: u.clone()),
            Bug("the sum of all steps", "term mask direction", lambda x, u: u.sum(1, keepdim=True).expand_as(u).clone()),
        ],
    ),
    Kernel(
        "cumprod",
        partial(torch.cumprod, dim=1),
        product_rule,
        draws((3, 6, 4), scale=0.5, shift=1.0),
        [
            Bug("not divided by x", "factor once", lambda x, u: rev(u * x.cumprod(1))),
            Bug("from the start", "direction", lambda x, u: (u * x.cumprod(1)).cumsum(1) / x),
            Bug("u / y for u y", "factor replaced", lambda x, u: rev(u / x.cumprod(1)) / x),
            Bug("the own step only", "term", lambda x, u: u * x.cumprod(1) / x),
            Bug("the last step is not written", "border", changed(product_rule, 0, lambda g, x, u: cut(g, slice(None), -1))),
        ],
    ),
    Kernel(
        "linear_scan",
        scan,
        scan_rule,
        draws((2, 6, 3), (2, 6, 3)),
        [
            Bug("a_t for a_{t+1}", "shift", partial(scan_rule, own=True)),
            Bug(
                "da with h_t for h_{t-1}",
                "shift replaced",
                changed(scan_rule, 0, lambda g, a, x, u: scan_rule(a, x, u)[1] * scan(a, x)),
            ),
            Bug("a left out of the recurrence", "factor once term", changed(scan_rule, 1, lambda g, a, x, u: rev(u))),
            Bug("nothing carried", "term", lambda a, x, u: (u * earlier(scan(a, x)), u.clone())),
            Bug("da and dx exchanged", "exchanged", exchanged(scan_rule, 0, 1)),
            Bug("da with x for h", "replaced", changed(scan_rule, 0, lambda g, a, x, u: scan_rule(a, x, u)[1] * earlier(x))),
        ],
    ),
    Kernel(
        "logcumsumexp",
        partial(torch.logcumsumexp, dim=1),
        lse_rule,
        draws((3, 6, 4)),
        [
            Bug("softmax over all steps", "term direction mask", lambda x, u: x.softmax(1) * rev(u)),
            Bug("y of the own step", "elsewhere shift replaced", lambda x, u: (x - x.logcumsumexp(1)).exp() * rev(u)),
            Bug("u taken to be 1", "upstream", upstream(lse_rule, torch.ones_like)),
            Bug("in float16", "precision", rounded(lse_rule, torch.float16)),
            Bug("without its own step", "shift term", lambda x, u: x.exp() * later(rev(u * (-x.logcumsumexp(1)).exp()))),
        ],
    ),
]
