"""Perturbation: what becomes of the loss when one parameter is moved, without recomputing what cannot have changed.

Evaluating a whole network once per parameter repeats almost all of its arithmetic. Let a batch run through the layers as
x_0 -> x_1 -> ... -> x_k, every x_i known from one evaluation, and let one entry of layer i move by h. Then

- nothing before layer i changes;
- if layer i is dense, y = x w + b with x (N, D), w (D, H), only column c of y (N, H) changes,

      by h x[:, r]   for w[r, c]        and        by h   for b[c], the weight of a constant input 1;

- an elementwise layer f after it changes in that column alone, by f(y_c + change) - f(y_c);
- the next dense layer, with w' (H, C), changes by the outer product change w'[c, :] (N, C), of rank 1.

Only from there on do P perturbations need P copies (P, N, C) of an activation, which the rest of the layers turn into
values: as one batch of P N rows where each row is known to be treated alone, else under torch.func.vmap. For one hidden
layer that is a loss of C numbers a sample, in place of the D H + H C products before it. A layer of unknown structure
has its own parameters moved under vmap, and the rest runs from there.

The change of the mean is the mean of the samples' changes, and taken in this order it is the more accurate. Subtracting
two means of size 1 leaves the rounding of each, about eps / h in the quotient; the roundings of N separate differences
are independent, and their mean is smaller by sqrt(N). So a loss that has `terms` is asked for them, and the mean comes
last.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from . import tree
from .batched import batched
from .models import chain
from .types import Batch, Layer, Loss, Params

Links = Sequence[tuple[Layer, Params]]
Vectorize = Callable[[Callable[..., Tensor]], Callable[..., Tensor]]


class Probe(NamedTuple):
    """What moving single entries of one leaf does to the values: those of the batch, (), or of its samples, (N,).

    `values` maps flat indices (P,) and where these entries are moved to, (P,), to the values at each, (P,) or (P, N).
    `elements` is how many numbers the largest tensor has for each perturbation.
    """

    leaf: Tensor
    center: Tensor
    values: Callable[[Int[Tensor, " P"], Float[Tensor, " P"]], Tensor]
    elements: int


def probes(
    value: Callable[[Params, Batch], Tensor], params: Params, batch: Batch, center: Tensor, vectorize: Vectorize = batched
) -> list[Probe]:
    """A probe of every leaf, for any function: P perturbations are P evaluations, by default vmapped where it can be."""
    # What a function makes of its inputs is not known; most of them it shares among the perturbations.
    elements = sum(leaf.numel() for leaf in tree.leaves(params) + tree.leaves(batch)) // 16
    every = _probes(lambda params: value(params, batch), params, center, vectorize)
    return [probe._replace(elements=elements) for probe in every]


def supervised_probes(layer: Layer, loss: Loss, params: Params, batch: Batch, vectorize: Vectorize = batched) -> list[Probe]:
    """The same for a loss of layers in series, which runs the layers that a perturbation reaches and no others."""
    inputs, targets = batch
    links, terms = chain(layer, params), loss.terms
    x = [inputs]
    for link, own in links:
        x.append(link.forward(own, x[-1])[0])

    def run_from(start: int, targets: Tensor = targets) -> Callable[[Tensor], Tensor]:
        def values(y: Tensor) -> Tensor:
            for link, own in links[start:]:
                y = link.forward(own, y)[0]
            return (terms or loss.forward)(y, targets)[0]

        return values

    def run_copies_from(start: int) -> Callable[[Float[Tensor, "P N C"]], Tensor]:
        if terms is None or any(link.structure is None for link, _ in links[start:]):
            return torch.func.vmap(run_from(start))

        def values(y: Tensor) -> Tensor:
            # Everything from here on treats each row of a batch alone, so that P batches are one batch of P N rows.
            repeated = targets.expand(len(y), *targets.shape).flatten(0, 1)
            return run_from(start, repeated)(y.flatten(0, 1)).reshape(y.shape[:2])

        return values

    center = run_from(len(links))(x[-1])

    def of_dense(i: int) -> list[Probe]:
        own = links[i][1]
        spread, end = _spread(links, x, i + 1)
        values = run_copies_from(end)
        elements = max(activation.numel() for activation in x[end:])

        def probe(name: str) -> Probe:
            change = _column_change(own[name], x[i] if name == "w" else torch.ones_like(x[i][:, :1]))
            return Probe(own[name], center, lambda index, moved: values(spread(*change(index, moved))), elements)

        return [probe(name) for name in sorted(own)]

    def of_any(i: int) -> list[Probe]:
        link, own = links[i]
        rest = run_from(i + 1)
        leaf_probes = _probes(lambda moved: rest(link.forward(moved, x[i])[0]), own, center, vectorize)
        elements = max(activation.numel() for activation in x[i + 1 :])
        return [probe._replace(elements=max(probe.elements, elements)) for probe in leaf_probes]

    return [p for i, (link, _) in enumerate(links) for p in (of_dense(i) if link.structure == "dense" else of_any(i))]


def _probes(value: Callable[[Params], Tensor], params: Params, center: Tensor, vectorize: Vectorize) -> list[Probe]:
    leaves, unflatten = tree.flatten(params)

    def probe(position: int, leaf: Tensor) -> Probe:
        w = leaf.flatten()
        indices = torch.arange(w.numel(), device=w.device)

        def value_at(index: Tensor, moved: Tensor) -> Tensor:
            perturbed = torch.where(indices == index, moved, w).reshape(leaf.shape)
            return value(unflatten([*leaves[:position], perturbed, *leaves[position + 1 :]]))

        return Probe(leaf, center, vectorize(value_at), w.numel())

    return [probe(position, leaf) for position, leaf in enumerate(leaves)]


def _column_change(w: Tensor, x: Tensor) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The column of y = x w that moving an entry of w changes, and its change: (P,) and (P, N)."""
    flat, rows = w.flatten(), x.T.contiguous()

    def change(index: Tensor, moved: Tensor) -> tuple[Tensor, Tensor]:
        width = w.shape[-1]
        return index % width, (moved - flat[index])[:, None] * rows[index // width]

    return change


def _spread(links: Links, x: list[Tensor], start: int) -> tuple[Callable[[Tensor, Tensor], Tensor], int]:
    """How a changed column of x_start spreads to the first activation x_end that it changes beyond a column.

    The function maps columns (P,) and their changes (P, N) to P copies of x_end, of shape (P, N, C). They lie in memory
    as (C, P, N), because torch is slow along short last axes, and the number of classes is the shortest of the three.
    """
    end = start
    while end < len(links) and links[end][0].structure == "elementwise":
        end += 1
    elementwise, columns = links[start:end], [y.T.contiguous() for y in x[start : end + 1]]
    is_dense = end < len(links) and links[end][0].structure == "dense"
    w = links[end][1]["w"].T.contiguous() if is_dense else None
    end += is_dense
    base = x[end].T.contiguous()[:, None, :]
    features = torch.arange(len(base), device=base.device)[:, None]

    def spread(column: Tensor, change: Tensor) -> Tensor:
        for (link, own), before, after in zip(elementwise, columns, columns[1:], strict=False):
            change = link.forward(own, before[column] + change)[0] - after[column]
        weights = (features == column).to(change.dtype) if w is None else w[:, column]
        return torch.addcmul(base, change, weights[:, :, None]).permute(1, 2, 0)

    return spread, end
