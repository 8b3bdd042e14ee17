"""Computation graphs as data: nodes with values, local derivatives on the edges, gradients as products along paths.

The chain rule on a graph: the derivative of `end` with respect to `start` is the sum, over all paths from one to the
other, of the product of the local derivatives along the path. Nodes hold tensors, so a local derivative is a Jacobian of
shape (entries of the child, entries of the parent), and the product is that of matrices.
"""

from collections.abc import Callable, Iterator
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor


class Node(NamedTuple):
    """A tensor of the graph, and the function of its parents that made it; None for an input."""

    label: str
    value: Tensor
    parents: tuple[str, ...] = ()
    function: Callable[..., Tensor] | None = None


Graph = dict[str, Node]  # in topological order


def build(inputs: dict[str, Tensor], operations: dict[str, tuple[str, Callable[..., Tensor], tuple[str, ...]]]) -> Graph:
    """The graph of some operations (label, function, parents), evaluated one after the other."""
    graph = {name: Node(name, value) for name, value in inputs.items()}
    for name, (label, function, parents) in operations.items():
        graph[name] = Node(label, function(*(graph[parent].value for parent in parents)), parents, function)
    return graph


def local_derivative(graph: Graph, parent: str, child: str) -> Tensor:
    """The Jacobian of a child by one parent, the others held fixed: (entries of the child, entries of the parent)."""
    node = graph[child]
    assert node.function is not None
    inputs = [graph[name].value for name in node.parents]
    jacobian = torch.func.jacrev(node.function, argnums=node.parents.index(parent))(*inputs)
    return jacobian.reshape(node.value.numel(), graph[parent].value.numel())


def paths(graph: Graph, start: str, end: str) -> Iterator[tuple[str, ...]]:
    """Every path along the edges from one node to another."""
    if start == end:
        yield (end,)
    for parent in graph[end].parents:
        for path in paths(graph, start, parent):
            yield (*path, end)


def factors(graph: Graph, path: tuple[str, ...]) -> list[Tensor]:
    """The local derivatives along a path, from its end back to its start."""
    return [local_derivative(graph, parent, child) for parent, child in zip(path, path[1:], strict=False)][::-1]


def gradient(graph: Graph, start: str, end: str) -> Tensor:
    """The gradient of a scalar end, in the shape of start: the sum over the paths of the product of their factors."""
    zero = graph[start].value.new_zeros(1, graph[start].value.numel())
    products = (reduce(torch.matmul, factors(graph, path)) for path in paths(graph, start, end))
    return sum(products, zero).reshape(graph[start].value.shape)


def ancestors(graph: Graph, name: str) -> set[str]:
    """The nodes from which a path leads to this one."""
    return set(graph[name].parents).union(*(ancestors(graph, parent) for parent in graph[name].parents))
