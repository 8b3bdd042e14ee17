"""vmap where a function can be vmapped, and a loop where it cannot: kernels, custom autograd Functions, `if` on a tensor."""

from collections.abc import Callable
from typing import Any

import torch

from . import tree
from .errors import InputError


def batched(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of tensors with a leading axis that applies `function` to each of their entries along it.

    What a function that cannot be vmapped raises under vmap says nothing of the function itself, so it is given each entry
    by itself before an error counts. Results are trees of tensors.

    Raises (when called):
        InputError: whatever the function refuses. Any other error is the function's own.
    """
    mapped = torch.func.vmap(function)

    def call(*xs: Any) -> Any:
        try:
            return mapped(*xs)
        except InputError:
            raise
        except (RuntimeError, ValueError, TypeError):
            results = [function(*entry) for entry in zip(*xs, strict=True)]
            return tree.map(lambda *leaves: torch.stack(leaves), *results)

    return call
