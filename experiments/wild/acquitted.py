"""What was reported as a mistake and is none: rules that look wrong, and that no check may complain about."""

import torch
from torch import Tensor

from experiments.bugs.mistakes import Rule, normal
from experiments.wild.case import Case, Point
from experiments.wild.elementwise import silu_slope

DIAGONAL, X = normal(4, 2).exp() + 2, normal(6, 3)


def inverse(s: Tensor) -> Tensor:
    """Of symmetric matrices [[s0, s1], [s1, s2]], one in a row, stored and returned as three numbers."""
    determinant = s[:, 0] * s[:, 2] - s[:, 1] ** 2
    return torch.stack([s[:, 2], -s[:, 1], s[:, 0]], dim=1) / determinant[:, None]


def inverse_pullback(s: Tensor, dy: Tensor) -> Tensor:
    """-S^-1 dY S^-1 has half of the off-diagonal entry's gradient in each of its two places; here they come together."""
    y, d = (m[:, [0, 1, 1, 2]].reshape(-1, 2, 2) for m in (inverse(s), dy * torch.tensor([1, 0.5, 1]).to(dy)))
    halved = -y @ d @ y
    return torch.stack([halved[:, 0, 0], 2 * halved[:, 0, 1], halved[:, 1, 1]], dim=1)


def gated_pullback(x: Tensor, a: Tensor, b: Tensor, w: Tensor, dy: Tensor) -> tuple[Tensor, ...]:
    """Of (silu(x a) * x b) w. The buffers are of this rule's own making, and used again."""
    first, second, third = dy @ w.T, x @ a, x @ b
    recycle(first, second, third)
    product, db, da = first, second, third
    return da @ a.T + db @ b.T, x.T @ da, x.T @ db, product.T @ dy


def recycle(dz: Tensor, e: Tensor, g: Tensor) -> None:
    """With z = silu(e) g: z, dg and de take the places of dz, e and g."""
    s = e.sigmoid()
    z, dg, de = e * s * g, dz * e * s, dz * g * silu_slope(e, s)
    for buffer, result in ((dz, z), (e, dg), (g, de)):
        buffer.copy_(result)


def normalised(x: Tensor) -> Tensor:
    """(x - mean) / sqrt(variance + epsilon), column by column."""
    return (x - x.mean(0)) * (x.var(0, correction=0) + 1e-5).rsqrt()


def batch_norm_pullback(with_zero: bool) -> Rule:
    """By way of the mean and the variance. That the mean moves the variance adds a term with sum(x - mean), which is 0."""

    def pullback(x: Tensor, dy: Tensor) -> Tensor:
        centred, r = x - x.mean(0), (x.var(0, correction=0) + 1e-5).rsqrt()
        dvariance = -(dy * centred).sum(0) * r**3 / 2
        dmean = -(dy * r).sum(0) - with_zero * dvariance * 2 * centred.mean(0)
        return dy * r + dvariance * 2 * centred / len(x) + dmean / len(x)

    return pullback


CASES = [
    Case(
        "graphdeco-inria/gaussian-splatting#551",
        "inverses of symmetric matrices",
        "the gradient of the entry off the diagonal is halved, and doubled by the caller",
        "",
        "",
        inverse,
        inverse_pullback,
        None,
        Point((torch.stack([DIAGONAL[:, 0], normal(4, seed=1) / 2, DIAGONAL[:, 1]], dim=1),)),
    ),
    Case(
        "unslothai/unsloth#3314",
        "(silu(x a) * x b) w",
        "results are written over arguments, and the caller knows where",
        "",
        "",
        lambda x, a, b, w: (torch.nn.functional.silu(x @ a) * (x @ b)) @ w,
        gated_pullback,
        None,
        Point((normal(4, 3), normal(3, 2, seed=1), normal(3, 2, seed=2), normal(2, 3, seed=3))),
    ),
    *(
        Case(
            "apache/mxnet#1053",
            f"batch norm, {words} the term",
            f"a rule {words} the term in sum(x - mean), which is 0",
            "",
            "",
            normalised,
            batch_norm_pullback(with_zero),
            None,
            Point((X,)),
        )
        for words, with_zero in (("with", True), ("without", False))
    ),
]
