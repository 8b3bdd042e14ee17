"""Gradient providers: five ways to differentiate one objective, all of one type.

    explicit            the rules derived by hand
    func_grad           torch.func.grad: transforms the function
    autograd            torch.autograd.grad: records a tape, the classic PyTorch way
    finite_difference   no derivative at all, only values (in its own module)
    complex_step        values at complex parameters, where the objective is analytic (in its own module)

Each turns an `Objective` into a `StepFn`, so any one can train, and any one can check another.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from . import tree
from .complex_step import complex_step_gradient
from .errors import InputError, check_batch, check_like, check_params, check_value, describe
from .factored import per_sample_gradients
from .finite_difference import difference_gradient
from .models import is_known
from .tape import on_tape
from .types import Batch, Known, Objective, Params, StepFn

ValueFn = Callable[[Params, Batch], Tensor]


def explicit(objective: Objective) -> StepFn:
    """The hand-derived rules. Costs one forward and one backward pass, with no tape.

    For an objective made by `supervised` the gradients per sample cost one pass too: see `factored`.

    Raises:
        InputError: the objective has no hand-derived gradient, or (when called) one that does not fit the parameters.
    """
    _check_objective(objective)
    if objective.value_and_grad is None:
        needs = "a hand-derived one; func_grad, autograd, finite_difference and complex_step do without"
        raise InputError("objective.value_and_grad", "None", needs)
    derived = objective.value_and_grad

    def value_and_grad(params: Params, batch: Batch) -> tuple[Tensor, Params]:
        value, grads = derived(params, batch)
        check_value("objective.value_and_grad(params, batch)[0]", value)
        check_like("grads", grads, params)
        return value, grads

    if objective.parts is None:
        return _provider(objective, lambda value: value_and_grad)
    layer, loss = objective.parts
    trusted = is_known(layer) and loss.terms is not None  # rules of this library compose to what fits
    rule = derived if trusted else value_and_grad
    return _provider(objective, lambda value: rule, {"per_sample": per_sample_gradients(layer, loss)})


def func_grad(objective: Objective) -> StepFn:
    """torch.func.grad. A parameter that the value does not depend on has gradient 0, as has one that it closes over."""

    def differentiate(value: ValueFn) -> Callable[[Params, Batch], tuple[Tensor, Params]]:
        # Torch's own pytree and optree disagree on some trees (None, the order of dicts), so torch sees a plain list.
        def value_and_grad(params: Params, batch: Batch) -> tuple[Tensor, Params]:
            leaves, unflatten = tree.flatten(params)
            grads, value_ = torch.func.grad_and_value(lambda leaves: value(unflatten(leaves), batch))(leaves)
            return value_, unflatten(grads)

        return value_and_grad

    return _provider(objective, differentiate)


def autograd(objective: Objective) -> StepFn:
    """Classic torch.autograd.grad on detached copies: no `.grad` is written, and no graph of plain tensors outlives it.

    Where the value does not depend on a parameter its gradient is 0, as for func_grad.
    """

    def differentiate(value: ValueFn) -> Callable[[Params, Batch], tuple[Tensor, Params]]:
        def value_and_grad(params: Params, batch: Batch) -> tuple[Tensor, Params]:
            leaves, unflatten_params = tree.flatten(params)
            samples, unflatten_batch = tree.flatten(batch)

            def on_leaves(*tensors: Tensor) -> Tensor:
                own, rest = list(tensors[: len(leaves)]), list(tensors[len(leaves) :])
                return value(unflatten_params(own), unflatten_batch(rest))

            value_, *grads = on_tape(on_leaves, len(leaves), *leaves, *samples)
            return value_, unflatten_params(grads)

        return value_and_grad

    return _provider(objective, differentiate)


def finite_difference(
    objective: Objective, scheme: str = "central", step: float | None = None, chunk_size: int | None = None
) -> StepFn:
    """Difference quotients of the value, one parameter at a time, many of them at once: see `difference_gradient`.

        forward   (f(w + h e_i) - f(w)) / h              error O(h)
        backward  (f(w) - f(w - h e_i)) / h              error O(h)
        central   (f(w + h e_i) - f(w - h e_i)) / (2 h)  error O(h^2)

    Args:
        objective: Any objective; it must run under torch.func.vmap. A `supervised` one is not evaluated where a
            perturbation changes nothing, which makes it faster by orders of magnitude: see `perturbation`.
        scheme: "forward", "backward" or "central".
        step: h, the same for every parameter. None scales it to the parameter and to its dtype.
        chunk_size: How many parameters are perturbed at once. None bounds the memory by their sizes.

    Raises:
        InputError: an unknown scheme; a step or chunk_size that is not positive.
    """
    gradient = difference_gradient(objective, scheme, step, chunk_size)
    return _provider(objective, lambda value: partial(gradient, value))


def complex_step(objective: Objective, step: float | None = None, chunk_size: int | None = None) -> StepFn:
    """The imaginary part of the value where one parameter is complex, Im f(w + i h e_j) / h: see `complex_step_gradient`.

    The error is O(h^2) and rounding alone, for nothing is subtracted. One complex value a parameter, as many of them at
    once as for `finite_difference`. All floating tensors, those of the batch too, are of complex128 in these evaluations.

    Args:
        objective: One that is analytic and runs under torch.func.vmap.
        step: h, the same for every parameter. None takes 1e-50.
        chunk_size: How many parameters are moved at once. None bounds the memory by their sizes.

    Raises:
        InputError: a step or chunk_size that is not positive; (when called) an operation that is not analytic (relu, abs,
            max, a comparison, a real part) or that torch lacks for complex numbers: the message names it.
    """
    gradient = complex_step_gradient(objective, step, chunk_size)
    return _provider(objective, lambda value: partial(gradient, value))


def _check_objective(objective: Objective) -> None:
    if not isinstance(objective, Objective):
        raise InputError("objective", describe(objective), "an Objective, such as Objective(f) or supervised(layer, loss)")


def _provider(
    objective: Objective,
    differentiate: Callable[[ValueFn], Callable[[Params, Batch], tuple[Tensor, Params]]],
    facts: dict[str, Any] | None = None,
) -> StepFn:
    """The StepFn of an objective and a rule that differentiates functions, with every input checked first."""
    _check_objective(objective)

    def scalar(params: Params, batch: Batch) -> Tensor:
        value = objective.value(params, batch)
        check_value("objective.value(params, batch)", value)
        return value

    def checked(function: Callable[[Params, Batch], Any]) -> Callable[[Params, Batch], Any]:
        def call(params: Params, batch: Batch) -> Any:
            check_params(params)
            check_batch(batch)
            return function(params, batch)

        return call

    value, value_and_grad = checked(scalar), checked(differentiate(scalar))
    return StepFn(value, value_and_grad, Known((value, value_and_grad), {"objective": objective} | (facts or {})))


PROVIDERS: dict[str, Callable[[Objective], StepFn]] = {
    "explicit": explicit,
    "func_grad": func_grad,
    "autograd": autograd,
    "forward_difference": partial(finite_difference, scheme="forward"),
    "backward_difference": partial(finite_difference, scheme="backward"),
    "central_difference": partial(finite_difference, scheme="central"),
    "complex_step": complex_step,
}
