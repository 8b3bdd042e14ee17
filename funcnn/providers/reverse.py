"""Reverse mode, three times: by rules derived by hand, by a transform of the function, and by a tape."""

from typing import Any

import torch
from torch import Tensor

from .. import tree
from ..batches import tensors
from ..errors import InputError
from ..types import Batch, Objective, Params, StepFn, ValueFn
from .doors import Gradient, Value, check_objective, provider
from .tape import on_tape


def explicit(objective: Objective) -> StepFn:
    """The hand-derived rules. Costs one forward and one backward pass, with no tape.

    Raises:
        InputError: the objective has no hand-derived gradient, or (when called) one that does not fit the parameters.
    """
    check_objective(objective)
    if objective.value_and_grad is None:
        needs = "a hand-derived one; func_grad, autograd, finite_difference and complex_step do without"
        raise InputError("objective.value_and_grad", "None", needs)
    return StepFn(Value(objective.value), Gradient(objective.value_and_grad, "explicit", objective.value))


def func_grad(objective: Objective) -> StepFn:
    """torch.func.grad. A parameter that the value does not depend on has gradient 0, as has one that it closes over."""

    def gradient(value: ValueFn) -> Any:
        # Torch's own pytree and optree disagree on some trees (None, the order of dicts), so torch sees a plain list.
        def of_leaves(params: Params, batch: Batch, trained: list[bool]) -> tuple[Tensor, list[Tensor]]:
            leaves, unflatten = tree.flatten(params)
            own, frozen = tree.parted(leaves, trained)

            def on_own(own: list[Tensor]) -> Tensor:
                return value(unflatten(tree.joined(own, frozen, trained)), batch)

            grads, value_ = torch.func.grad_and_value(on_own)(own)
            return value_, grads

        return of_leaves

    return provider("func_grad", objective, gradient)


def autograd(objective: Objective) -> StepFn:
    """Classic torch.autograd.grad on detached copies: no `.grad` is written, and no graph of plain tensors outlives it.

    Where the value does not depend on a parameter its gradient is 0, as for func_grad.
    """

    def gradient(value: ValueFn) -> Any:
        def of_leaves(params: Params, batch: Batch, trained: list[bool]) -> tuple[Tensor, list[Tensor]]:
            leaves, unflatten_params = tree.flatten(params)
            samples, unflatten_batch = tensors(batch)
            own, frozen = tree.parted(leaves, trained)

            def on_leaves(*operands: Tensor) -> Tensor:
                own, rest = list(operands[: sum(trained)]), list(operands[sum(trained) :])
                params = unflatten_params(tree.joined(own, rest[: len(frozen)], trained))
                return value(params, unflatten_batch(rest[len(frozen) :]))

            value_, *grads = on_tape(on_leaves, len(own), *own, *frozen, *samples)
            return value_, grads

        return of_leaves

    return provider("autograd", objective, gradient)
