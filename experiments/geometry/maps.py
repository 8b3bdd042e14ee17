"""Affine maps of the plane as operations on the tensor of a shape's corners, shape (K, 2), a corner in each row.

With rows in place of columns y = A x + t reads Y = X A^T + t, and t is broadcast over the rows: a dense layer with
w = A^T and b = t.
"""

from collections.abc import Callable
from math import cos, radians, sin
from typing import Any, NamedTuple

import torch
from torch import Tensor

import funcnn as fn
from funcnn.plots import COLORS, figure

SHAPE = [[0, 0], [0.4, 0], [0.4, 0.8], [1, 0.8], [1, 1.2], [0.4, 1.2], [0.4, 1.6], [1.2, 1.6], [1.2, 2], [0, 2]]
ORDER = ("skew", "scaling", "rotation", "translation")  # what the affine map does, one after the other
HEADS = ("from a dense layer", "area after / before", "from $|det A|$", "largest change of a distance")


class Map(NamedTuple):
    """An operation on rows of points, as it is written and as it is done, with the A and the t that it comes to."""

    operation: str
    apply: Callable[[Tensor], Tensor]
    matrix: Tensor
    shift: Tensor


def maps(angle: float, like: Tensor) -> dict[str, Map]:
    """Translation, scaling, rotation by an angle in degrees, skew, and the affine map made of them all."""
    s, t, k = like.new_tensor([1.5, 0.75]), like.new_tensor([1.0, 0.5]), like.new_tensor([[1.0, 0.6], [0.0, 1.0]])
    c, d = cos(radians(angle)), sin(radians(angle))
    r, one, zero = like.new_tensor([[c, -d], [d, c]]), torch.eye(2).to(like), like.new_zeros(2)
    return {
        "translation": Map("X + t", lambda x: x + t, one, t),
        "scaling": Map("X * s", lambda x: x * s, s.diag(), zero),
        "rotation": Map("X R^T", lambda x: x @ r.T, r, zero),
        "skew": Map("X K^T", lambda x: x @ k.T, k, zero),
        "affine": Map("X A^T + t", lambda x: x @ (r @ s.diag() @ k).T + t, r @ s.diag() @ k, t),
    }


def in_turn(chosen: dict[str, Map], shape: Tensor) -> list[Tensor]:
    """The shape after each of the maps that make up the affine one."""
    stages = [shape]
    for name in ORDER:
        stages.append(chosen[name].apply(stages[-1]))
    return stages


def facts(map: Map, shape: Tensor) -> dict[str, float]:
    """How far the map is from a dense layer, what it does to the area, and to the distances between corners."""
    moved, dense = map.apply(shape), fn.dense(2, 2)
    by_layer = fn.apply(dense, {"w": map.matrix.T, "b": map.shift}, shape)
    area = (_area(moved) / _area(shape)).item()
    return {
        "dense": (moved - by_layer).abs().max().item(),
        "area": area,
        "area against |det A|": abs(area - torch.det(map.matrix).abs().item()),
        "distances": (_distances(moved) - _distances(shape)).abs().max().item(),
    }


def _distances(corners: Tensor) -> Tensor:
    return (corners[:, None] - corners[None]).norm(dim=2)


def _area(corners: Tensor) -> Tensor:
    """The shoelace formula, 1/2 |sum_k (x_k y_{k+1} - x_{k+1} y_k)|."""
    following = corners.roll(-1, 0)
    return (corners[:, 0] * following[:, 1] - following[:, 0] * corners[:, 1]).sum().abs() / 2


def draw(chosen: dict[str, Map], shape: Tensor) -> tuple[Any, str]:
    """The shape before and after each map, and the affine one step by step."""
    drawing, axes = figure(6, rows=2, width=9, height=5.6)
    for axis, (name, map) in zip(axes, chosen.items(), strict=False):
        axis.fill(*shape.cpu().T, color="#cccccc", label="before")
        axis.fill(*map.apply(shape).cpu().T, color=COLORS[0], alpha=0.75, label="after")
        axis.set_title(f"{name}: {map.operation.replace('^T', '$^T$')}", fontsize="medium")
    axes[5].fill(*shape.cpu().T, color="#cccccc", label="before")
    for name, stage, color in zip(ORDER, in_turn(chosen, shape)[1:], (2, 4, 3, 0), strict=True):
        axes[5].fill(*stage.cpu().T, facecolor="none", edgecolor=COLORS[color], linewidth=2, label=name)
    axes[5].set_title("one after the other", fontsize="medium")
    for axis in axes:
        axis.set(xlabel="$x_1$", ylabel="$x_2$", xlim=(-1.3, 3.8), ylim=(-0.3, 4), aspect="equal")
    for axis in (axes[0], axes[5]):
        axis.legend(frameon=False, fontsize="small", loc="upper left", handlelength=1.2, borderpad=0)
    return drawing, "An F before and after each map, and the affine map as skew, scaling, rotation and translation in turn."
