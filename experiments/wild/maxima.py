"""Mistakes in where the gradient of a maximum belongs: the right numbers in wrong places, or one where several meet."""

import torch
from torch import Tensor

from experiments.bugs.mistakes import normal
from experiments.wild.case import Case, Point


def scattered(x: Tensor, dy: Tensor, dim: int, along: int) -> Tensor:
    """Takes dy to the places of the maxima over dim; right if these are counted along the same axis."""
    return torch.zeros_like(x).scatter_add(along, x.argmax(dim, keepdim=True), dy)


def pooled(x: Tensor, stride: int) -> Tensor:
    """The maxima of windows of three."""
    return x.unfold(1, 3, stride).max(2).values


def pooling_pullback(x: Tensor, dy: Tensor, stride: int, adds: bool = True) -> Tensor:
    """Window by window; one entry may be the maximum of several."""
    dx, rows, places = torch.zeros_like(x), torch.arange(len(x)), x.unfold(1, 3, stride).argmax(2)
    for window in range(dy.shape[1]):
        place = rows, places[:, window] + window * stride
        dx[place] = adds * dx[place] + dy[:, window]
    return dx


def to_every_row(x: Tensor, dy: Tensor) -> Tensor:
    """The row indices of the maxima are taken for columns, and each column filled."""
    dx = torch.zeros_like(x)
    for j, column in enumerate(x.argmax(0).tolist()):
        dx[:, column] = dy[j]
    return dx


CASES = [
    Case(
        "tracel-ai/burn#3555",
        "maxima over an axis",
        "indices along that axis are used along the last",
        "tests took the last axis",
        r"permut|\baxis|\baxes|\bdim\b|dimension|scatter|(wrong|other) (place|position|entr)",
        lambda x, dim: x.amax(dim, keepdim=True),
        lambda x, dy, dim: scattered(x, dy, dim, dim),
        lambda x, dy, dim: scattered(x, dy, dim, -1),
        Point((normal(3, 4),), {"dim": 0}),
        Point((normal(3, 4),), {"dim": -1}),
    ),
    Case(
        "FluxML/NNlib.jl#205",
        "max pooling",
        "where windows share their maximum, the last one's gradient replaces the others'",
        "tests had windows side by side",
        r"overlap|window|add(ed|s|ing)? up|not added|accumul|overwr|last (one )?wins|shared|duplicate|collid",
        pooled,
        pooling_pullback,
        lambda x, dy, stride: pooling_pullback(x, dy, stride, adds=False),
        Point((normal(2, 9),), {"stride": 1}),
        Point((normal(2, 9),), {"stride": 3}),
    ),
    Case(
        "explosion/thinc#601",
        "maxima of the columns",
        "row indices are used for columns, and every row of them filled",
        "tests looked at shapes",
        r"(every|each|all) rows?|whole column|scatter|broadcast|argmax|(wrong|other) (place|position|axis)|spread",
        lambda x: x.amax(0),
        lambda x, dy: torch.zeros_like(x).scatter(0, x.argmax(0, keepdim=True), dy[None]),
        to_every_row,
        Point((normal(3, 4),)),
    ),
]
