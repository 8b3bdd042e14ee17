"""Choices: u goes where the value came from, and where several are equal by a convention, which is torch's here.

where      da = u [c],  db = u [not c]                     clamp      u [low <= x <= high]
amax       shared equally by all that are largest          minimum    da = u [a < b], half of u to each of two equals
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from experiments.kernels.kernel import Bug, Inputs, Kernel, changed, draws, exchanged

CHOICE = torch.tensor([[1, 0, 1, 1], [0, 0, 1, 0], [1, 1, 0, 0]]).bool()


def tied(*shapes: tuple[int, ...]) -> Any:
    """Small integers, many of them equal."""

    def inputs(seed: int) -> Inputs:
        return tuple(x.round() for x in draws(*shapes)(seed))

    return inputs


def amax_rule(x: Tensor, u: Tensor, shared: bool = True) -> Tensor:
    """Over the middle axis."""
    largest = (x == x.amax(1, keepdim=True)).to(x.dtype)
    return u[:, None] * (largest / largest.sum(1, keepdim=True) if shared else largest)


def rowwise_max(x: Tensor, u: Tensor) -> Tensor:
    """The places of the maxima of the middle axis, taken for places along the last."""
    return torch.zeros_like(x).scatter(2, x.argmax(2, keepdim=True), u.mean(1)[:, None, None].expand(-1, x.shape[1], 1))


def minimum_rule(a: Tensor, b: Tensor, u: Tensor, equal: float = 0.5) -> tuple[Tensor, Tensor]:
    """Each of two equals gets the share `equal`."""
    shared = equal * (a == b) * u
    return u * (a < b) + shared, u * (b < a) + shared


def where_rule(c: Tensor, a: Tensor, b: Tensor, u: Tensor) -> tuple[None, Tensor, Tensor]:
    """B is broadcast over the rows."""
    return None, u * c, (u * ~c).sum(0)


def clamp_rule(x: Tensor, u: Tensor, low: float = -1, high: float = 1) -> Tensor:
    """Between the bounds."""
    return u * ((x >= low) & (x <= high))


def chosen(seed: int) -> Inputs:
    """The condition, a for every entry, b for every column."""
    return CHOICE.clone(), *draws((3, 4), (4,))(seed)


KERNELS = [
    Kernel(
        "where",
        torch.where,
        where_rule,
        chosen,
        [
            Bug("the condition is forgotten", "mask branch", lambda c, a, b, u: (None, u.clone(), u.sum(0))),
            Bug("a and b exchanged", "exchanged mask branch", lambda c, a, b, u: (None, u * ~c, (u * c).sum(0))),
            Bug("db averaged over the rows", "count factor", changed(where_rule, 2, lambda g, *_: g / 3)),
            Bug("db of the first row", "row border", changed(where_rule, 2, lambda g, c, a, b, u: (u * ~c)[0])),
            Bug("db is not given", "zero", changed(where_rule, 2, lambda g, *_: 0 * g)),
        ],
    ),
    Kernel(
        "clamp",
        partial(torch.clamp, min=-1, max=1),
        clamp_rule,
        draws((4, 6), scale=1.5),
        [
            Bug("passed straight through", "slope branch mask", lambda x, u: u.clone()),
            Bug("the lower bound forgotten", "branch", partial(clamp_rule, low=-9)),
            Bug("u clamped, not masked", "upstream mask branch", lambda x, u: u.clamp(-1, 1)),
            Bug("the complement", "mask branch", lambda x, u: u - clamp_rule(x, u)),
            Bug("the bound 0.5 for 1", "branch constant", partial(clamp_rule, high=0.5)),
        ],
    ),
    Kernel(
        "amax",
        partial(torch.amax, dim=1),
        amax_rule,
        tied((3, 6, 4)),
        [
            Bug("all of u to each of the largest", "repeats factor count mask", partial(amax_rule, shared=False)),
            Bug("to every entry", "mask axis", lambda x, u: u[:, None].expand_as(x).clone()),
            Bug("to the smallest", "sign replaced", lambda x, u: amax_rule(-x, u)),
            Bug("along the last axis", "axis", rowwise_max),
            Bug("u ignored", "upstream", lambda x, u: amax_rule(x, torch.ones_like(u))),
        ],
    ),
    Kernel(
        "minimum",
        torch.minimum,
        minimum_rule,
        tied((3, 5), (3, 5)),
        [
            Bug("the two exchanged: of the maximum", "exchanged sign branch", exchanged(minimum_rule, 0, 1)),
            Bug("all of u to each of two equals", "factor twice mask repeats", partial(minimum_rule, equal=1.0)),
            Bug("db with a sign", "sign", changed(minimum_rule, 1, lambda g, *_: -g)),
            Bug("nothing to equals", "zero mask branch", partial(minimum_rule, equal=0.0)),
            Bug("db is not given", "zero", changed(minimum_rule, 1, lambda g, *_: 0 * g)),
        ],
    ),
]
