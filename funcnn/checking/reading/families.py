"""The same mistake in every step of a loop.

A loop is recorded as its steps, one after the other, so that what is one line of the rule is an edge in every step. Edges
are of a family if they lead from the same operation into the same slot of the same operation. The gradient with a whole
family changed is that of the record run again with

    stop(v)                     for what a family is given, where its paths are missing
    stop(op(v)) + v - stop(v)   for what it makes of v, where its derivatives are left out
"""

from collections import defaultdict
from collections.abc import Iterator

import torch
from torch import Tensor

from ...causes import Cause
from ..evidence import Evidence, Said
from ..tape import run
from .graph import Edge, Reading, read
from .local import DULL

MOST = 10  # families
PLAIN = (
    "view",
    "_unsafe_view",
    "t",
    "transpose",
    "permute",
    "clone",
    "alias",
    "expand",
    "select",
    "unsqueeze",
    "squeeze",
    "slice",
)


def every_step(e: Evidence) -> Iterator[Said]:
    """All paths of a family are missing, or all of its derivatives."""
    for r in read(e):
        for edges in _families(r)[:MOST]:
            edge, many = edges[0], len(edges)
            maker = r.words.makers.get(r.words.core(edge.source))
            what = r.words.operation(r.node(edge))
            came = "inputs" if maker is None else f"the results of {r.words.operation(maker)}"
            if r.explains(_changed(r, edges, cut=True)):
                told = f"the path through {came} into {what} is missing in each of {many} steps"
                yield Cause.PATH, f"{told}: what a step hands on to the next is treated as a constant"
            if r.node(edge).name not in DULL and edge.up.shape == edge.down.shape:
                if r.explains(_changed(r, edges, cut=False)):
                    factor = "a factor is missing: " if r.node(edge).name in ("mul", "div") else ""
                    yield (
                        Cause.ACTIVATION_DERIVATIVE,
                        f"{factor}the derivative of {what} is left out in each of {many} steps",
                    )


def _families(r: Reading) -> list[list[Edge]]:
    found: dict[tuple[object, ...], list[Edge]] = defaultdict(list)
    for edge in r.edges:
        maker, node = r.words.makers.get(r.words.core(edge.source)), r.node(edge)
        if node.name not in PLAIN and maker is not None:
            found[node.name, edge.slot, maker.name, edge.down.shape].append(edge)
    return sorted((edges for edges in found.values() if len(edges) > 1), key=len, reverse=True)


def _changed(r: Reading, edges: list[Edge], cut: bool) -> Tensor:
    mine = {(edge.node, edge.slot) for edge in edges}
    through: list[Tensor] = []

    def also(n: int, slot: int, value: Tensor) -> Tensor:
        if (n, slot) in mine:
            through.append(value)
            return value.detach()
        return value.detach() if r.tape.nodes[n].given[slot] in r.still else value

    with torch.enable_grad():
        leaves = [leaf.detach() for leaf in r.formula.leaves]
        x = leaves[r.formula.position] = leaves[r.formula.position].clone().requires_grad_()
        values = dict(enumerate(r.tape.values)) | dict(enumerate(leaves))
        for n, node in enumerate(r.tape.nodes):
            through.clear()
            run(node, n, values, also)
            if through and not cut:
                values[node.outs[0]] = values[node.outs[0]] + sum(v - v.detach() for v in through)
        pairs = [(values[i], u) for i, u in zip(r.tape.outputs, r.formula.u, strict=True) if values[i].requires_grad]
        if not pairs:
            return torch.zeros_like(x)
        return torch.autograd.grad([y for y, _ in pairs], x, [u for _, u in pairs], materialize_grads=True)[0]
