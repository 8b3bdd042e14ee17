"""What becomes of the loss when single parameters move, without recomputing what cannot have changed.

Let a batch run through the layers as x_0 -> x_1 -> ... -> x_k, every x_i known from one evaluation, and let entries of
layer i move. Then nothing before layer i changes, and a layer that knows its `moves` says what does: one column of its
output. Each layer after it that can `carry` a column is asked to, until one answers with copies; the rest of the layers
turn these into values, as one batch of P N rows where each row is known to be treated alone, else under torch.func.vmap.
For one hidden layer that is a loss of C numbers a sample, in place of the D H + H C products before it. See
`layers.columns` for the mathematics. A layer that says nothing has its own parameters moved, by vmap or one by one, and the
rest runs from there.

The change of the mean is the mean of the samples' changes, and taken in this order it is the more accurate. Subtracting
two means of size 1 leaves the rounding of each, about eps / h in the quotient; the roundings of N separate differences
are independent, and their mean is smaller by sqrt(N). So a loss that has terms is asked for them, and the mean comes last.
"""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .. import tree
from ..batches import tensors
from ..layers.columns import Carry, Column, Move
from ..layers.combine import chain
from ..layers.pullbacks import ran
from ..losses import Mean
from ..objectives import Composed, evaluated
from ..sums import OfEntries, OfParams, Sum
from ..types import Batch, ForwardRule, Params
from .batched import batched

Vectorize = Callable[[Callable[..., Tensor]], Callable[..., Tensor]]


class Probe(NamedTuple):
    """What moving single entries of one leaf does to the values: those of the batch, (), or of its samples, (N,).

    `values` maps flat indices (P,) and where these entries are moved to, (P,), to the values at each, (P,) or (P, N).
    `elements` is how many numbers the largest tensor has for each moved entry, `copied` how many of the leaf are copied for
    it.
    """

    leaf: Tensor
    center: Tensor
    values: Callable[[Int[Tensor, " P"], Float[Tensor, " P"]], Tensor]
    elements: int
    copied: int = 0


def probes(
    value: Callable[[Params, Batch], Tensor], params: Params, batch: Batch, center: Tensor, vectorize: Vectorize = batched
) -> list[Probe]:
    """A probe of every leaf, in the order of `tree.leaves`: structured for a loss of layers, else P values for P entries."""
    if isinstance(value, Composed):
        return _through_layers(value, params, batch, vectorize)
    if isinstance(value, Sum):
        first, second = (probes(term, params, batch, term(params, batch), vectorize) for term in value.terms)
        return [_added(one, value.weight, other) for one, other in zip(first, second, strict=True)]
    if isinstance(value, OfParams) and isinstance(value.function, OfEntries):
        return [_of_entry(value.function, leaf, center) for leaf in tree.leaves(params)]
    # What a function makes of its inputs is not known; most of them it shares among the moved entries.
    elements = sum(leaf.numel() for leaf in tensors((params, batch))[0]) // 16
    every = _anywhere(lambda params: value(params, batch), params, center, vectorize)
    return [probe._replace(elements=elements) for probe in every]


def _added(one: Probe, weight: float, other: Probe) -> Probe:
    """What moving the same entries does to the sum; where one of them has values of samples, the other is each one's."""

    def values(index: Tensor, moved: Tensor) -> Tensor:
        first, second = one.values(index, moved), other.values(index, moved)
        if first.ndim != second.ndim:
            first, second = (x.reshape(len(index), -1) for x in (first, second))
        return first + weight * second

    center = one.center + weight * other.center
    return Probe(one.leaf, center, values, max(one.elements, other.elements), max(one.copied, other.copied))


def _of_entry(value: OfEntries, leaf: Tensor, center: Tensor) -> Probe:
    w = leaf.flatten()
    return Probe(leaf, center, lambda index, moved: center + (value.of(moved) - value.of(w[index])), 1)


def _through_layers(value: Composed, params: Params, batch: Batch, vectorize: Vectorize) -> list[Probe]:
    inputs, targets = value.keys(batch)
    links, loss = chain(value.layer, params), value.loss
    terms = loss.terms if isinstance(loss, Mean) else None
    x = [inputs]
    for forward, own in links:
        x.append(ran(forward, own, x[-1])[0])

    def run_from(start: int, targets: Tensor = targets) -> Callable[[Tensor], Tensor]:
        def values(y: Tensor) -> Tensor:
            for forward, own in links[start:]:
                y = ran(forward, own, y)[0]
            return evaluated(loss, y, targets)[0] if terms is None else terms(y, targets)[0]

        return values

    def run_copies_from(start: int) -> Callable[[Tensor], Tensor]:
        if terms is None or not all(getattr(forward, "rowwise", False) for forward, _ in links[start:]):
            return vectorize(run_from(start))

        def values(y: Tensor) -> Tensor:
            repeated = targets.expand(len(y), *targets.shape).flatten(0, 1)
            return run_from(start, repeated)(y.flatten(0, 1)).reshape(y.shape[:2])

        return values

    center = run_from(len(links))(x[-1])

    def of_layer(i: int) -> list[Probe]:
        forward, own = links[i]
        run, elements = run_from(i + 1), max(y.numel() for y in x[i + 1 :])
        plain = _anywhere(lambda moved: run(ran(forward, moved, x[i])[0]), own, center, vectorize)
        plain = [probe._replace(elements=max(probe.elements, elements)) for probe in plain]
        claims = getattr(forward, "moves", None)
        moves = [None] * len(plain) if claims is None else tree.leaves(tree.arranged(claims(own, x[i]), own))
        if not any(map(callable, moves)):
            return plain

        @cache
        def onwards(axis: int) -> tuple[Callable[[Column], Tensor], int]:
            spread, end = _spread(links, x, i + 1, axis)
            values = run_copies_from(end)
            return lambda column: values(spread(column)), max(y.numel() for y in x[end:])

        def known(probe: Probe, move: Move) -> Probe:
            w = probe.leaf.flatten()
            first = torch.arange(min(1, len(w)), device=w.device)
            values, elements = onwards(move(first, w[first]).axis)
            return Probe(probe.leaf, center, lambda index, moved: values(move(index, moved - w[index])), elements)

        return [probe if move is None else known(probe, move) for probe, move in zip(plain, moves, strict=True)]

    return [probe for i in range(len(links)) for probe in of_layer(i)]


def _anywhere(value: Callable[[Params], Tensor], params: Params, center: Tensor, vectorize: Vectorize) -> list[Probe]:
    leaves, unflatten = tree.flatten(params)

    def probe(position: int, leaf: Tensor) -> Probe:
        w = leaf.flatten()
        indices = torch.arange(w.numel(), device=w.device)

        def value_at(index: Tensor, moved: Tensor) -> Tensor:
            other = torch.where(indices == index, moved, w).reshape(leaf.shape)
            return value(unflatten([*leaves[:position], other, *leaves[position + 1 :]]))

        return Probe(leaf, center, vectorize(value_at), w.numel(), w.numel())

    return [probe(position, leaf) for position, leaf in enumerate(leaves)]


def _spread(
    links: Sequence[tuple[ForwardRule, Params]], x: list[Tensor], start: int, axis: int
) -> tuple[Callable[[Column], Tensor], int]:
    """How a column of x_start spreads to the first activation x_end of which there must be copies, and that end."""
    carries: list[Carry] = []
    rows = x[start].select(axis, 0)
    state: Any = Column(torch.zeros(1, dtype=torch.int64, device=rows.device), torch.zeros_like(rows)[None], axis=axis)
    for (forward, own), (before, after) in zip(links[start:], pairwise(x[start:]), strict=True):
        carry = getattr(forward, "carry", None)
        if carry is None or not isinstance(state, Column) or state.axis not in getattr(forward, "axes", (-1,)):
            break
        carries.append(carry(own, before, after))
        state = carries[-1](state)  # a column that stays where it is shows what kind of answer will come
    end = start + len(carries)

    def spread(column: Column) -> Tensor:
        state: Any = column
        for carry in carries:
            state = carry(state)
        copies: Tensor = state.copies(x[end]) if isinstance(state, Column) else state
        return copies

    return spread, end
