"""Precision, and points where a formula breaks down: float32 and bfloat16 inside or outside, zeros, large numbers."""

from typing import Any

import torch
from torch import Tensor

from experiments.kernels.operands import Case, Mistake, made, normal, saving


def in_float32(mistake: str = "") -> Any:
    """The softmax in float32, whatever comes in."""

    def backward(x: Tensor, u: Tensor) -> Tensor:
        s, v = x.float().softmax(-1), u.float()
        inner = (s * v).sum(-1, keepdim=True)
        return (s * (v - (0 if mistake == "term" else inner))).to(x.dtype)

    return saving(lambda x: x.float().softmax(-1).to(x.dtype), backward)


def weighted_squares(mistake: str = "") -> Any:
    """Returns x^2 w; dw is added up in float32, or in the precision of x."""

    def backward(x: Tensor, w: Tensor, u: Tensor) -> Any:
        terms = u * x * x
        if mistake == "sum":
            total = torch.zeros_like(w)
            for row in terms:
                total = total + row
            return 2 * x * w * u, total
        return 2 * x * w * u, terms.float().sum(0).to(w.dtype)

    return saving(lambda x, w: x * x * w, backward)


def ratio(mistake: str = "") -> Any:
    """(1 - cos x) / x, which is 0 at 0 with the slope 1/2."""

    def parts(x: Tensor) -> tuple[Tensor, Tensor]:
        safe = torch.where(x == 0, 1.0, x)
        return (1 - safe.cos()) / safe, safe.sin() / safe - (1 - safe.cos()) / safe**2

    def backward(x: Tensor, u: Tensor) -> Tensor:
        slope = x.sin() / x - (1 - x.cos()) / x**2 if mistake == "nan" else torch.where(x == 0, 0.5, parts(x)[1])
        return u * slope

    return saving(lambda x: torch.where(x == 0, 0.0, parts(x)[0]), backward)


def squared_distance(mistake: str = "") -> Any:
    """|a - b|^2 row by row; a row of a equals that of b."""

    def backward(a: Tensor, b: Tensor, u: Tensor) -> Any:
        d = (a - b).norm(dim=1, keepdim=True)
        unit = (a - b) / d if mistake == "nan" else (a - b) / d.clamp(min=1e-30)
        g = 2 * u[:, None] * d * unit
        return g, -g

    return saving(lambda a, b: (a - b).square().sum(1), backward)


def large(mistake: str = "") -> Any:
    """log(1 + e^x) at x up to 1,000."""

    def backward(x: Tensor, u: Tensor) -> Tensor:
        return u * x.exp() / (1 + x.exp()) if mistake == "nan" else u * x.sigmoid()

    return saving(lambda x: x.clamp(min=0) + (-x.abs()).exp().log1p(), backward)


def mixed(mistake: str = "") -> Any:
    """The product x w in float32, of x in bfloat16 and w in float32."""

    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return x.to(w.dtype) @ w

    def backward(ctx: Any, u: Tensor) -> Any:
        x, w = ctx.saved_tensors
        return (u @ w.T).to(x.dtype), x.to(w.dtype).T @ (2 * u if mistake == "factor" else u)

    return made(forward, backward)


def zeros(mistake: str = "") -> Any:
    """Weights of 0, so that dx is 0 and has to be."""
    return saving(lambda x, w: (x * w).sum(1), lambda x, w, u: (u[:, None] * w, (u[:, None] * x).sum(0)))


def beside_equal() -> tuple[Tensor, Tensor]:
    """Rows, of which one is the same in both."""
    a, b = normal(5, 3), normal(5, 3, seed=1)
    b[2] = a[2]
    return a, b


LARGE = torch.tensor([-1000.0, -30, -1, 0.5, 3, 40, 1000], dtype=torch.float64)

CASES = [
    Case(
        "float32_inside",
        in_float32,
        lambda: (normal(4, 5, dtype=torch.float32),),
        lambda x: x.float().softmax(-1).to(x.dtype),
        (Mistake("the normaliser is held constant", "term projection", "term"),),
    ),
    Case("float32_inside_of_float64", in_float32, lambda: (normal(4, 5),), lambda x: x.float().softmax(-1).to(x.dtype)),
    Case(
        "float32",
        weighted_squares,
        lambda: (normal(64, 3, dtype=torch.float32), normal(3, dtype=torch.float32)),
        lambda x, w: x * x * w,
    ),
    Case(
        "bfloat16",
        weighted_squares,
        lambda: (normal(2048, 3, dtype=torch.bfloat16), normal(3, dtype=torch.bfloat16)),
        lambda x, w: x * x * w,
        (Mistake("rows added up in bfloat16", "precision", "sum"),),
    ),
    Case(
        "mixed_precision",
        mixed,
        lambda: (normal(4, 3, dtype=torch.bfloat16), normal(3, 5, dtype=torch.float32)),
        lambda x, w: x.to(w.dtype) @ w,
        (Mistake("a factor 2 in dw", "factor", "factor"),),
    ),
    Case(
        "at_zero",
        ratio,
        lambda: (normal(4, 3).round(),),
        lambda x: (x / 2).sin() * torch.sinc(x / 2 / torch.pi),
        (Mistake("0 / 0 at 0", "nan", "nan"),),
    ),
    Case(
        "at_equal_points",
        squared_distance,
        beside_equal,
        lambda a, b: (a - b).square().sum(1),
        (Mistake("0 / 0 at equal points", "nan", "nan"),),
    ),
    Case(
        "large_numbers",
        large,
        lambda: (LARGE.clone(),),
        torch.nn.functional.softplus,
        (Mistake("overflow", "nan", "nan"),),
    ),
    Case("zero_gradient", zeros, lambda: (normal(4, 3), torch.zeros(3, dtype=torch.float64)), lambda x, w: (x * w).sum(1)),
]
