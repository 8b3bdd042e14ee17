"""What a batch is made of: tensors with N rows, and what passes to the objective as it is.

    tensor                                (N, ...), a row for each sample
    list or tuple of strings, numbers     a column: N entries, one for each sample, as default_collate makes of strings
    string, bytes, number                 by itself: of the batch as a whole, as the number of an epoch

A batch of some of its samples has rows of the tensors, entries of the columns, and of the rest what there is. Nothing else
is in a batch: what is immutable cannot be written to by who is handed it, and says whether it is the same again.
"""

from collections.abc import Callable
from typing import Any

import optree
import torch
from torch import Tensor

from . import tree
from .errors import is_column
from .types import Batch


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
