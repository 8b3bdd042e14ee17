"""The right rule of another function.

The record is run with one thing changed, and differentiated: a reduction over another axis, a mask that is left out,
turned or reversed, another number in place of an epsilon or a bound, labels that are one off, two leaves in each other's
place.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from ...causes import Cause
from ..evidence import Evidence, Said
from ..tape import Node, Ref, Tape, replay
from .graph import Reading, read

MOST = 24  # functions
AXES = ("mean", "sum", "amax", "amin", "cumsum", "prod", "logcumsumexp", "max", "min", "argmax", "linalg_vector_norm")
OPPOSITES = {"amax": torch.amin, "amin": torch.amax, "max": torch.min, "min": torch.max}
OPPOSITES |= {"maximum": torch.minimum, "minimum": torch.maximum}
SMALL = (0.0, 1e-3, 1e-5, 1e-6, 1e-8, 1e-12)


def another_function(e: Evidence) -> Iterator[Said]:
    """The gradient of the record with one thing changed."""
    for r in read(e):
        for cause, sentence, tape, leaves in islice(_others(r), MOST):
            p = _gradient(r, tape, leaves)
            if p is not None and r.explains(p):
                yield cause, f"it is right for another function: {sentence}"


def forward_of_cotangent(e: Evidence) -> Iterator[Said]:
    """f(u) in place of J^T u."""
    for r in read(e):
        (u, *more), x = r.formula.u, r.formula.x
        if not more and u.shape == x.shape == r.value(r.tape.outputs[0]).shape:
            if r.explains(replay(r.tape, _put(list(r.formula.leaves), r.formula.position, u))[0].detach()):
                told = "the function itself is applied to the cotangent, in the forward direction"
                yield Cause.DIRECTION, f"{told}, not its transpose: a rotation is turned on, not back"


def _others(r: Reading) -> Iterator[tuple[Cause, str, Tape, list[Tensor]]]:
    leaves = list(r.formula.leaves)
    for sentence, values in _constants(r):
        yield Cause.MASK, sentence, r.tape._replace(values=values), leaves
    for cause, sentence, nodes in _axes(r):
        yield cause, sentence, r.tape._replace(nodes=nodes), leaves
    for sentence, nodes in _opposites(r):
        yield Cause.OPERAND, sentence, r.tape._replace(nodes=nodes), leaves
    for cause, sentence, nodes in _numbers(r):
        yield cause, sentence, r.tape._replace(nodes=nodes), leaves
    for i, leaf in enumerate(leaves):
        name = r.formula.names[i]
        if leaf.ndim > 1 and leaf.shape[-1] == leaf.shape[-2]:
            yield (
                Cause.TRANSPOSED,
                f"{name} is used in place of its transpose",
                r.tape,
                _put(leaves, i, leaf.mT.contiguous()),
            )
        for j, other in enumerate(leaves):
            if i != j and leaf.shape == other.shape:
                yield Cause.OPERAND, f"{r.formula.names[j]} is used in place of {name}", r.tape, _put(leaves, i, other)


def _constants(r: Reading) -> Iterator[tuple[str, list[Tensor]]]:
    for index, value in enumerate(r.tape.values):
        if index < r.tape.leaves or index in r.words.makers or value.ndim == 0:
            continue
        name = r.words.phrase(index)
        others: list[tuple[str, Tensor]] = []
        if value.dtype == torch.bool:
            kept = torch.zeros_like(value) if _fills(r, index) else torch.ones_like(value)
            others += [(f"{name} is left out", kept), (f"{name} is reversed", ~value)]
        elif not value.is_floating_point():
            others += [(f"{name} is one off", value - 1), (f"{name} is one off", value + 1)]
        elif name.startswith("the mask"):
            others += [
                (f"{name} is left out", torch.full_like(value, value.max().item())),
                (f"{name} is its 1s", (value != 0).to(value)),
            ]
        if value.ndim > 1 and value.shape[-1] == value.shape[-2]:
            others.append((f"{name} is transposed", value.mT))
        if value.dtype == torch.bool or not value.is_floating_point():
            others += [
                (f"{name} is shifted by {k} along axis {axis}", value.roll(k, axis)) for axis in (-1,) for k in (1, -1)
            ]
            others += [(f"{name} is that of the first row for all", value[:1].expand(value.shape))] * (len(value) > 1)
        for sentence, other in others:
            if not torch.equal(other, value):
                yield sentence, _put(r.tape.values, index, other)


def _fills(r: Reading, index: int) -> bool:
    return any(node.name == "masked_fill" and index in node.given for node in r.tape.nodes)


def _axes(r: Reading) -> Iterator[tuple[Cause, str, list[Node]]]:
    for n, node in enumerate(r.tape.nodes):
        if node.name not in AXES or len(node.args) < 2 or not isinstance(node.args[0], Ref):
            continue
        where = 2 if node.name == "linalg_vector_norm" else 1
        dims = node.args[where] if len(node.args) > where else None
        rank = r.tape.values[node.args[0].number].ndim
        own = [dims] if isinstance(dims, int) else dims
        if not isinstance(own, list) or not own or not all(isinstance(d, int) for d in own):
            continue
        for axis in range(rank):
            if [axis] != [d % rank for d in own]:
                new: Any = axis if isinstance(dims, int) else [axis]
                told = f"{r.words.phrase(node.outs[0])} is taken over axis {axis}"
                yield Cause.AXIS, told, _put(r.tape.nodes, n, node._replace(args=tuple(_put(list(node.args), where, new))))


def _opposites(r: Reading) -> Iterator[tuple[str, list[Node]]]:
    for n, node in enumerate(r.tape.nodes):
        if node.name in OPPOSITES:
            own, other = ("maximum", "minimum") if "max" in node.name else ("minimum", "maximum")
            told = f"the {other} in place of the {own} in {r.words.phrase(node.outs[0])}"
            yield told, _put(r.tape.nodes, n, node._replace(op=OPPOSITES[node.name]))


def _numbers(r: Reading) -> Iterator[tuple[Cause, str, list[Node]]]:
    for n, node in enumerate(r.tape.nodes):
        for slot, number in enumerate(node.args):
            if isinstance(number, float) and node.name in ("add", "clamp", "clamp_min", "maximum") and 0 < abs(number) < 0.1:
                for other in SMALL:
                    if other != number:
                        told = (
                            f"{other:g} in place of the constant {number:g}, an epsilon, in {r.words.phrase(node.outs[0])}"
                        )
                        yield (
                            Cause.CONSTANT,
                            told,
                            _put(r.tape.nodes, n, node._replace(args=tuple(_put(list(node.args), slot, other)))),
                        )


def _put(items: list[Any], i: int, new: Any) -> list[Any]:
    return [*items[:i], new, *items[i + 1 :]]


def _gradient(r: Reading, tape: Tape, leaves: list[Tensor]) -> Tensor | None:
    position = r.formula.position
    try:
        with torch.enable_grad():
            x = leaves[position].detach().clone().requires_grad_()
            y = replay(tape, _put(leaves, position, x))
            pairs = [(each, u) for each, u in zip(y, r.formula.u, strict=True) if each.requires_grad]
            return torch.autograd.grad([y for y, _ in pairs], x, [u for _, u in pairs], materialize_grads=True)[0]
    except (RuntimeError, ValueError, IndexError, TypeError):
        return None
