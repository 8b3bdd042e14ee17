"""What a batch hides: the gradient of each of its samples, their norms, and their mean after clipping.

A gradient provider returns g = 1/N sum_n g_n, where g_n is the gradient of sample n's own loss, the objective on a batch
of that sample alone. Three functions give access to the terms:

    per_sample(step_fn)               g_1, ..., g_N                                   N times the parameters
    per_sample_norms(step_fn)         |g_1|, ..., |g_N|                               (N,)
    per_sample_clip(step_fn, c)       1/N sum_n min(1, c / |g_n|) g_n                 as large as the parameters

where |g_n| is the Euclidean norm over all parameters together. Clipping bounds what any single sample can do to a step:
it tames outliers, and is the first half of differentially private training (Abadi et al., "Deep learning with
differential privacy", 2016, arXiv:1607.00133; the second half, the noise, is for the caller to add).

Where the gradient is backpropagated by rules that have summands (`explicit` of a `supervised` objective), one pass for the
whole batch does the work, and the last two never form a g_n: see `layers.factors`. The clipped mean takes no second pass,
because the backward pass is linear in dy, row by row: scaling the loss of sample n by c_n scales row n of every dy by c_n.
A sum of such objectives and penalties is taken term by term, and its N gradients are formed: see `sums`.
Any other provider takes the general way: torch.func.vmap over batches of one, memory for N gradients included; of a batch
with strings, one for each sample, it is a loop.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import kernels, tree
from .batches import by_samples, samples
from .errors import InputError, check_autocast, check_number, describe
from .layers.factors import Rows, Summands
from .losses import Mean
from .memory import check_memory
from .objectives import Backpropagated
from .operands import check_batch, check_like, check_params
from .providers.doors import behind_door, fitting, lifted, undisturbed
from .providers.drawn import drawn, given
from .sums import samples_of
from .types import Batch, Params, StepFn


def per_sample(step_fn: StepFn | Callable[[Params, Batch], Any]) -> Callable[[Params, Batch], tuple[Tensor, Params]]:
    """The step function of every sample at once: (params, batch) -> values (N,), gradients with a leading N.

    Each sample counts as a batch of one. For a loss that is a mean over the batch the mean of the per-sample gradients is
    the batch gradient.

    Raises (when called):
        InputError: an empty batch, or leaves that disagree on N; more gradients than there is memory for; whatever step_fn
            refuses.
    """
    gradients = _summands(step_fn)

    def values_and_gradients(params: Params, batch: Batch) -> tuple[Tensor, Params]:
        check_params(params)
        check_batch(batch)
        _check_room(params, batch)
        values, summands = gradients(params, batch)
        return values, tree.map(lambda summand: summand.each(), summands)

    return values_and_gradients


def per_sample_norms(step_fn: StepFn | Callable[[Params, Batch], Any]) -> Callable[[Params, Batch], Tensor]:
    """The function (params, batch) -> |g_n| of shape (N,), the Euclidean norm of each sample's whole gradient.

    Of half precision they are in float32, where that overflows in float64: squares leave the range of small dtypes. Those of
    numbers above 1e154 leave that of float64, too: the norm is inf then, or NaN where the other factor is 0.

    Raises (when called):
        InputError: as `per_sample`.
    """
    gradients = _summands(step_fn)
    return lambda params, batch: _norms(*gradients(params, batch))


def per_sample_clip(step_fn: StepFn | Callable[[Params, Batch], Any], max_norm: float) -> StepFn:
    """The provider whose gradient is 1/N sum_n min(1, max_norm / |g_n|) g_n; its value is that of step_fn.

    No sample moves the gradient by more than max_norm / N, and where no |g_n| exceeds max_norm it is that of step_fn (but
    for a loss that clips by itself: that clips each sample here, the mean there). A sample of gradient 0 adds 0.

    Raises:
        InputError: max_norm is no positive number; when called, as `per_sample`.
    """
    max_norm = check_number("max_norm", max_norm, minimum=torch.finfo(torch.float64).tiny)
    provider, gradients = lifted(step_fn), _summands(step_fn)
    rule: Any = behind_door(provider.value_and_grad)
    # The mean of the samples' values is that of the batch where no layer mixes samples; else only step_fn knows it.
    means = isinstance(rule, Backpropagated) and isinstance(rule.loss.forward, Mean)
    means = means and getattr(rule.layer.forward, "rowwise", False)

    def value_and_grad(params: Params, batch: Batch) -> tuple[Tensor, Params]:
        values, summands = gradients(params, batch)
        value = values.mean() if means else provider.value(params, batch)
        norms = _norms(values, summands)
        # Where a norm is 0 the quotient is infinite and the factor 1, which makes 0 of a gradient that is 0. A norm that
        # overflows says nothing of the gradient, which must not be taken for 0.
        weights = torch.where(norms.isinf(), torch.nan, (max_norm / norms).clamp(max=1)) / len(values)
        return value, tree.map(lambda summand: summand.weighted(weights), summands)

    return StepFn(provider.value, value_and_grad)


def _summands(step_fn: StepFn | Callable[[Params, Batch], Any]) -> Callable[[Params, Batch], tuple[Tensor, Summands]]:
    """The values (N,), and the gradients of the samples as a tree of Outer and Rows, like the parameters'."""
    provider = lifted(step_fn)
    rule: Any = behind_door(provider.value_and_grad)

    def by_vmap(params: Params, batch: Batch) -> tuple[Tensor, Summands]:
        settled = given(provider, drawn(provider, params))

        def single(sample: Batch) -> tuple[Tensor, Params]:
            return fitting("step_fn(params, batch)", settled(params, sample), params)

        values, grads = by_samples(single, batch)
        return values, tree.map(Rows, grads)

    gradients = samples_of(rule) or by_vmap

    def call(params: Params, batch: Batch) -> tuple[Tensor, Summands]:
        check_autocast()
        tensors = [*check_params(params), *check_batch(batch)]
        if not samples(batch):
            raise InputError("batch", describe(batch), "at least one tensor, with a sample in every row")
        if not isinstance(rule, Backpropagated):
            _check_room(params, batch)
        values, summands = undisturbed("step_fn(params, batch)", tensors, gradients, params, batch)
        leaves, spec = check_like("grads", summands, params, exactly=False)
        return values, spec.unflatten(leaves)

    return call


def _check_room(params: Params, batch: Batch) -> None:
    """Raises InputError unless the gradients of all samples fit into memory."""
    leaves, count = tree.leaves(params), samples(batch)
    if leaves:
        size = count * sum(leaf.nbytes for leaf in leaves)
        check_memory("batch", f"{count} samples, each with a gradient,", size, leaves[0].device)


def _norms(values: Tensor, summands: Summands) -> Tensor:
    """The Euclidean norm of each sample's gradient over all parameters, in float32 at least; there may be none: then 0."""

    def whole(dtype: torch.dtype) -> Tensor:
        parts = [summand.norms(dtype) for summand in tree.leaves(summands)] or [torch.zeros_like(values, dtype=dtype)]
        norms: Tensor = torch.linalg.vector_norm(torch.stack(parts), dim=0)
        return norms

    norms = whole(torch.promote_types(values.dtype, torch.float32))
    if kernels.under_transform() or not norms.isinf().any():
        return norms
    return whole(torch.float64)
