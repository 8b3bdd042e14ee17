"""Computation graphs: values on the nodes, local derivatives on the edges, gradients as products along the paths."""

from dataclasses import dataclass
from typing import Any, Literal

import torch

import funcnn as fn
from experiments.computation_graph import by_hand
from experiments.computation_graph.drawing import draw, in_short
from experiments.computation_graph.graph import Graph, ancestors, factors, gradient, paths
from experiments.computation_graph.tracing import trace_gradient
from experiments.core.options import Options
from experiments.core.result import Result, Table

LOSSES = {"half_squared_error": fn.half_squared_error, "binary_cross_entropy": fn.binary_cross_entropy}
CAPTIONS = (
    "Inputs (blue) and what is computed of them (black), with their values; the local derivatives on the edges.",
    "A perceptron's loss with its local derivatives, from left to right, and from right to left (orange) what "
    "torch.func.grad adds to it; dotted, the values that the way back needs again.",
)


@dataclass(frozen=True, kw_only=True)
class ComputationGraph(Options):
    """Draws the graph of |4 - (x w + b)|, and the one that torch.func.grad makes of a perceptron's loss."""

    loss: Literal["half_squared_error", "binary_cross_entropy"] = "half_squared_error"
    """What the perceptron is to minimise."""


def run(options: ComputationGraph) -> Result:
    """Both graphs, and their gradients along the paths beside those of every provider."""
    one = torch.ones((), **options.tensors)
    x, point = 2 * one, {"w": 2 * one, "b": one}
    simple = by_hand.graph(x, **point)
    perceptron = fn.supervised(fn.perceptron(2), LOSSES[options.loss]())
    start, batch = {"w": one.new_tensor([[1], [-0.5]]), "b": one[None] / 2}, (one.new_tensor([[1, 2]]), one[None, None])
    traced, (loss, *_) = trace_gradient(perceptron, (start, ()), batch, ["b", "w", "x", "y"])
    along = {name: gradient(simple, name, "loss") for name in point}, {name: gradient(traced, name, loss) for name in start}
    found = {
        "$|4 - (x w + b)|$": compare(by_hand.objective(), point, x[None], along[0]),
        f"perceptron, {options.loss}": compare(perceptron, (start, ()), batch, (along[1], ())),
    }
    told = [product(simple, name, "loss") for name in point], [product(traced, name, loss) for name in start]
    of_loss = ancestors(traced, loss) | {loss}
    by_rules = draw(simple, "loss", ["x", *point], by_hand.edge, told[0])
    drawn = by_rules, draw(traced, loss, start, lambda *edge: edge[-1], told[1])
    rows = [[name, *(_cell(found[objective][name]) for objective in found)] for name in fn.PROVIDERS]
    return Result(
        "Computation graphs: the chain rule, drawn",
        "A node is a value, an edge a local derivative; a gradient is the sum, over the paths, of the products along them. "
        "First by hand for $|4 - (x w + b)|$, then as torch.func.grad, traced, computes it for a perceptron and one sample.",
        numbers={
            "values": {name: node.value.item() for name, node in simple.items()},
            "factors": {
                name: [[f.item() for f in factors(simple, p)] for p in paths(simple, name, "loss")] for name in point
            },
            "nodes": {"of the loss": len(of_loss), "of its gradient": len(traced) - len(of_loss)},
            "largest difference": found,
        },
        observations=[
            f"At x = 2, w = 2, b = 1 the loss is {simple['loss'].value:g}; {' and '.join(told[0])}.",
            *(_agreement(objective, each) for objective, each in found.items()),
            f"To the {len(of_loss)} nodes of the perceptron's loss torch.func.grad adds {len(traced) - len(of_loss)}, not "
            "counting what only moves entries.",
        ],
        figures={"by_hand": (drawn[0], CAPTIONS[0]), "traced": (drawn[1], CAPTIONS[1])},
        tables=[Table("Largest difference from the products along the paths", ["provider", *found], rows)],
    )


def compare(objective: fn.Objective, params: Any, batch: Any, grads: Any) -> dict[str, float | str]:
    """How far every provider's gradient is from these, or what a provider refuses."""
    found: dict[str, float | str] = {}
    for name, provider in fn.PROVIDERS.items():
        try:
            found[name] = fn.tree.max_difference(provider(objective)(params, batch)[1], grads).item()
        except fn.InputError as error:
            found[name] = f"refuses {error.got}"
    return found


def product(graph: Graph, name: str, loss: str) -> str:
    """dloss/dname in words: the products along the paths, the sum of them, and what it comes to."""
    terms = [" * ".join(map(in_short, factors(graph, path))) for path in paths(graph, name, loss)]
    return f"dloss/d{name} = {' + '.join(terms)} = {in_short(gradient(graph, name, loss))}"


def _cell(found: float | str) -> str:
    return found if isinstance(found, str) else f"{found:.1g}"


def _agreement(objective: str, found: dict[str, float | str]) -> str:
    errors = {name: error for name, error in found.items() if not isinstance(error, str)}
    worst = max(errors, key=lambda name: errors[name])
    refused = "".join(f"; {name} {reason}" for name, reason in found.items() if isinstance(reason, str))
    return f"{objective}: the products are the gradients of {', '.join(errors)}, to {errors[worst]:.1g} ({worst}){refused}."
