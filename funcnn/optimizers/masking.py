"""Frozen parameters: an optimizer that moves some, and asks for no gradient of the others."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from .. import tree
from ..errors import InputError, called, check_flag, describe
from ..objectives import of_some
from ..operands import check_params
from ..types import At, Batch, Optimizer, Params, State, Step, StepFn, Transformation, Tree
from .descent import Moving, as_transformation, lift_optimizer, moving, updated


class Parted(NamedTuple):
    """Parameters in two: those that are trained, and those that stay."""

    trained: list[bool]
    own: list[Tensor]
    frozen: list[Tensor]
    unflatten: Callable[[list[Any]], Params]

    @property
    def part(self) -> Params:
        """The tree of the trained ones, with () in place of each other."""
        return self.of(self.own)

    def of(self, own: list[Tensor]) -> Params:
        """Such a tree of others in their place, as their gradients."""
        return self.unflatten(tree.joined(own, [()] * len(self.frozen), self.trained))

    def whole(self, part: Params) -> Params:
        """All parameters, of such a tree and of those that stay."""
        return self.unflatten(tree.joined(tree.leaves(part), self.frozen, self.trained))

    def step_fn(self, step_fn: StepFn) -> StepFn:
        """The same function of the trained ones alone."""

        def value(part: Params, batch: Batch) -> Tensor:
            return step_fn.value(self.whole(part), batch)

        def value_and_grad(part: Params, batch: Batch) -> tuple[Tensor, Params]:
            value, grads = of_some(step_fn.value_and_grad, self.whole(part), batch, self.trained)
            return value, self.of(grads)

        return StepFn(value, value_and_grad)


def masked(optimizer_fn: Any, mask: Tree) -> Any:
    """The same optimizer for the parameters where the mask is True; the others stay as they are, to the bit.

        masked(adamw(1e-3), {"body": False, "head": True})

    For the optimizer these are all parameters that there are: its state has nothing else, and clip_by_norm, chained within,
    the length of their gradient. For the provider the others are constants: `explicit` ends its pass back at the first layer
    that is trained and skips the products for weights that are not, `func_grad` and `autograd` differentiate with respect
    to fewer, differences move fewer. In a chain, or of a step function of one's own, it costs the whole gradient.

    Args:
        optimizer_fn: A Transformation, a foreign pair, or an Optimizer; what comes back is again one of its kind.
        mask: A tree of True and False like the parameters, or a prefix of it, such as {"body": False, "head": True}.

    Raises:
        InputError: as `train` for an optimizer_fn; a mask of anything but True and False; (in use) of another tree.
    """
    optimizer = lift_optimizer(optimizer_fn)
    for place, leaf in zip(tree.paths(mask, "mask"), tree.leaves(mask), strict=True):
        check_flag(place, leaf)

    def parted(params: Params) -> Parted:
        leaves, unflatten = tree.flatten(params)
        trained = tree.leaves(tree.spread("mask", mask, params))
        return Parted(trained, *tree.parted(leaves, trained), unflatten)

    def init(params: Params) -> State:
        return called("optimizer_fn.init(params)", optimizer.init, parted(params).part)

    def step(at: At, params: Params, state: State) -> Step:
        if not isinstance(at, At):
            raise InputError("at", describe(at), "At(step_fn, batch), which is what train hands to an optimizer")
        both = parted(params)
        part, state, value = optimizer.step(At(both.step_fn(at.step_fn), at.batch), both.part, state)
        return Step(both.whole(part), state, value)

    if isinstance(optimizer_fn, Optimizer):
        return Optimizer(init, step)
    own = as_transformation(optimizer_fn)

    def update(grads: Params, state: State, params: Params | None = None) -> tuple[Params, State]:
        check_params(grads)
        zeros = parted(tree.zeros_like(grads))
        updates, state = updated(own, parted(grads).part, state, None if params is None else parted(params).part)
        return zeros.whole(updates), state

    def move(params: Params, grads: Params, state: State) -> tuple[Params, State]:
        both = parted(params)
        part, state = moving(own)(both.part, parted(grads).part, state)
        return both.whole(part), state

    return Transformation(init, Moving(update, move, step))
