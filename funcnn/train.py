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
    if not callable(step_fn):
        raise InputError("step_fn", describe(step_fn), "a StepFn or a callable (params, batch) -> (value, grads)")
    check_params(params)
    provider = step_fn if isinstance(step_fn, StepFn) else _lift(step_fn)
    optimizer = optimizer_fn if isinstance(optimizer_fn, Optimizer) else descend(optimizer_fn)
    params = tree.map(torch.Tensor.detach, params)
    return _steps(provider, optimizer, params, batches, optimizer.init(params) if state is None else state)


def _lift(function: Callable[[Params, Batch], tuple[Tensor, Params]]) -> StepFn:
    """The StepFn of a plain callable, whose gradients nobody has checked yet."""

    def value_and_grad(params: Params, batch: Batch) -> tuple[Tensor, Params]:
        value, grads = function(params, batch)
        check_value("step_fn(params, batch)[0]", value)
        check_like("grads", grads, params)
        return value, grads

    return StepFn(lambda params, batch: value_and_grad(params, batch)[0], value_and_grad)


def _steps(step_fn: StepFn, optimizer: Optimizer, params: Params, batches: Iterable[Batch], state: State) -> Iterator[Step]:
    # Around each step and not around the loop: a generator must not leave gradients switched off for its caller.
    step = torch.no_grad()(optimizer.step)
    for batch in batches:
        at = StepFn(partial(_at, step_fn.value, batch), partial(_at, step_fn.value_and_grad, batch))
        result = step(at, params, state)
        yield result
        params, state, _ = result


def _at(function: Callable[[Params, Batch], Any], batch: Batch, params: Params) -> Any:
    return function(params, batch)
