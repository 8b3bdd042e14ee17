"""Reverse mode, three times: by rules derived by hand, by a transform of the function, and by a tape."""

import torch
from torch import Tensor

from .. import tree
from ..errors import InputError
from ..types import Batch, GradientFn, Objective, Params, StepFn, ValueFn
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

    def gradient(value: ValueFn) -> GradientFn:
        # Torch's own pytree and optree disagree on some trees (None, the order of dicts), so torch sees a plain list.
        def value_and_grad(params: Params, batch: Batch) -> tuple[Tensor, Params]:
            leaves, unflatten = tree.flatten(params)
            grads, value_ = torch.func.grad_and_value(lambda leaves: value(unflatten(leaves), batch))(leaves)
            return value_, unflatten(grads)

        return value_and_grad

    return provider("func_grad", objective, gradient)


def autograd(objective: Objective) -> StepFn:
    """Classic torch.autograd.grad on detached copies: no `.grad` is written, and no graph of plain tensors outlives it.

    Where the value does not depend on a parameter its gradient is 0, as for func_grad.
    """

    def gradient(value: ValueFn) -> GradientFn:
        def value_and_grad(params: Params, batch: Batch) -> tuple[Tensor, Params]:
            leaves, unflatten_params = tree.flatten(params)
            samples, unflatten_batch = tree.flatten(batch)

            def on_leaves(*tensors: Tensor) -> Tensor:
                own, rest = list(tensors[: len(leaves)]), list(tensors[len(leaves) :])
                return value(unflatten_params(own), unflatten_batch(rest))

            value_, *grads = on_tape(on_leaves, len(leaves), *leaves, *samples)
            return value_, unflatten_params(grads)

        return value_and_grad

    return provider("autograd", objective, gradient)
