"""What a batch is made of, tensors with N rows and what passes to the objective as it is; and an epoch of batches.

    tensor                                (N, ...), a row for each sample
    list or tuple of strings, numbers     a column: N entries, one for each sample, as default_collate makes of strings
    string, bytes, number                 by itself: of the batch as a whole, as the number of an epoch

A batch of some of its samples has rows of the tensors, entries of the columns, and of the rest what there is. Nothing else
is in a batch: what is immutable cannot be written to by who is handed it, and says whether it is the same again.
"""

from collections.abc import Callable, Iterator
from typing import Any

import optree
import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from . import tree
from .data import Dataset
from .errors import InputError, check_count, check_generator, describe
from .operands import check_batch, is_column
from .types import Batch

# What is no data, and what to hand over instead.
INSTEAD: dict[type, str] = {
    DataLoader: "tensors, such as default_collate([*loader.dataset]); `train` takes the loader itself, an epoch a call",
    TorchDataset: "tensors, such as torch.utils.data.default_collate([*dataset])",
    Dataset: "the part to learn from, data.train",
}


def samples(batch: Batch) -> int:
    """N; 0 of a batch without tensors."""
    return next((len(leaf) for leaf in tree.leaves(batch) if isinstance(leaf, Tensor)), 0)


def rows(batch: Batch, chosen: Tensor | slice) -> Batch:
    """The batch of some of its samples, by their numbers."""

    def part(x: Any) -> Any:
        if isinstance(x, Tensor):
            return x[chosen]
        if not is_column(x):
            return x
        return type(x)(x[n] for n in (chosen.tolist() if isinstance(chosen, Tensor) else range(len(x))[chosen]))

    return optree.tree_map(part, batch, is_leaf=is_column, none_is_leaf=True)


def tensors(x: Any) -> tuple[list[Tensor], Callable[[list[Any]], Any]]:
    """The leaves of a tree that are tensors, and the function that builds the tree of such a list and all other leaves."""
    leaves, unflatten = tree.flatten(x)
    own = [isinstance(leaf, Tensor) for leaf in leaves]
    found, others = tree.parted(leaves, own)
    return found, lambda found: unflatten(tree.joined(found, others, own))


def by_samples(function: Callable[[Batch], Any], batch: Batch, vectorize: Any = torch.func.vmap) -> Any:
    """What a function makes of the batch of each sample alone, stacked; where there are columns by a loop.

    Results are trees of tensors.
    """
    if any(map(is_column, optree.tree_leaves(batch, is_leaf=is_column, none_is_leaf=True))):
        each = [function(rows(batch, slice(n, n + 1))) for n in range(samples(batch))]
        return tree.map(lambda *leaves: torch.stack(leaves), *each)
    found, unflatten = tensors(batch)
    return vectorize(lambda *sample: function(unflatten([leaf[None] for leaf in sample])))(*found)


def minibatches(data: Batch, batch_size: int, *, generator: Generator) -> Iterator[Batch]:
    """One epoch: every sample once, in a random order drawn from the generator, the last batch short where it must be.

    A list or tuple of strings or numbers has one for each sample, and goes with them; one by itself is in every batch.

    Raises:
        InputError: batch_size is no positive integer; empty data, or leaves that disagree on N.
    """
    batch_size = check_count("batch_size", batch_size)
    for kind, needs in INSTEAD.items():
        if isinstance(data, kind):
            raise InputError("data", f"a {type(data).__name__}", needs)
    leaves = check_batch(data)
    check_generator(generator)
    if not leaves:
        raise InputError("data", describe(data), "at least one tensor")
    if len(devices := {str(leaf.device) for leaf in leaves}) > 1:
        raise InputError("data", f"tensors on {' and '.join(sorted(devices))}", "all on one device")
    return _shuffled(data, batch_size, generator)


def _shuffled(data: Batch, batch_size: int, generator: Generator) -> Iterator[Batch]:
    first, *_ = tensors(data)[0]
    order = torch.randperm(len(first), generator=generator, device=generator.device).to(first.device)
    for chosen in order.split(batch_size):
        yield rows(data, chosen)
