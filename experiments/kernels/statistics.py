"""Statistics of an input, of its weights, of its neighbours.

instance norm    xh = (x - <x>) / s over T, y = w xh + b; with g = u w:  dx = (g - <g> - xh <g xh>) / s
standardised     y = x v^T, v the rows of w brought to mean 0 and deviation 1:  dw as above, of dv = u^T x
local response   y = x d^-b, d = k + a sum of x^2 over a channel and its neighbours:
                 dx_i = u_i d_i^-b - 2 a b x_i sum_j u_j x_j d_j^(-b-1), j a neighbour of i or i
"""

from functools import partial

import torch
from torch import Tensor

from experiments.kernels.kernel import Bug, Kernel, changed, cut, draws

EPS = 1e-5
K, A, B = 1.0, 0.5, 0.75


def standard(x: Tensor, axis: int = -1) -> tuple[Tensor, Tensor]:
    """Mean 0 and deviation 1 along an axis, and the deviation."""
    centered = x - x.mean(axis, keepdim=True)
    s = (centered.square().mean(axis, keepdim=True) + EPS).sqrt()
    return centered / s, s


def standard_rule(x: Tensor, g: Tensor, mean: float = 1, project: float = 1, axis: int = -1, count: int = 0) -> Tensor:
    """Mean and project are 1 in the right rule, and the variance is divided by T - count with count 0."""
    xh, s = standard(x, axis)
    t = x.shape[axis]
    xh, s = xh * ((t - count) / t) ** 0.5, s * (t / (t - count)) ** 0.5
    return (g - mean * g.mean(axis, keepdim=True) - project * xh * (g * xh).mean(axis, keepdim=True)) / s


def instance(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """Of (N, C, T), a weight and a bias for each channel."""
    return standard(x)[0] * w[:, None] + b[:, None]


def instance_rule(
    x: Tensor, w: Tensor, b: Tensor, u: Tensor, mean: float = 1, project: float = 1, count: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """The options as in `standard_rule`."""
    dx = standard_rule(x, u * w[:, None], mean, project, count=count)
    return dx, (u * standard(x)[0]).sum((0, 2)), u.sum((0, 2))


def standardized(x: Tensor, w: Tensor) -> Tensor:
    """A dense layer of standardised weights (H, D)."""
    return x @ standard(w)[0].T


def standardized_rule(
    x: Tensor, w: Tensor, u: Tensor, mean: float = 1, project: float = 1, axis: int = -1
) -> tuple[Tensor, Tensor]:
    """The options as in `standard_rule`."""
    return u @ standard(w)[0], standard_rule(w, u.T @ x, mean, project, axis)


def near(x: Tensor) -> Tensor:
    """The sum over each channel and its two neighbours."""
    return x + torch.nn.functional.pad(x[:, :-1], (1, 0)) + torch.nn.functional.pad(x[:, 1:], (0, 1))


def response(x: Tensor) -> Tensor:
    """Local response normalisation of (N, C)."""
    return x * (K + A * near(x**2)) ** -B


def response_rule(x: Tensor, u: Tensor, share: float = 2 * A * B, power: float = 1, around: bool = True) -> Tensor:
    """The share and the power of d in the second term, and the sum over neighbours, stand as in the right rule."""
    d = K + A * near(x**2)
    passed = u * x * d ** (-B - power)
    return u * d**-B - share * x * (near(passed) if around else passed)


KERNELS = [
    Kernel(
        "instance_norm",
        instance,
        instance_rule,
        draws((3, 4, 6), (4,), (4,)),
        [
            Bug("the mean of g left out", "term mean projection", partial(instance_rule, mean=0)),
            Bug("the projection left out", "term projection", partial(instance_rule, project=0)),
            Bug("the statistics held constant", "term mean projection", partial(instance_rule, mean=0, project=0)),
            Bug("the variance divided by T - 1 in the rule alone", "count factor", partial(instance_rule, count=1)),
            Bug("dw averaged over the samples", "count factor", changed(instance_rule, 1, lambda g, *_: g / 3)),
            Bug("dx without w", "factor once", changed(instance_rule, 0, lambda g, x, w, b, u: standard_rule(x, u))),
        ],
    ),
    Kernel(
        "standardized_linear",
        standardized,
        standardized_rule,
        draws((5, 4), (3, 4)),
        [
            Bug("the mean left out", "term mean projection", partial(standardized_rule, mean=0)),
            Bug("the projection left out", "term projection", partial(standardized_rule, project=0)),
            Bug("statistics of the columns", "axis transposed", partial(standardized_rule, axis=0)),
            Bug("dw that of v", "term factor slope", changed(standardized_rule, 1, lambda g, x, w, u: u.T @ x)),
            Bug("dx by w, not by v", "replaced elsewhere", changed(standardized_rule, 0, lambda g, x, w, u: u @ w)),
            Bug("dw averaged over the samples", "count factor", changed(standardized_rule, 1, lambda g, *_: g / 5)),
        ],
    ),
    Kernel(
        "local_response_norm",
        response,
        response_rule,
        draws((4, 6)),
        [
            Bug("the normaliser held constant", "term projection", partial(response_rule, share=0)),
            Bug("the factor 2 of the second term forgotten", "factor term", partial(response_rule, share=A * B)),
            Bug("d^-b in the second term", "factor once elsewhere", partial(response_rule, power=0)),
            Bug("the second term without neighbours", "term border shift", partial(response_rule, around=False)),
            Bug("the last channel is not written", "border zero", lambda x, u: cut(response_rule(x, u), ..., -1)),
        ],
    ),
]
