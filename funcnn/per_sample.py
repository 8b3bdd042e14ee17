"""What a batch hides: the gradient of each of its samples, their norms, and their mean after clipping.

A gradient provider returns g = 1/N sum_n g_n, where g_n is the gradient of sample n's own loss, the objective on a batch
of that sample alone. Three functions give access to the terms:

    per_sample(step_fn)                 g_1, ..., g_N                                   N times the parameters
    per_sample_norms(objective)         |g_1|, ..., |g_N|                               (N,)
    per_sample_clip(objective, c)       1/N sum_n min(1, c / |g_n|) g_n                 as large as the parameters

where |g_n| is the Euclidean norm over all parameters together. Clipping bounds what any single sample can do to a step:
it tames outliers, and is the first half of differentially private training (Abadi et al., "Deep learning with
differential privacy", 2016, arXiv:1607.00133; the second half, the noise, is for the caller to add).

Where the objective says what it is made of (`supervised` does), one backward pass for the whole batch does the work, and the
last two never form a g_n: see `factored`. The clipped mean takes no second pass, because the backward pass is linear in
dy, row by row: scaling the loss of sample n by c_n scales row n of every dy by c_n. Any other objective takes the general
way: torch.func.vmap over func_grad, memory for N gradients included.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import tree
from .errors import InputError, check_batch, check_number, describe
from .factored import Factored, backpropagation, norms, weighted_sum
from .providers import func_grad
from .types import Batch, Objective, Params, StepFn


def per_sample(step_fn: StepFn | Callable[[Params, Batch], Any]) -> Callable[[Params, Batch], Any]:
    """The step function of every sample at once: values (N,), gradients with a leading N.

    Each sample counts as a batch of one. For a loss that is a mean over the batch the mean of the per-sample gradients is
    the batch gradient. A StepFn that knows a shorter way takes it (`explicit` of a `supervised` objective); for all others
    it is torch.func.vmap over the batch.

    Raises (when called):
        InputError: an empty batch, or leaves that disagree on N; whatever step_fn refuses.
    """
    if not callable(step_fn):
        raise InputError("step_fn", describe(step_fn), "a StepFn, such as explicit(objective), or a callable")
    if isinstance(step_fn, StepFn) and step_fn.per_sample is not None:
        return step_fn.per_sample

    def call(params: Params, batch: Batch) -> Any:
        check_batch(batch)
        samples, unflatten = tree.flatten(batch)

        def single(sample: list[Tensor]) -> Any:
            return step_fn(params, unflatten([leaf.unsqueeze(0) for leaf in sample]))

        return torch.func.vmap(single)(samples)

    return call


def per_sample_norms(objective: Objective) -> Callable[[Params, Batch], Tensor]:
    """The function (params, batch) -> |g_n| of shape (N,), the Euclidean norm of each sample's whole gradient.

    Raises (when called):
        InputError: whatever explicit refuses, or func_grad for an objective that was not made by `supervised`.
    """
    gradients = _gradients(objective)
    return lambda params, batch: _whole_norms(*gradients(params, batch))


def per_sample_clip(objective: Objective, max_norm: float) -> StepFn:
    """The provider whose gradient is 1/N sum_n min(1, max_norm / |g_n|) g_n; its value is that of the objective.

    No sample moves the gradient by more than max_norm / N, and where no |g_n| exceeds max_norm it is that of `explicit`
    (but for a loss that clips by itself: that clips each sample here, the mean there). A sample of gradient 0 adds 0.

    Raises:
        InputError: max_norm is no positive number; when called, as `per_sample_norms`.
    """
    check_number("max_norm", max_norm, minimum=torch.finfo(torch.float64).tiny)
    gradients = _gradients(objective)
    means = objective.parts is not None and objective.parts[1].terms is not None  # else only the objective knows

    def value_and_grad(params: Params, batch: Batch) -> tuple[Tensor, Params]:
        values, terms = gradients(params, batch)
        value = values.mean() if means else objective.value(params, batch)
        # Where a norm is 0 the quotient is infinite and the factor 1, which makes 0 of a gradient that is 0.
        weights = (max_norm / _whole_norms(values, terms)).clamp(max=1) / len(values)
        return value, tree.map(lambda term: weighted_sum(weights, term), terms)

    return StepFn(func_grad(objective).value, value_and_grad)


def _gradients(objective: Objective) -> Callable[[Params, Batch], tuple[Tensor, Factored]]:
    """Values and per-sample gradients, in factored form where the objective says what it is made of."""
    if not isinstance(objective, Objective):
        raise InputError("objective", describe(objective), "an Objective, such as supervised(layer, loss)")
    return per_sample(func_grad(objective)) if objective.parts is None else backpropagation(*objective.parts)


def _whole_norms(values: Tensor, gradients: Factored) -> Tensor:
    """The Euclidean norm of each sample's gradient over all parameters; there may be none, and then it is 0."""
    parts = [norms(gradient) for gradient in tree.leaves(gradients)] or [torch.zeros_like(values)]
    whole: Tensor = torch.linalg.vector_norm(torch.stack(parts), dim=0)
    return whole
