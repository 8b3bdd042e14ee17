"""The computation graph of torch.func.grad: make_fx records the operations that torch runs, and here they become nodes."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.func import functionalize
from torch.fx import Node as Operation
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.node import map_arg

import funcnn as fn
from experiments.computation_graph.graph import Graph, Node, ancestors

# Operations that move entries and change none: the picture is clearer without them.
LAYOUT = {"view", "reshape", "expand", "squeeze", "unsqueeze", "t", "transpose", "permute", "clone", "alias", "detach"}


def trace_gradient(objective: fn.Objective, params: Any, batch: Any, names: list[str]) -> tuple[Graph, list[str]]:
    """The graph of func_grad on an objective, and which of its nodes are the value and the leaves of the gradient.

    `names` are those of the leaves of (params, batch), which are its inputs.
    """
    leaves, unflatten = fn.tree.flatten((params, batch))

    def function(*tensors: Tensor) -> list[Tensor]:
        value, grads = fn.func_grad(objective)(*unflatten(list(tensors)))
        return [value, *fn.tree.leaves(grads)]

    sources = names[: len(fn.tree.leaves(params))]
    graph, (value, *grads) = trace(function, dict(zip(names, leaves, strict=True)), sources)
    told = {value: "loss"} | {grad: f"dloss/d{name}" for name, grad in zip(names, grads, strict=False)}
    graph |= {name: graph[name]._replace(label=f"{meaning}: {graph[name].label}") for name, meaning in told.items()}
    return graph, [value, *grads]


def trace(function: Callable[..., list[Tensor]], inputs: dict[str, Tensor], sources: list[str]) -> tuple[Graph, list[str]]:
    """The graph of what torch does when the function is called, and the names of the nodes that it returns.

    What only moves entries, does not depend on the sources, or gives no floating tensor has no node: it is done inside
    what uses it.
    """
    traced = make_fx(functionalize(function))(*inputs.values())
    *operations, output = traced.graph.nodes
    roots = {operation: _root(operation) for operation in output.args[0]}
    place = dict(zip(operations, inputs, strict=False))  # operation: the name of its node, for those that have one
    graph = {name: Node(name, value) for name, value in inputs.items()}
    moving = set(sources)
    for operation in operations[len(inputs) :]:
        parents, compute = _bind(operation, dict(place))
        value = compute(*(graph[name].value for name in parents))
        shown = moving & set(parents) and isinstance(value, Tensor) and value.is_floating_point()
        if operation in roots or (shown and _name(operation) not in LAYOUT and operation not in roots.values()):
            graph[operation.name] = Node(_name(roots.get(operation, operation)), value, parents, compute)
            place[operation] = operation.name
            moving.add(operation.name)
    returned = [place[operation] for operation in roots]
    used = set(returned).union(*(ancestors(graph, name) for name in returned))
    return {name: node for name, node in graph.items() if name in used}, returned


def _name(operation: Operation) -> str:
    """The name of what is called, such as addmm; of one of several results, that of what returned it."""
    name = operation.target.__name__.split(".")[0].strip("_")
    return _name(operation.args[0]) if name == "getitem" else name


def _root(operation: Operation) -> Operation:
    """The operation whose entries this one moves and nothing else uses."""
    source = operation
    while source.op == "call_function" and _name(source) in LAYOUT and len(source.all_input_nodes[0].users) == 1:
        source = source.all_input_nodes[0]
    return source if source.op == "call_function" else operation


def _bind(operation: Operation, place: dict[Operation, str]) -> tuple[tuple[str, ...], Callable[..., Any]]:
    """The nodes that an operation depends on, and the function of their values that it is."""

    def sources(link: Operation) -> list[str]:
        return [place[link]] if link in place else [name for inner in link.all_input_nodes for name in sources(inner)]

    def compute(*values: Tensor) -> Any:
        known = dict(zip(parents, values, strict=True))

        def evaluate(link: Operation) -> Any:
            if link in place:
                return known[place[link]]
            return link.target(*map_arg(link.args, evaluate), **map_arg(link.kwargs, evaluate))

        return evaluate(operation)

    parents = tuple(dict.fromkeys(sources(operation)))
    return parents, compute
