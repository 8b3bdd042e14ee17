"""From a transformation to an optimizer: `descend` takes the gradient, and adds the update to the parameters."""

from collections.abc import Callable
from typing import Any, NamedTuple

from .. import tree
from ..errors import InputError, check_pair, describe, is_dense, of_call
from ..operands import flatten
from ..types import At, Optimizer, Params, State, Step, Transformation


class Moving(NamedTuple):
    """An update (grads, state, params) -> (updates, state) that knows how to be added to the parameters in the same pass.

    move    (params, grads, state) -> (params, state)
    step    (at, params, state) -> Step, where it knows of a gradient to ask for that costs less
    """

    update: Callable[..., tuple[Params, State]]
    move: Callable[[Params, Params, State], tuple[Params, State]]
    step: Callable[[At, Params, State], Step] | None = None

    def __call__(self, grads: Params, state: State, params: Params | None = None) -> tuple[Params, State]:
        """The update alone."""
        return self.update(grads, state, params)


def descend(transformation: Any) -> Optimizer:
    """Lifts a Transformation, ours or any foreign `.init` / `.update` pair such as torchopt's, into an Optimizer.

    The gradient is taken at w, and w <- w + update. Foreign transformations may overwrite what they are given
    (torchopt's do by default), so they are given copies.

    Raises:
        InputError: no `.init` and `.update`; (in a step) updates that do not fit the parameters.
    """
    own = as_transformation(transformation)
    if isinstance(own.update, Moving) and own.update.step is not None:
        return Optimizer(own.init, own.update.step)
    move = moving(own)

    def step(at: At, params: Params, state: State) -> Step:
        value, grads = at(params)
        params, state = move(params, grads, state)
        return Step(params, state, value)

    return Optimizer(own.init, step)


def moving(own: Transformation) -> Callable[[Params, Params, State], tuple[Params, State]]:
    """The step w <- w + update of a transformation, a function (params, grads, state) -> (params, state)."""
    if isinstance(own.update, Moving):
        return own.update.move

    def update_and_add(params: Params, grads: Params, state: State) -> tuple[Params, State]:
        updates, state = updated(own, grads, state, params)
        return tree.add(params, updates, "updates"), state

    return update_and_add


def updated(own: Transformation, grads: Params, state: State, params: Params | None) -> tuple[Params, State]:
    """What an update returns. Raises InputError where that is no pair."""
    place = "optimizer_fn.update(grads, state, params=...)"
    try:
        result: tuple[Params, State] = own.update(grads, state, params=params)
    except TypeError as error:
        raise of_call(place, error, 3) from None
    check_pair(place, result, "(updates, state)")
    return result


def as_transformation(pair: Any, place: str = "optimizer_fn", needs: str = "an Optimizer, or an object") -> Transformation:
    """A Transformation as it is; a foreign pair as one that is given copies. Raises InputError for anything else."""
    for name in ("init", "update"):
        if not callable(getattr(pair, name, None)):
            raise InputError(place, describe(pair), f"{needs} with .init and .update")
    return pair if isinstance(pair, Transformation) else _with_copies(pair)


def _with_copies(foreign: Any) -> Transformation:
    def init(params: Params) -> State:
        return foreign.init(tree.clone(params))

    def update(grads: Params, state: State, params: Params | None = None) -> tuple[Params, State]:
        result: tuple[Params, State] = foreign.update(tree.clone(grads), tree.clone(state), params=tree.clone(params))
        return result

    return Transformation(init, update)


def lift_optimizer(optimizer_fn: Any) -> Optimizer:
    """An Optimizer as it is; a Transformation, ours or foreign, by `descend`. Raises InputError for anything else."""
    return optimizer_fn if isinstance(optimizer_fn, Optimizer) else descend(optimizer_fn)


def check_state(state: State, start: State) -> None:
    """Raises InputError unless a state to go on from is like the one that the optimizer starts with."""
    if state is None:
        return
    (found, spec), (needed, needed_spec) = (flatten("state", tree_) for tree_ in (state, start))
    shapes, needed_shapes = (
        [(tuple(leaf.shape), *["meta"] * leaf.is_meta) if is_dense(leaf) else None for leaf in leaves]
        for leaves in (found, needed)
    )
    if spec != needed_spec or shapes != needed_shapes:
        raise InputError(
            "state", f"{spec} of {shapes}", f"that of this optimizer for these parameters, {needed_spec} of {needed_shapes}"
        )
