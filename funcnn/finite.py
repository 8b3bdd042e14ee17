"""Whether a step led to numbers that are finite, and what was first where it did not."""

import math
from typing import Any

import torch
from torch import Tensor

from . import kernels, tree
from .history import Divergence
from .providers.doors import lifted
from .types import Batch, Params, State, Step, Tree


def all_finite(*trees: Tree) -> bool:
    """Whether every number in floating tensors is finite. A sum is that of finite numbers, or else it is looked at each."""
    return all(_finite(leaf) for leaf in tree.leaves(trees))


def _finite(leaf: Any) -> bool:
    if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
        return True
    return math.isfinite(leaf.sum().item()) or bool(torch.isfinite(leaf).all())


def first_not_finite(
    step_fn: Any, params: Params, state: State, batch: Batch, after: Step, number: int
) -> Divergence | None:
    """What was first: parameters or data, else a leaf of the gradient, the value, or what the optimizer made of them.

    None where nothing but a state is not finite, and it was not before the step.
    """
    _, grads = kernels.without_tape(lifted(step_fn).value_and_grad, params, batch)
    after_it = [("value", after.value), ("params", after.params), ("state", after.state if all_finite(state) else ())]
    for root, numbers in [("params", params), ("batch", batch), ("grads", grads), *after_it]:
        for path, leaf in zip(tree.paths(numbers, root), tree.leaves(numbers), strict=True):
            if not _finite(leaf):
                return Divergence(number, path, after.value.item())
    return None
