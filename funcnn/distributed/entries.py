"""Derivatives entry by entry, each rank its share of the entries: differences, complex steps, columns of Jacobians.

What costs an evaluation for each of n entries is divided as it is: rank r of R finds the entries r c, ..., r c + c - 1 of
every leaf, with c = ceil(n / R), and one all-gather brings all to all. Beyond the last entry stands the last one again, so
that every rank sends as many numbers.

The samples are not divided: every rank has the whole batch, and evaluates the objective once where nothing moves. Complex
steps have the bits of one process. Differences have its gradient to their own rounding: fewer entries at a time are products
of other shapes, which round otherwise, and a quotient divides that by its step.
"""

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from .. import kernels, tree
from ..errors import InputError, check_count, describe, is_floating
from ..memory import check_memory
from ..providers.doors import EntryByEntry, Gradient, lifted
from ..types import Batch, Params, StepFn, name
from .ranks import Group, check_alone, check_group, gathered, rank, size


def sharded(step_fn: StepFn, *, group: Group = None) -> StepFn:
    """The same provider, each of whose ranks finds its share of the gradient; all have the same bits of the whole.

        train(sharded(finite_difference(objective)), optimizer, params, batches)

    All ranks have the same parameters and the same batch. The value beside the gradient is that of rank 0.

    Args:
        step_fn: finite_difference(objective) or complex_step(objective).
        group: A process group of torch.distributed; None is all ranks.

    Raises:
        InputError: any other step_fn; no process group; (when called) inside a transform, a tape or a tracer; whatever
            step_fn refuses.
        RankEnded: (when called) another rank ended.
    """
    gradient = lifted(step_fn).value_and_grad
    if not isinstance(gradient, Gradient) or not isinstance(gradient.function, EntryByEntry):
        needs = "a provider that finds every entry by itself: finite_difference(objective) or complex_step(objective)"
        raise InputError("sharded(step_fn)", name(gradient), needs)
    check_group("sharded(step_fn)", group)
    alone = gradient.function.rule

    def together(params: Params, batch: Batch, entries: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        leaves = tree.leaves(params)
        check_alone("sharded(step_fn)(params, batch)", [*leaves, *tree.leaves(batch)])
        own = [share(wanted, group) for wanted in entries]
        value, slopes = alone(params, batch, own)
        dtype = reduce(torch.promote_types, [leaf.dtype for leaf in leaves], value.dtype)
        table = gathered(torch.cat([x.flatten().to(dtype) for x in (value, *slopes)]), group)
        _, *parts = table.split([1, *map(len, own)], 1)
        whole = zip(parts, entries, leaves, strict=True)
        return table[0, 0].to(value.dtype), [x.flatten()[: len(wanted)].to(leaf.dtype) for x, wanted, leaf in whole]

    title = f"sharded {gradient.provider}"
    return StepFn(step_fn.value, gradient._replace(function=EntryByEntry(together), provider=title))


def columns(
    function: Callable[[Tensor], Tensor], *, chunk_size: int | None = None, group: Group = None
) -> Callable[[Tensor], Tensor]:
    """The function x -> dy/dx of y = function(x), each of whose ranks finds its share of the columns, by torch.func.jvp.

    Column j is how y changes with entry j of x, J e_j. The result has the shape of y followed by that of x, as that of
    torch.func.jacfwd, which is the same function on one rank. All ranks have the same x.

    Args:
        function: Of a floating tensor, such as `lambda x: layer(params, x)`; it returns one.
        chunk_size: How many columns are found at once; None is all of a rank.
        group: A process group of torch.distributed; None is all ranks.

    Raises:
        InputError: function is none, chunk_size no positive integer; no process group; (when called) x is no floating tensor
            with an entry, or inside a transform, a tape or a tracer.
        RankEnded: (when called) another rank ended.
    """
    if not callable(function) or isinstance(function, tuple):
        raise InputError(
            "columns(function)", describe(function), "a function of a tensor, such as lambda x: layer(params, x)"
        )
    at_once = None if chunk_size is None else check_count("chunk_size", chunk_size)
    check_group("columns(function)", group)

    def jacobian(x: Tensor) -> Tensor:
        if not is_floating(x) or not x.numel() or x.is_meta:
            raise InputError("x", describe(x), "a floating tensor with at least one entry, not on meta")
        check_alone("columns(function)(x)", [x])
        together = min(at_once or x.numel(), -(-x.numel() // size(group)))
        check_memory("x", f"{together} directions at once", together * x.numel() * x.itemsize, x.device)
        x = x.clone(memory_format=torch.contiguous_format)  # torch's jvp is wrong where numbers share their memory
        entries = torch.arange(x.numel(), device=x.device)

        def column(entry: Tensor) -> Tensor:
            unit = (entries == entry).to(x.dtype).reshape(x.shape)
            change: Tensor = torch.func.jvp(function, (x,), (unit,))[1]
            return change

        own: Any = kernels.undisturbed(torch.func.vmap(column, chunk_size=at_once), share(entries, group))
        whole = gathered(own, group).flatten(0, 1)[: x.numel()]
        return whole.movedim(0, -1).reshape(whole.shape[1:] + x.shape)

    return jacobian


def share(entries: Tensor, group: Group) -> Tensor:
    """The entries of this rank, as many as every rank has."""
    if not len(entries):
        return entries
    count = -(-len(entries) // size(group))
    places = torch.arange(count, device=entries.device) + rank(group) * count
    return entries[places.clamp(max=len(entries) - 1)]
