"""The public door of a provider: parameters, batch and result are looked at once, here."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from .. import kernels
from ..errors import InputError, called, check_batch, check_like, check_pair, check_params, check_value, describe
from ..types import Batch, GradientFn, Objective, Params, StepFn, ValueFn, name


class Value(NamedTuple):
    """A value of (params, batch) behind its door; `function` is what lies behind it, with all that it knows of itself."""

    function: ValueFn

    def __call__(self, params: Params, batch: Batch) -> Tensor:
        """The value, a scalar."""
        check_params(params)
        check_batch(batch)
        value: Tensor = kernels.undisturbed(self.scalar, params, batch)
        return value

    def scalar(self, params: Params, batch: Batch) -> Tensor:
        """The value of operands that were looked at."""
        value: Tensor = called("objective.value(params, batch)", self.function, params, batch)
        check_value("objective.value(params, batch)", value)
        return value

    def __repr__(self) -> str:
        """What lies behind it."""
        return name(self.function)


class Gradient(NamedTuple):
    """A value and its gradient behind their door, which are then those of the parameters, leaf by leaf."""

    function: GradientFn
    provider: str
    value: ValueFn

    def __call__(self, params: Params, batch: Batch) -> tuple[Tensor, Params]:
        """(value, grads), of operands and with results that were looked at."""
        check_params(params)
        check_batch(batch)
        result = kernels.undisturbed(called, "objective.value_and_grad(params, batch)", self.function, params, batch)
        return fitting("objective.value_and_grad(params, batch)", result, params)

    def __repr__(self) -> str:
        """The provider, and what it differentiates."""
        return f"{self.provider}({name(self.value)})"


def provider(name: str, objective: Objective, gradient: Callable[[ValueFn], GradientFn]) -> StepFn:
    """The StepFn of an objective and of a rule that makes a gradient of its value."""
    check_objective(objective)
    value = Value(objective.value)
    return StepFn(value, Gradient(gradient(value.scalar), name, objective.value))


def check_objective(objective: Any) -> None:
    """Raises InputError unless it is an Objective."""
    if not isinstance(objective, Objective):
        raise InputError("objective", describe(objective), "an Objective, such as Objective(f) or supervised(layer, loss)")


def behind_door(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function itself where it stands behind doors of ours, and what it knows of itself with it."""
    while isinstance(function, (Value, Gradient)):
        function = function.function
    return function


def lifted(step_fn: Any, place: str = "step_fn") -> StepFn:
    """A StepFn as it is; a plain callable as one whose results are looked at. Raises InputError for anything else."""
    if isinstance(step_fn, StepFn):
        return step_fn
    if not callable(step_fn) or isinstance(step_fn, Objective):
        raise InputError(place, describe(step_fn), "a StepFn or a callable (params, batch) -> (value, grads)")

    def value_and_grad(params: Params, batch: Batch) -> tuple[Tensor, Params]:
        result = called(f"{place}(params, batch)", step_fn, params, batch)
        return fitting(f"{place}(params, batch)", result, params)

    return StepFn(lambda params, batch: value_and_grad(params, batch)[0], value_and_grad)


def fitting(place: str, result: Any, params: Params) -> tuple[Tensor, Params]:
    """What a rule returned, (value, grads), with the gradients in the containers of the parameters.

    Raises InputError unless it is a pair of a scalar and of gradients like the parameters.
    """
    check_pair(place, result, "(value, grads)")
    value, grads = result
    check_value(f"{place}[0]", value)
    leaves, spec = check_like("grads", grads, params)
    return value, spec.unflatten(leaves)
