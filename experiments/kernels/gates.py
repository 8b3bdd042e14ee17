"""Activations and gates, s the logistic function, Phi and phi the normal distribution and its density.

gelu     x Phi(x):  Phi + x phi           softplus   log(1 + e^x), x itself above 20:  s(x), and 1 above 20
silu     x s(x):    s (1 + x (1 - s))     dropout    x m / (1 - p):  u m / (1 - p)
SwiGLU   silu(a) b, GeGLU gelu(a) b:  da = u b silu'(a),  db = u silu(a)
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.kernels.kernel import Bug, Inputs, Kernel, changed, draws, exchanged, followed, rounded

KEPT = torch.tensor([[1, 0, 1, 1, 0], [0, 1, 1, 0, 1], [1, 1, 0, 1, 1]]).bool()
RATE = 0.3


def gelu_slope(x: Tensor, density: float = 1) -> Tensor:
    """Phi + x phi; density weighs the second term."""
    return torch.special.ndtr(x) + density * x * (-x * x / 2).exp() / (2 * torch.pi) ** 0.5


def tanh_slope(x: Tensor) -> Tensor:
    """The derivative of the approximation by tanh."""
    c = (2 / torch.pi) ** 0.5
    t = (c * (x + 0.044715 * x**3)).tanh()
    return (1 + t) / 2 + x / 2 * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x)


def silu_slope(x: Tensor, curve: float = 1) -> Tensor:
    """Returns s (1 + x (1 - s)); curve weighs x (1 - s)."""
    s = x.sigmoid()
    return s * (1 + curve * x * (1 - s))


def gate_rule(a: Tensor, b: Tensor, u: Tensor, value: Any, slope: Any) -> tuple[Tensor, Tensor]:
    """Of value(a) b."""
    return u * b * slope(a), u * value(a)


def halves_rule(x: Tensor, u: Tensor, swapped: bool = False, value: Any = F.gelu, slope: Any = gelu_slope) -> Tensor:
    """Both halves of x, the gated one first."""
    a, b = x.chunk(2, -1)
    grads = gate_rule(a, b, u, value, slope)
    return torch.cat(grads[::-1] if swapped else grads, -1)


def softplus_rule(x: Tensor, u: Tensor) -> Tensor:
    """Above 20 torch's softplus is x."""
    return u * torch.where(x > 20, 1.0, x.sigmoid())


def wide(seed: int) -> Inputs:
    """Numbers that reach beyond 20."""
    x = draws((3, 5), scale=8.0)(seed)[0]
    return (torch.cat([x, torch.tensor([[22.0, -22, 25, 0.5, 1]], dtype=x.dtype)]),)


swiglu_rule = partial(gate_rule, value=F.silu, slope=silu_slope)

KERNELS = [
    Kernel(
        "gelu",
        F.gelu,
        lambda x, u: u * gelu_slope(x),
        draws((3, 5, 4)),
        [
            Bug("x phi forgotten", "term", lambda x, u: u * gelu_slope(x, 0)),
            Bug(
                "the slope of the tanh approximation",
                "constant replaced elsewhere precision",
                lambda x, u: u * tanh_slope(x),
            ),
            Bug("u ignored", "upstream", lambda x, u: gelu_slope(x)),
            Bug("the slope at y", "elsewhere", lambda x, u: u * gelu_slope(F.gelu(x))),
            Bug("1 for x > 1", "branch", lambda x, u: u * torch.where(x > 1, 1.0, gelu_slope(x))),
            Bug("in bfloat16", "precision", rounded(lambda x, u: u * gelu_slope(x), torch.bfloat16)),
        ],
    ),
    Kernel(
        "silu",
        F.silu,
        lambda x, u: u * silu_slope(x),
        draws((4, 3, 5)),
        [
            Bug("s held constant", "term", lambda x, u: u * silu_slope(x, 0)),
            Bug("the slope of s", "replaced elsewhere", lambda x, u: u * x.sigmoid() * (1 - x.sigmoid())),
            Bug("s (1 + x s)", "sign term", lambda x, u: u * x.sigmoid() * (1 + x * x.sigmoid())),
            Bug("the slope at u x", "elsewhere upstream", lambda x, u: u * silu_slope(x * u)),
            Bug(
                "the tail of each row is not written",
                "border",
                changed(lambda x, u: u * silu_slope(x), 0, lambda g, x, u: g * (torch.arange(5) < 4)),
            ),
        ],
    ),
    Kernel(
        "softplus",
        F.softplus,
        softplus_rule,
        wide,
        [
            Bug(
                "u for 1 - s",
                "elsewhere exchanged slope replaced",
                lambda x, u: u * torch.where(x > 20, 1.0, (-x).sigmoid()),
            ),
            Bug("above 20 u is lost", "branch upstream mask", lambda x, u: torch.where(x > 20, 1.0, u * x.sigmoid())),
            Bug("0 above 20", "branch mask zero", lambda x, u: u * torch.where(x > 20, 0.0, x.sigmoid())),
            Bug("linear from 0 on", "branch", lambda x, u: u * torch.where(x > 0, 1.0, x.sigmoid())),
            Bug("s of y", "elsewhere", lambda x, u: u * F.softplus(x).sigmoid()),
        ],
    ),
    Kernel(
        "swiglu",
        lambda a, b: F.silu(a) * b,
        swiglu_rule,
        draws((3, 5, 4), (3, 5, 4)),
        [
            Bug("da without b", "once factor", changed(swiglu_rule, 0, lambda g, a, b, u: u * silu_slope(a))),
            Bug(
                "db with s(a) for silu(a)",
                "once factor replaced",
                changed(swiglu_rule, 1, lambda g, a, b, u: u * a.sigmoid()),
            ),
            Bug("da and db exchanged", "exchanged", exchanged(swiglu_rule, 0, 1)),
            Bug("the slope at b", "elsewhere replaced", changed(swiglu_rule, 0, lambda g, a, b, u: u * b * silu_slope(b))),
            Bug("silu's own slope: s held constant", "term", partial(swiglu_rule, slope=lambda a: silu_slope(a, 0))),
            Bug(
                "u overwritten by da before db",
                "overwritten replaced upstream",
                changed(swiglu_rule, 1, lambda g, a, b, u: u * b * silu_slope(a) * F.silu(a)),
            ),
        ],
    ),
    Kernel(
        "geglu",
        lambda x: F.gelu(x.chunk(2, -1)[0]) * x.chunk(2, -1)[1],
        halves_rule,
        draws((4, 3, 10)),
        [
            Bug("the halves exchanged", "exchanged order part", partial(halves_rule, swapped=True)),
            Bug(
                "the second half is not written", "part border zero", lambda x, u: halves_rule(x, u) * (torch.arange(10) < 5)
            ),
            Bug(
                "the gate is the second half",
                "exchanged replaced order",
                lambda x, u: halves_rule(x.roll(5, -1), u).roll(5, -1),
            ),
            Bug("x phi forgotten", "term part", partial(halves_rule, slope=lambda a: gelu_slope(a, 0))),
            Bug(
                "halves read as interleaved",
                "order part",
                lambda x, u: halves_rule(x, u).view(4, 3, 2, 5).mT.reshape(4, 3, 10),
            ),
        ],
    ),
    Kernel(
        "dropout",
        lambda x, m: x * m / (1 - RATE),
        lambda x, m, u: (u * m / (1 - RATE), None),
        followed(draws((3, 5)), KEPT),
        [
            Bug("mask forgotten in backward", "mask", lambda x, m, u: u / (1 - RATE)),
            Bug("1 / (1 - p) forgotten", "factor", lambda x, m, u: u * m),
            Bug("1 / p for 1 / (1 - p)", "factor", lambda x, m, u: u * m / RATE),
            Bug("another mask in backward", "mask order", lambda x, m, u: u * m.flip(0) / (1 - RATE)),
            Bug("1 / (1 - p) twice", "factor twice", lambda x, m, u: u * m / (1 - RATE) ** 2),
            Bug("the mask is that of x > 0", "mask branch", lambda x, m, u: u * (x > 0) / (1 - RATE)),
        ],
    ),
]
