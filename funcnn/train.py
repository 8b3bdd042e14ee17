"""The loop. It neither knows nor cares where a gradient comes from.

    for step in train(step_fn, optimizer_fn, params, batches):
        ...

A generator, so the caller slices, logs, plots, stops and saves with ordinary Python.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from . import tree
from .errors import InputError, check_like, check_params, check_value, describe
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
    params = tree.map(torch.Tensor.detach, params)
    return _steps(provider, optimizer, params, batches, optimizer.init(params) if state is None else state)


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
        value, grads = step_fn(params, batch)
        check_value("step_fn(params, batch)[0]", value)
        check_like("grads", grads, params)
        return value, grads

    return StepFn(lambda params, batch: value_and_grad(params, batch)[0], value_and_grad)


def _steps(step_fn: StepFn, optimizer: Optimizer, params: Params, batches: Iterable[Batch], state: State) -> Iterator[Step]:
    # Around each step and not around the loop: a generator must not leave gradients switched off for its caller.
    step = torch.no_grad()(optimizer.step)
    for batch in batches:
        result = step(bind(step_fn, batch), params, state)
        yield result
        params, state, _ = result


def bind(step_fn: StepFn, batch: Batch) -> StepFn:
    """The same functions with the batch bound: what an optimizer is given."""
    return StepFn(partial(_at, step_fn.value, batch), partial(_at, step_fn.value_and_grad, batch))


def _at(function: Callable[[Params, Batch], Any], batch: Batch, params: Params) -> Any:
    return function(params, batch)
