"""The loss |4 - (x w + b)| by hand: as a graph of three operations, and as an objective with its gradient."""

from operator import add, mul
from typing import Any

from torch import Tensor

import funcnn as fn
from experiments.computation_graph.graph import Graph, build


def graph(x: Tensor, w: Tensor, b: Tensor) -> Graph:
    """x1 = x w, x2 = x1 + b, loss = |4 - x2|."""
    return build(
        {"x": x, "w": w, "b": b},
        {
            "x1": ("$x_1 = x\\,w$", mul, ("x", "w")),
            "x2": ("$x_2 = x_1 + b$", add, ("x1", "b")),
            "loss": ("$loss = |4 - x_2|$", lambda x2: (4 - x2).abs(), ("x2",)),
        },
    )


def objective() -> fn.Objective:
    """The mean of |4 - (x w + b)| over a batch of x, and its gradient: that of |u| is the sign of u."""

    def value(params: Any, x: Tensor) -> Tensor:
        return (4 - (x * params["w"] + params["b"])).abs().mean()

    def value_and_grad(params: Any, x: Tensor) -> tuple[Tensor, Any]:
        sign = (x * params["w"] + params["b"] - 4).sign()
        return value(params, x), {"w": (sign * x).mean(), "b": sign.mean()}

    return fn.Objective(value, value_and_grad)


def edge(parent: str, child: str, derivative: str) -> str:
    """A local derivative as a formula."""
    child, parent = (name.replace("x", "x_") if name != "x" else name for name in (child, parent))
    return f"$\\partial {child}/\\partial {parent} = {derivative}$"
