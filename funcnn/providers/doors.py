"""The public door of a provider: parameters, batch and result are looked at once, here."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import kernels, tree
from ..errors import InputError, called, check_pair, check_value, describe
from ..objectives import of_some
from ..operands import check_batch, check_like, check_params, check_undivided
from ..purity import Unwritten
from ..refusals import refused_by_torch
from ..types import Batch, GradientFn, Objective, Params, StepFn, ValueFn, name

META = attrgetter("is_meta")


class Value(NamedTuple):
    """A value of (params, batch) behind its door; `function` is what lies behind it, with all that it knows of itself."""

    function: ValueFn

    def __call__(self, params: Params, batch: Batch) -> Tensor:
        """The value, a scalar."""
        leaves = [*check_params(params), *check_batch(batch)]
        value: Tensor = undisturbed("objective.value(params, batch)", leaves, self.scalar, params, batch)
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
        leaves = [*check_params(params), *check_batch(batch)]
        place = "objective.value_and_grad(params, batch)"
        result = undisturbed(place, leaves, called, place, self.function, params, batch)
        return fitting(place, result, params)

    def of_some(self, params: Params, batch: Batch, trained: list[bool]) -> tuple[Tensor, list[Tensor]]:
        """The value and the gradients of the trained leaves, by what costs no more than these."""
        leaves = [*check_params(params), *check_batch(batch)]
        place = "objective.value_and_grad(params, batch)"
        value, grads = undisturbed(place, leaves, of_some, self.function, params, batch, trained)
        own, unflatten = tree.flatten(params)
        _, frozen = tree.parted(own, trained)
        fitting(place, (value, unflatten(tree.joined(grads, frozen, trained))), params)
        return value, grads

    def __repr__(self) -> str:
        """The provider, and what it differentiates."""
        return f"{self.provider}({name(self.value)})"


class LeafByLeaf(NamedTuple):
    """A gradient by a rule that takes what leaves it is wanted of: (params, batch, trained) -> (value, their gradients)."""

    rule: Callable[[Params, Batch, list[bool]], tuple[Tensor, list[Tensor]]]

    def __call__(self, params: Params, batch: Batch) -> tuple[Tensor, Params]:
        """(value, grads), of all of them."""
        leaves, unflatten = tree.flatten(params)
        value, grads = self.rule(params, batch, [True] * len(leaves))
        return value, unflatten(grads)

    def of_some(self, params: Params, batch: Batch, trained: list[bool]) -> tuple[Tensor, list[Tensor]]:
        """The same, of some of them."""
        return self.rule(params, batch, trained)


class Lifted(NamedTuple):
    """A plain function (params, batch) -> (value, grads), with results that are looked at."""

    function: Callable[[Params, Batch], Any]
    place: str

    def __call__(self, params: Params, batch: Batch) -> tuple[Tensor, Params]:
        """(value, grads)."""
        place, leaves = f"{self.place}(params, batch)", [*tree.leaves(params), *tree.leaves(batch)]
        with Unwritten(place, leaves):
            result = called(place, self.function, params, batch)
        return fitting(place, result, params)

    def value(self, params: Params, batch: Batch) -> Tensor:
        """The value alone, which is not to be had without the gradient."""
        return self(params, batch)[0]

    def __repr__(self) -> str:
        """What was lifted."""
        return name(self.function)


class EntryByEntry(NamedTuple):
    """A gradient whose every entry is found by itself, by a rule (params, batch, entries) -> (value, slopes).

    `entries` has the flat indices of those that are wanted of each leaf, and `slopes` the derivatives with respect to these.
    """

    rule: Callable[[Params, Batch, list[Tensor]], tuple[Tensor, list[Tensor]]]

    def __call__(self, params: Params, batch: Batch) -> tuple[Tensor, Params]:
        """(value, grads), of all of them."""
        leaves, unflatten = tree.flatten(params)
        value, grads = self.of_some(params, batch, [True] * len(leaves))
        return value, unflatten(grads)

    def of_some(self, params: Params, batch: Batch, trained: list[bool]) -> tuple[Tensor, list[Tensor]]:
        """The same, of all entries of some leaves, which must be at hand."""
        leaves = tree.leaves(params)
        for leaf in leaves:
            check_undivided("params", leaf)
        entries = [torch.arange(leaf.numel() * own, device=leaf.device) for leaf, own in zip(leaves, trained, strict=True)]
        value, slopes = self.rule(params, batch, entries)
        own, _ = tree.parted([*zip(slopes, leaves, strict=True)], trained)
        return value, [slope.reshape(leaf.shape) for slope, leaf in own]


def undisturbed(place: str, leaves: list[Any], call: Callable[..., Any], *arguments: Any) -> Any:
    """What a call returns that leaves the leaves of its arguments as they are, with torch's modes from before.

    Raises InputError where it does not, or torch fails at leaves on several devices.
    """
    if len(set(map(META, leaves))) > 1:  # of which torch makes numbers, whatever there is in memory
        raise InputError(place, _devices(leaves), f"all on one, such as {leaves[0].device}")
    try:
        with Unwritten(place, leaves):
            return kernels.undisturbed(call, *arguments)
    except RuntimeError as error:
        if refusal := refused_by_torch(place, error):
            raise refusal from None
        if len({leaf.device for leaf in leaves}) > 1:
            raise InputError(place, _devices(leaves), f"all on one, such as {leaves[0].device}") from None
        raise


def _devices(leaves: list[Any]) -> str:
    return f"tensors on {' and '.join(sorted({str(leaf.device) for leaf in leaves}))}"


def provider(
    name: str, objective: Objective, gradient: Callable[[ValueFn], Any], kind: Callable[[Any], Any] = LeafByLeaf
) -> StepFn:
    """The StepFn of an objective and of a rule that makes a gradient, leaf by leaf or entry by entry, of its value."""
    check_objective(objective)
    value = Value(objective.value)
    return StepFn(value, Gradient(kind(gradient(value.scalar)), name, objective.value))


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
        for part in ("value", "value_and_grad"):
            if not callable(getattr(step_fn, part)):
                raise InputError(f"{place}.{part}", describe(getattr(step_fn, part)), "a function of (params, batch)")
        return step_fn
    if not callable(step_fn) or isinstance(step_fn, Objective):
        raise InputError(place, describe(step_fn), "a StepFn or a callable (params, batch) -> (value, grads)")
    plain = Lifted(step_fn, place)
    return StepFn(plain.value, plain)


def origin(step_fn: StepFn) -> Any:
    """What makes a step function the one that it is: the plain function that was lifted, or itself."""
    plain = step_fn.value_and_grad
    return plain.function if isinstance(plain, Lifted) and step_fn.value == plain.value else step_fn


def fitting(place: str, result: Any, params: Params) -> tuple[Tensor, Params]:
    """What a rule returned, (value, grads), with the gradients in the containers of the parameters.

    Raises InputError unless it is a pair of a scalar and of gradients like the parameters.
    """
    check_pair(place, result, "(value, grads)")
    value, grads = result
    check_value(f"{place}[0]", value)
    leaves, spec = check_like("grads", grads, params)
    return value, spec.unflatten(leaves)
