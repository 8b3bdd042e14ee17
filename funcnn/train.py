"""The loop. It neither knows nor cares where a gradient comes from.

    for step in train(step_fn, optimizer_fn, params, batches):
        ...

A generator, so the caller slices, logs, plots, stops and saves with ordinary Python.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import optree
import torch
from torch import Tensor

from . import tree
from .errors import InputError, check_like, check_pair, check_params, check_value, describe
from .optimizers import descend
from .types import Batch, Optimizer, Params, State, Step, StepFn


def train(
    step_fn: Callable[[Params, Batch], tuple[Tensor, Params]],
    optimizer_fn: Any,
    params: Params,
    batches: Iterable[Batch],
    *,
    state: State = None,
) -> Iterator[Step]:
    """One optimizer step per batch, each yielded as Step(params, state, value).

    The value is that of the batch before the step, as the optimizer evaluated it. Memory stays flat: no graph is kept.

    Args:
        step_fn: A StepFn, or any callable (params, batch) -> (value, grads).
        optimizer_fn: An Optimizer, a Transformation, or a foreign `.init` / `.update` pair (see `descend`).
        params: Where to start; left as it is.
        batches: Any iterable, such as `minibatches(...)` or `itertools.repeat(batch)`.
        state: The optimizer's state to go on from; None begins anew.

    Raises:
        InputError: parameters that are no floating tensors, a step_fn or optimizer_fn of another kind: all at once, not
            at the first step. Then whatever step_fn refuses.
    """
    provider, optimizer = lift_step_fn(step_fn), lift_optimizer(optimizer_fn)
    check_params(params)
    if not isinstance(batches, Iterable):
        raise InputError("batches", describe(batches), "an iterable of batches, such as [batch] or minibatches(...)")
    params = tree.map(torch.Tensor.detach, params)
    start = optimizer.init(params)
    check_state(state, start)
    return _steps(provider, optimizer, params, batches, start if state is None else state)


def lift_optimizer(optimizer_fn: Any) -> Optimizer:
    """An Optimizer as it is; a Transformation, ours or foreign, by `descend`. Raises InputError for anything else."""
    return optimizer_fn if isinstance(optimizer_fn, Optimizer) else descend(optimizer_fn)


def lift_step_fn(step_fn: Any) -> StepFn:
    """A StepFn as it is; a plain callable as one whose results are checked. Raises InputError for anything else."""
    if isinstance(step_fn, StepFn):
        return step_fn
    if not callable(step_fn):
        raise InputError("step_fn", describe(step_fn), "a StepFn or a callable (params, batch) -> (value, grads)")

    def value_and_grad(params: Params, batch: Batch) -> tuple[Tensor, Params]:
        result = step_fn(params, batch)
        check_pair("step_fn(params, batch)", result, "(value, grads)")
        value, grads = result
        check_value("step_fn(params, batch)[0]", value)
        check_like("grads", grads, params)
        return value, grads

    return StepFn(lambda params, batch: value_and_grad(params, batch)[0], value_and_grad)


def _steps(step_fn: StepFn, optimizer: Optimizer, params: Params, batches: Iterable[Batch], state: State) -> Iterator[Step]:
    # Around each step and not around the loop: a generator must not leave gradients switched off for its caller.
    step = torch.no_grad()(optimizer.step)
    for batch in batches:
        result = step(bind(step_fn, batch), params, state)
        if not isinstance(result, Step):
            raise InputError("optimizer_fn.step(at, params, state)", describe(result), "a Step(params, state, value)")
        yield result
        params, state, _ = result


def check_state(state: State, start: State) -> None:
    """Raises InputError unless a state to go on from is like the one that the optimizer starts with."""
    if state is None:
        return
    (found, spec), (needed, needed_spec) = (optree.tree_flatten(tree_, none_is_leaf=True) for tree_ in (state, start))
    shapes, needed_shapes = ([getattr(leaf, "shape", None) for leaf in leaves] for leaves in (found, needed))
    if spec != needed_spec or shapes != needed_shapes:
        raise InputError(
            "state", f"{spec} of {shapes}", f"that of this optimizer for these parameters, {needed_spec} of {needed_shapes}"
        )


def bind(step_fn: StepFn, batch: Batch) -> StepFn:
    """The same functions with the batch bound: what an optimizer is given."""
    return StepFn(partial(_at, step_fn.value, batch), partial(_at, step_fn.value_and_grad, batch))


def _at(function: Callable[[Params, Batch], Any], batch: Batch, params: Params) -> Any:
    return function(params, batch)
