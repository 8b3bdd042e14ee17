"""The loop. It neither knows nor cares where a gradient comes from.

    for step in train(step_fn, optimizer_fn, params, batches):
        ...

A generator, so the caller slices, logs, plots, stops and saves with ordinary Python.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from . import kernels, tree
from .errors import InputError, called, describe
from .operands import check_params
from .optimizers.descent import check_state, lift_optimizer
from .providers.doors import lifted
from .purity import Unwritten
from .refusals import refused_by_torch
from .types import At, Batch, Optimizer, Params, State, Step, StepFn

STEP = "optimizer_fn.step(at, params, state)"


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
    provider, optimizer = lifted(step_fn), lift_optimizer(optimizer_fn)
    leaves = check_params(params)
    if not isinstance(batches, Iterable):
        raise InputError("batches", describe(batches), "an iterable of batches, such as [batch] or minibatches(...)")
    params = tree.map(torch.Tensor.detach, params)
    try:
        with Unwritten("optimizer_fn.init(params)", leaves):
            start = called("optimizer_fn.init(params)", optimizer.init, params)
    except RuntimeError as error:
        raise refused_by_torch("params", error) or error from None
    check_state(state, start)
    return _steps(provider, optimizer, params, batches, start if state is None else state)


def _steps(step_fn: StepFn, optimizer: Optimizer, params: Params, batches: Iterable[Batch], state: State) -> Iterator[Step]:
    for index, batch in enumerate(batches):
        # What comes in is the caller's; after the first step it is the optimizer's own.
        leaves = tree.leaves((params, state, batch)) if index == 0 else []
        try:
            with Unwritten(STEP, leaves):
                result = kernels.without_tape(called, STEP, optimizer.step, At(step_fn, batch), params, state)
        except RuntimeError as error:
            raise refused_by_torch("params", error) or error from None
        if not isinstance(result, Step):
            raise InputError(STEP, describe(result), "a Step(params, state, value)")
        yield result
        params, state, _ = result
