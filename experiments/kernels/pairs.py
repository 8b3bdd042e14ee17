"""Pairs of rules; and gradients that are not meant to be the derivative."""

from typing import Any

import torch
from torch import Tensor

from experiments.kernels.operands import Case, Mistake, made, normal, saving


def straight_through(mistake: str = "") -> Any:
    """Rounds, and lets u pass between -2 and 2."""

    def backward(x: Tensor, u: Tensor) -> Tensor:
        return u.clone() if mistake == "everywhere" else u * (x.abs() < 2)

    return saving(torch.round, backward)


def reversal(mistake: str = "") -> Any:
    """Gradient reversal: y = x, dx = -u / 2."""
    return made(lambda ctx, x: x.view_as(x), lambda ctx, u: (1 if mistake == "sign" else -1) * u / 2)


def pair(mistake: str = "") -> Any:
    """The forward rule of a pair, (y, residuals); its backward stands in the options."""
    return lambda x, index: (x[index], (x, index))


def pair_of_sums(mistake: str = "") -> Any:
    """The forward rule of x + b, whose residuals say what is wrong with its backward."""
    how = torch.tensor(["", "rows", "dtype"].index(mistake))
    return lambda x, b: (x + b, (how,))


def pair_of_sums_backward(residuals: Any, u: Tensor) -> Any:
    """Sums over the rows for b, or not; in float64, or in float32."""
    how = int(residuals[0])
    db = u if how == 1 else u.sum(0)
    return u.clone(), db.float() if how == 2 else db


X = normal(4, 3)
CASES = [
    Case(
        "straight_through",
        straight_through,
        lambda: (2 * X,),
        lambda x: x.clamp(-2, 2),
        (Mistake("u passes everywhere", "branch mask", "everywhere"),),
        {"reference": lambda x: x.clamp(-2, 2)},
    ),
    Case(
        "gradient_reversal",
        reversal,
        lambda: (X.clone(),),
        lambda x: -x / 2,
        (Mistake("not reversed", "sign", "sign"),),
        {"reference": lambda x: -x / 2},
    ),
    Case(
        "pair_with_integers",
        pair,
        lambda: (X.clone(), torch.tensor([1, 1, 3])),
        lambda x, index: x[index],
        (),
        {"backward": lambda residuals, u: (torch.zeros_like(residuals[0]).index_add(0, residuals[1], u), None)},
    ),
    Case(
        "pair",
        pair_of_sums,
        lambda: (X.clone(), normal(3)),
        torch.add,
        (
            Mistake("db is not summed over the rows", "shape axis", "rows"),
            Mistake("db in float32", "dtype", "dtype"),
        ),
        {"backward": pair_of_sums_backward},
    ),
]
