"""vmap where a function can be vmapped, and a loop where it cannot: kernels, custom autograd Functions, `if` on a tensor."""

from collections.abc import Callable
from typing import Any

import torch

from .. import kernels, tree


def batched(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of tensors with a leading axis that applies `function` to each of their entries along it.

    What a function that cannot be vmapped raises under vmap says nothing of the function itself, so it is given each entry
    by itself before an error counts. Results are trees of tensors.

    An error that comes then is the function's own.
    """
    mapped = torch.func.vmap(function)

    def call(*xs: Any) -> Any:
        try:
            return kernels.undisturbed(mapped, *xs)
        except Exception:
            # Copies: a row of a batch has an offset in memory, and there are functions that see it.
            results = [function(*(x.clone() for x in entry)) for entry in zip(*xs, strict=True)]
            return tree.map(lambda *leaves: torch.stack(leaves), *results)

    return call
