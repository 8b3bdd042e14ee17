"""One derivative in the chain that is not what it should be: left out, taken with another operand, or times a factor.

At a node y = op(a, b, ...) the right rule makes of the cotangent y' what is handed down to a, such as y' * b for a
product. A mistaken one hands down

    y'                      the derivative is left out
    y' * t for y' * b       another operand: its derivative at other values
    a' * t, a' / t          a factor too many, or one that is missing

Each is tried at every edge, with every t that the formula has in that shape.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from ...causes import Cause
from ..evidence import Evidence, Said
from ..tape import run
from .graph import Edge, Reading, read

MASKS = ("where", "masked_fill", "tril", "triu", "clamp", "clamp_min", "clamp_max", "relu", "maximum", "minimum")
DULL = ("add", "sub", "expand", "sum", "mean", "view", "_unsafe_view", "t", "transpose", "permute", "clone", "alias", "neg")
SHAPES = ("view", "_unsafe_view", "permute", "transpose", "t", "unsqueeze", "squeeze", "clone", "alias")
MOST_SLOW = 30  # derivatives of a node that are taken one by one


class Mistakes(NamedTuple):
    """Several mistakes of a kind at an edge: what is handed down instead (K, ...), and how the k-th is told."""

    cause: Cause
    tell: Callable[[int], str]
    downs: Tensor


Kind: TypeAlias = Callable[[Reading, Edge], Iterator[Mistakes]]


def _left_out(r: Reading, edge: Edge) -> Iterator[Mistakes]:
    if edge.up.shape == edge.down.shape and not torch.equal(edge.up, edge.down):
        cause, tell = _why_left_out(r, edge)
        yield Mistakes(cause, tell, edge.up[None])
        if r.node(edge).name in MASKS:
            told = f"the mask of {r.words.operation(r.node(edge))} is the opposite one: its branches are exchanged"
            yield Mistakes(Cause.MASK, lambda _: told, (edge.up - edge.down)[None])


def _why_left_out(r: Reading, edge: Edge) -> tuple[Cause, Callable[[int], str]]:
    node, what, given = r.node(edge), r.words.operation(r.node(edge)), r.node(edge).given
    if node.name in ("mul", "div") and len(given) > 1:
        by = "the division by " if node.name == "div" else ""
        return (
            _factor(r, given[1 - edge.slot]),
            lambda _: (
                f"a factor is missing: the derivative of {_of(r, edge)} lacks {by}{r.words.phrase(given[1 - edge.slot])}"
            ),
        )
    if node.name == "cumsum":
        told = f"{what} is left out: an entry has the terms of its own cotangent alone, nothing is carried over"
        return Cause.PATH, lambda _: told
    if node.name in MASKS:
        return (
            Cause.MASK,
            lambda _: f"the mask, or branch, of {what} is left out: the cotangent passes as if it were the identity",
        )
    if node.name in ("neg", "rsub", "sub"):
        return Cause.SIGN, lambda _: f"the minus of {_of(r, edge)} is left out: a sign"
    at = r.words.phrase(edge.source)
    return Cause.ACTIVATION_DERIVATIVE, lambda _: f"the derivative of {what} at {at} is missing, a factor of the chain rule"


def _factor(r: Reading, index: int) -> Cause:
    return Cause.MASK if "mask" in r.words.phrase(index) else Cause.FACTOR


def _operands(r: Reading, edge: Edge) -> Iterator[Mistakes]:
    """Other values for one of the operands."""
    node, given = r.node(edge), r.node(edge).given
    if node.name in (*DULL, "maximum", "minimum") or len(node.outs) > 1:
        return
    for slot, index in enumerate(given):
        if slot == edge.slot and node.name in ("mul", "mm", "bmm", "where"):
            continue
        names, others = _others(r, index)
        yield Mistakes(Cause.OPERAND, partial(_operand, r, edge, names, index), _with(r, edge, slot, others))


def _operand(r: Reading, edge: Edge, names: list[int | str], index: int, k: int) -> str:
    name = names[k]
    told = name if isinstance(name, str) else r.words.phrase(name)
    short = ""
    if not isinstance(name, str):
        lost, more = _lost(r, index, name), _lost(r, name, index)
        short = f": a factor is missing, {lost}" if lost else f": a factor too many, {more}" if more else ""
    return f"a wrong operand: in the derivative of {_of(r, edge)}, {told} stands in place of {r.words.phrase(index)}{short}"


def _lost(r: Reading, index: int, other: int) -> str:
    """The factors by which the value with this number is more than another, in words, or nothing."""
    lost: list[str] = []
    index, other = r.words.core(index), r.words.core(other)
    while index != other:
        node = r.words.makers.get(index)
        if node is None or node.name != "mul" or len(node.given) < 2:
            return ""
        index, factor = (r.words.core(i) for i in node.given)
        lost.append(r.words.phrase(factor))
    return " * ".join(lost)


def _with(r: Reading, edge: Edge, slot: int, others: Tensor) -> Tensor:
    node = r.node(edge)
    if node.name in ("mm", "bmm"):
        return edge.up @ others.mT if edge.slot == 0 else others.mT @ edge.up
    nothing = edge.down.new_zeros((0, *edge.down.shape))
    if node.pointwise:
        found = r.local(edge, {slot: others})
        return nothing if found is None else found
    made: list[Tensor] = []
    for other in others.flip(0)[:MOST_SLOW]:
        down = r.local(edge, {slot: other})
        made.append(edge.down if down is None else down)
        if torch.equal(made[0], edge.down):
            return nothing  # linear: its derivative is the same everywhere
    return torch.stack(made).flip(0) if len(made) == len(others) and made else nothing


def _others(r: Reading, index: int) -> tuple[list[int | str], Tensor]:
    """What may stand in place of a tensor: whatever has its shape, ones, the cotangent, its transpose, the opposite mask."""
    own = r.value(index)
    if own.dtype == torch.bool:
        return ["the opposite mask", "no mask"], torch.stack([~own, torch.ones_like(own)])
    if not own.is_floating_point():
        return [], own.new_zeros((0, *own.shape))
    alike, values = r.alike(own.shape)
    names: list[int | str] = [*alike]
    parts = list(_products(r, index))
    if parts:
        names += [told for told, _ in parts]
        values = torch.cat([values, torch.stack([x for _, x in parts])])
    more = [("1", torch.ones_like(own))]
    more += [("the cotangent", u) for u in r.formula.u if u.shape == own.shape]
    if own.ndim > 1 and own.shape[-1] == own.shape[-2]:
        more.append(("its transpose", own.mT))
    return [*names, *(name for name, _ in more)], torch.cat([values, torch.stack([value for _, value in more])])


def _products(r: Reading, index: int) -> Iterator[tuple[str, Tensor]]:
    """Where a value is a product in another shape: one of its factors, and the product with one of them squared."""
    turned, at = [], index
    while at in r.words.makers and r.words.makers[at].name in SHAPES:
        turned.append(r.words.makers[at])
        at = turned[-1].given[0]
    node = r.words.makers.get(at)
    if not turned or node is None or node.name != "mul" or len(node.given) < 2:
        return
    for one, other in (node.given, node.given[::-1]):
        lost, kept = r.words.phrase(one), r.words.phrase(other)
        for told, x in (
            (f"{kept} alone, which lacks a factor, {lost},", r.value(other)),
            (f"the same with a factor, {lost}, once too often", r.value(at) * r.value(one)),
        ):
            values = {at: torch.empty_like(r.value(at)).copy_(x)}  # a view is of its strides
            for view in reversed(turned):
                run(view, 0, values)
            yield told, values[index]


def _slopes(r: Reading, edge: Edge) -> Iterator[Mistakes]:
    """Entry by entry, another tensor than the derivative."""
    node = r.node(edge)
    if node.pointwise and len(node.given) == 1 and edge.up.shape == edge.down.shape:
        names, values = r.alike(edge.up.shape)

        def told(k: int) -> str:
            what = f"the derivative of {r.words.operation(node)} at {r.words.phrase(edge.source)}"
            return f"{what} is taken to be {r.words.phrase(names[k])}"

        yield Mistakes(Cause.ACTIVATION_DERIVATIVE, told, edge.up * values)


def _factors(r: Reading, edge: Edge) -> Iterator[Mistakes]:
    """One factor of those that there are, too many or missing."""
    names, values = r.alike(edge.down.shape)

    def told(k: int) -> str:
        return f"{r.words.phrase(names[k])}, on the way to {r.words.phrase(edge.source)} through {_of(r, edge)}"

    yield Mistakes(Cause.FACTOR, lambda k: f"a factor too many: {told(k)}", edge.down * values)
    yield Mistakes(Cause.FACTOR, lambda k: f"a factor is missing: {told(k)}", edge.down / values)


def _of(r: Reading, edge: Edge) -> str:
    return r.words.phrase(r.node(edge).outs[0])


def tried(kind: Kind) -> Callable[[Evidence], Iterator[Said]]:
    """The hypothesis that a mistake of this kind is made at one edge."""

    def hypothesis(e: Evidence) -> Iterator[Said]:
        for r in read(e):
            for edge in r.edges:
                for mistakes in kind(r, edge):
                    for k in r.mistaken(edge.source, edge.down, mistakes.downs):
                        yield mistakes.cause, mistakes.tell(k)

    hypothesis.__name__ = kind.__name__.lstrip("_")
    return hypothesis


left_out, operands, slopes, factors = map(tried, (_left_out, _operands, _slopes, _factors))
