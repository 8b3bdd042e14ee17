"""Hyperparameters as functions of the step: what a constructor takes as a number it takes as a function k -> number too.

Steps are counted from 0, as torch.optim.lr_scheduler counts them: the first step is made with the value at k = 0. There is
one mechanism for every constructor: it is called anew at every step, with the numbers of that step, so its equations and its
checks stay what they are, and the state is that of the optimizer beside the number of steps taken.

In an eager step k is a number, and the function may be one of numbers alone (math.cos, `if`). In a compiled or a vmapped
step k is a tensor without axes, which changes while the code does not; so must the value be. It cannot be looked at there,
and one out of range becomes NaN.
"""

import math
from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any, NamedTuple, TypeAlias, TypeVar

import optree
import torch
from torch import Tensor

from .. import kernels, tree
from ..errors import InputError, called, check_number
from ..types import At, Optimizer, Params, State, Step, Transformation, loadable
from .descent import Moving, moving, updated

Schedule: TypeAlias = Callable[[Any], Any]  # the step, 0, 1, ..., to a number; a tensor to a tensor
Hyperparameter: TypeAlias = Any  # a number or a Schedule; once it was looked at a number, or a tensor in a compiled step
Constructor = TypeVar("Constructor", bound=Callable[..., Any])


@loadable
class Scheduled(NamedTuple):
    """The number of steps taken, and the state of the optimizer whose hyperparameters change."""

    steps: Tensor
    state: State


def scheduled(make: Constructor) -> Constructor:
    """The same constructor of a Transformation or an Optimizer, which takes functions of the step for its numbers."""

    @wraps(make)
    def constructor(*args: Any, **kwargs: Any) -> Any:
        if not _change((args, kwargs)):
            return make(*args, **kwargs)
        given: dict[str, Any] = signature(make).bind(*args, **kwargs).arguments
        changing = {name for name, value in given.items() if _change(value)}

        def at(steps: Tensor) -> Any:
            k = steps if kernels.under_transform() else int(steps)
            numbers = {name: at_step(k, name, value) if name in changing else value for name, value in given.items()}
            try:
                made = make(**numbers)
            except InputError as error:
                if error.place.partition("[")[0] not in changing:
                    raise
                raise InputError(f"{error.place} at step {k}", error.got, error.needs) from None
            return _widely(made) if isinstance(made, Transformation) and isinstance(k, Tensor) else made

        return _following(at)

    made: Any = constructor
    return made  # type: ignore[no-any-return]


def _following(at: Callable[[Tensor], Any]) -> Any:
    """The Optimizer or Transformation that is at(k) in step k."""
    first = at(torch.zeros((), dtype=torch.float64, device="cpu"))

    def init(params: Params) -> Scheduled:
        return Scheduled(torch.zeros((), dtype=torch.float64, device="cpu"), first.init(params))

    def step(bound: At, params: Params, state: Scheduled) -> Step:
        params, inner, value = at(state.steps).step(bound, params, state.state)
        return Step(params, Scheduled(state.steps + 1, inner), value)

    def update(grads: Params, state: Scheduled, params: Params | None = None) -> tuple[Params, Scheduled]:
        updates, inner = updated(at(state.steps), grads, state.state, params)
        return updates, Scheduled(state.steps + 1, inner)

    def move(params: Params, grads: Params, state: Scheduled) -> tuple[Params, Scheduled]:
        params, inner = moving(at(state.steps))(params, grads, state.state)
        return params, Scheduled(state.steps + 1, inner)

    return Optimizer(init, step) if isinstance(first, Optimizer) else Transformation(init, Moving(update, move))


def _change(given: Any) -> bool:
    """Whether a function of the step is among what is given."""
    try:
        return any(map(callable, optree.tree_leaves(given, is_leaf=callable, none_is_leaf=True)))
    except RecursionError:  # no tree, so that there is none; what is given will be refused
        return False


def at_step(k: Any, name: str, given: Any) -> Any:
    """What is given under a name, with every function of the step replaced by its number at step k."""

    def number(x: Any) -> Any:
        if not callable(x):
            return x
        found = called(f"{name}(step)", x, k)
        return found.item() if isinstance(found, Tensor) and found.ndim == 0 and not isinstance(k, Tensor) else found

    return optree.tree_map(number, given, is_leaf=callable, none_is_leaf=True)


def _widely(own: Transformation) -> Transformation:
    """The same updates, whose numbers are tensors without axes: of leaves that these multiply as a number would.

    Such a tensor makes a leaf without axes one of its own dtype, and is itself rounded to half precision where the leaf is.
    """

    def wide(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not leaf.is_floating_point() or leaf.dtype == torch.float64:
            return leaf
        return leaf.to(torch.float32).reshape(leaf.shape or (1,))

    def update(grads: Params, state: State, params: Params | None = None) -> tuple[Params, State]:
        wider, before, at = tree.map(wide, (grads, state, params))
        found, like = updated(own, wider, before, at), (grads, state)
        narrow: tuple[Params, State] = tree.map(lambda x, y: x.to(y.dtype).reshape(y.shape), found, like)
        return narrow

    return Transformation(own.init, update)


def number(place: str, x: Any, below: float = math.inf, minimum: float = 0.0) -> Any:
    """A hyperparameter as a number; a tensor, which cannot be looked at, as it is where minimum <= x < below, else NaN.

    Raises InputError unless it is one, in that range.
    """
    if isinstance(x, Tensor) and x.ndim == 0 and kernels.under_transform():
        return torch.where((x >= minimum) & (x < below), x.double(), torch.nan)
    return check_number(place, x, minimum, below)


def least(eps: Any, like: Tensor) -> Any:
    """The eps of a quotient, which must not underflow: 0 / (0 + eps) is 0 in every dtype."""
    tiny = torch.finfo(like.dtype).tiny
    return eps.clamp(min=tiny) if isinstance(eps, Tensor) else max(eps, tiny)
