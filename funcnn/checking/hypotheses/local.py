"""One derivative in the chain that is not what it should be: left out, taken with another operand, or times a factor.

At a node y = op(a, b, ...) the right rule makes of the cotangent y' what is handed down to a, such as y' * b for a product.
A mistaken one hands down

    y'                      the derivative is left out
    y' * t for y' * b       another operand: its derivative at other values
    op(y')                  a linear operation itself, in place of its adjoint
    a' * t, a' / t          a factor too many, or one that is missing

Each is tried at every edge, with every t that the formula has in that shape.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TypeAlias

import torch
from torch import Tensor

from ..evidence import Cause, Evidence
from .graph import Edge, Reading, read
from .tape import filled, refs

MOST = 1500  # mistakes of a kind that are tried
LINEAR = ("cumsum", "flip", "roll", "t", "transpose", "permute", "tril", "triu", "constant_pad_nd")
MASKS = ("where", "masked_fill", "tril", "triu", "clamp", "clamp_min", "clamp_max", "relu", "maximum", "minimum")
Mistake: TypeAlias = tuple[str, str, Tensor | None]  # cause, sentence, what is handed down
Kind: TypeAlias = Callable[[Reading, Edge], Iterator[Mistake]]


def _left_out(r: Reading, edge: Edge) -> Iterator[Mistake]:
    node = r.node(edge)
    if edge.up.shape != edge.down.shape or torch.equal(edge.up, edge.down):
        return
    what, given = r.words.operation(node), refs(node)
    if node.name in ("mul", "div") and len(given) > 1:
        other = r.words.phrase(given[1 - edge.slot])
        if node.name == "mul":
            yield "factor", f"a factor is missing: the derivative of {_of(r, edge)} lacks {other}", edge.up
        elif edge.slot == 0:
            yield "factor", f"a factor is missing: the derivative of {_of(r, edge)} lacks the division by {other}", edge.up
    elif node.name in MASKS:
        yield "mask", f"the mask is left out: the cotangent passes {what} as if it were the identity", edge.up
    elif node.name in ("neg", "rsub", "sub"):
        yield "sign", f"the minus of {_of(r, edge)} is left out", edge.up
    else:
        at = r.words.phrase(edge.source)
        yield "activation derivative", f"the derivative of {what} at {at} is missing, as in a chain rule cut short", edge.up


def _reversed(r: Reading, edge: Edge) -> Iterator[Mistake]:
    node = r.node(edge)
    if node.name in LINEAR and edge.up.shape == edge.down.shape:
        args, kwargs = filled((node.args, node.kwargs), lambda ref: edge.up)
        what = r.words.operation(node)
        yield "direction", f"{what} is applied to the cotangent as in the forward direction, not its adjoint", node.op(
            *args, **kwargs
        )


def _operands(r: Reading, edge: Edge) -> Iterator[Mistake]:
    """Other values for one of the operands."""
    node = r.node(edge)
    for slot, index in enumerate(refs(node)):
        own = r.value(index)
        if (slot == edge.slot and node.name in ("mul", "div", "mm", "bmm", "add", "sub", "expand", "sum", "mean")) or (
            own.ndim == 0 and node.name == "expand"
        ):
            continue
        told = f"in the derivative of {_of(r, edge)}"
        for name, other in _others(r, own):
            if torch.equal(other, own):
                continue
            sentence = f"{told}, {name} stands in place of {r.words.phrase(index)}"
            yield "operand", sentence, r.local(edge, {slot: other})


def _others(r: Reading, own: Tensor) -> Iterator[tuple[str, Tensor]]:
    if own.dtype == torch.bool:
        yield "the opposite mask", ~own
        yield "no mask", torch.ones_like(own)
    elif own.is_floating_point():
        yield from r.alike(own.shape)
        yield "1", torch.ones_like(own)
        for each, u in zip(r.formula.u, r.tape.outputs, strict=True):
            if each.shape == own.shape:
                yield "the cotangent", each
    if own.ndim > 1 and own.shape[-1] == own.shape[-2]:
        yield "its transpose", own.mT.contiguous()


def _slopes(r: Reading, edge: Edge) -> Iterator[Mistake]:
    """Entry by entry, another tensor than the derivative."""
    node = r.node(edge)
    if torch.Tag.pointwise in node.op.tags and len(refs(node)) == 1 and edge.up.shape == edge.down.shape:
        for name, t in r.alike(edge.up.shape):
            sentence = f"the derivative of {r.words.operation(node)} at {r.words.phrase(edge.source)} is taken to be {name}"
            yield "activation derivative", sentence, edge.up * t


def _factors(r: Reading, edge: Edge) -> Iterator[Mistake]:
    """One factor of those that there are, too many or missing."""
    for name, t in r.alike(edge.down.shape):
        where = f"on the way to {r.words.phrase(edge.source)} through {_of(r, edge)}"
        yield "factor", f"a factor too many: {name}, {where}", edge.down * t
        yield "factor", f"a factor is missing: {name}, {where}", edge.down / t


def _of(r: Reading, edge: Edge) -> str:
    return r.words.phrase(r.node(edge).outs[0])


def _tried(kind: Kind) -> Callable[[Evidence], Iterator[Cause]]:
    def hypothesis(e: Evidence) -> Iterator[Cause]:
        for r in read(e):
            mistakes = ((edge, mistake) for edge in r.edges for mistake in kind(r, edge))
            for edge, (cause, sentence, down) in islice(mistakes, MOST):
                if r.mistaken(edge, down):
                    yield cause, sentence

    return hypothesis


LOCAL = tuple(map(_tried, (_left_out, _reversed, _operands, _slopes, _factors)))
