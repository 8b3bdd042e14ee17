"""Data parallel: every rank has some of the samples, and all have the mean of their gradients.

Let rank r have N_r samples, and let v_r and g_r be the means of their values and gradients. Those of all N samples are

    v = 1/N sum_r N_r v_r        g = 1/N sum_r N_r g_r        N = sum_r N_r

whatever the shares are: equal ones, unequal ones, none. So the ranks add up one vector, (N_r g_r, N_r v_r, N_r), by one
all-reduce, and each divides what it gets by its last number. The mean over ranks, which torch's DistributedDataParallel
takes, is the same for equal shares alone.

The sum has the same bits on every rank, and so have the parameters as long as all begin with the same: nothing is sent but
gradients. It is in float32 at least, for N would be rounded in less.
"""

from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import tree
from ..batches import rows as chosen
from ..batches import samples
from ..errors import InputError, describe
from ..objectives import of_some
from ..operands import check_batch, check_params
from ..providers.doors import behind_door, lifted
from ..types import Batch, Params, StepFn, name
from .factors import counted, exchanging, factored, may_be_smaller, total
from .ranks import Group, check_alone, check_group, rank, size, summed

Share = Callable[[Batch], Batch]


def data_parallel(
    step_fn: StepFn | Callable[[Params, Batch], Any], *, share: Share | None = None, group: Group = None
) -> StepFn:
    """The provider whose value and gradient are the means over the samples of all ranks; each has the same bits of them.

        train(data_parallel(explicit(objective)), optimizer, params, own_batches)
        fit(data_parallel(explicit(objective), share=rows), optimizer, params, data, ...)

    The batch is that of the rank, which may have no samples; all begin with the same parameters. With `share` the batch
    is that of all ranks, and `share(batch)` the part of this one. Where the factors of a gradient are smaller than it is,
    the ranks exchange factors: see `distributed.factors`.

    Whatever mixes the samples of a batch, as batch norm does, sees those of the rank. Values are in float32 at least.

    Args:
        step_fn: Any provider.
        share: A function of the whole batch, such as `rows`; None where each rank comes with its own.
        group: A process group of torch.distributed; None is all ranks.

    Raises:
        InputError: step_fn as for `train`; no process group; (when called) inside a transform, a tape or a tracer; no rank
            has a sample; whatever step_fn refuses.
        RankEnded: (when called) another rank ended.
    """
    provider = lifted(step_fn)
    check_group("data_parallel(step_fn)", group)
    if share is not None and not callable(share):
        raise InputError("data_parallel(share)", describe(share), "a function of a batch, such as rows, or None")
    return StepFn(MeanValue(provider, share, group), MeanGradient(provider, share, group))


def rows(batch: Batch) -> Batch:
    """The samples of this rank, of a batch that all have: rank r of R takes samples r, r + R, ... of it.

    There may be none. Each sample has one rank, and no two ranks differ by more than one sample.

    Raises:
        InputError: no process group; leaves that disagree on N.
    """
    check_group("rows(batch)", None)
    check_batch(batch)
    return chosen(batch, slice(rank(None), None, size(None)))


class MeanValue(NamedTuple):
    """The mean of a value over the samples of all ranks."""

    step_fn: StepFn
    share: Share | None = None
    group: Group = None

    def __call__(self, params: Params, batch: Batch) -> Tensor:
        """A scalar with the same bits on every rank."""
        leaves, own, count = _at_hand(self, params, batch)
        value = self.step_fn.value(params, own) if count else 0.0
        return _mean(value, [], [], count, leaves, self.group)[0]

    def __repr__(self) -> str:
        """What it is the mean of."""
        return f"data_parallel({name(self.step_fn.value)})"


class MeanGradient(NamedTuple):
    """The means of a value and its gradient over the samples of all ranks."""

    step_fn: StepFn
    share: Share | None = None
    group: Group = None

    def __call__(self, params: Params, batch: Batch) -> tuple[Tensor, Params]:
        """(value, grads), with the same bits on every rank."""
        leaves, own, count = _at_hand(self, params, batch)
        _, unflatten = tree.flatten(params)
        rule: Any = behind_door(self.step_fn.value_and_grad)
        large = may_be_smaller(rule, leaves, size(self.group))
        if not any(large):
            value, grads = self.step_fn(params, own) if count else (0.0, ())
            value, means = _mean(value, tree.leaves(grads), leaves, count, leaves, self.group)
            return value, unflatten(means)
        counts = counted(own, count, self.group)
        value, summands = factored(rule, params, own) if count else (0.0, [])
        known = counts()
        places, multiplied = exchanging(summands, leaves, large, known, self.group) if known else ([], lambda: [])
        rest = [place for place in range(len(leaves)) if place not in places]
        grads = [total(summands[place]) for place in rest] if count else []
        value, means = _mean(value, grads, [leaves[place] for place in rest], count, leaves, self.group)
        found = dict(zip([*rest, *places], [*means, *multiplied()], strict=True))
        return value, unflatten([found[place] for place in range(len(leaves))])

    def of_some(self, params: Params, batch: Batch, trained: list[bool]) -> tuple[Tensor, list[Tensor]]:
        """The value, and the gradients of the trained leaves: no others are exchanged."""
        leaves, own, count = _at_hand(self, params, batch)
        value, grads = of_some(self.step_fn.value_and_grad, params, own, trained) if count else (0.0, [])
        return _mean(value, grads, tree.parted(leaves, trained)[0], count, leaves, self.group)

    def __repr__(self) -> str:
        """What it is the mean of."""
        return f"data_parallel({name(self.step_fn.value_and_grad)})"


def _at_hand(mean: MeanValue | MeanGradient, params: Params, batch: Batch) -> tuple[list[Tensor], Batch, int]:
    """The parameters, the samples of this rank, and how many these are; a batch without tensors is one."""
    leaves = check_params(params)
    check_alone(f"{mean}(params, batch)", [*leaves, *tree.leaves(batch)])
    own = batch if mean.share is None else mean.share(batch)
    tensors = [leaf for leaf in tree.leaves(own) if isinstance(leaf, Tensor)]
    if tensors and all(leaf.shape[:1] == (0,) for leaf in tensors):
        return leaves, own, 0
    check_batch(own)
    return leaves, own, samples(own) or 1


def _mean(
    value: Tensor | float, grads: list[Tensor], like: list[Tensor], count: int, params: list[Tensor], group: Group
) -> tuple[Tensor, list[Tensor]]:
    """The means of a value and of gradients, which are `like` some of the parameters, over the samples of all ranks."""
    dtype = reduce(torch.promote_types, [leaf.dtype for leaf in params], torch.float32)
    length = sum(leaf.numel() for leaf in like) + 2
    make = torch.empty if count else torch.zeros  # a rank without samples adds nothing
    bucket = make(length, dtype=dtype, device=params[0].device if params else "cpu")
    *pieces, ends = bucket.split([*(leaf.numel() for leaf in like), 2])
    places = [_placed(piece, leaf) for piece, leaf in zip(pieces, like, strict=True)]
    for place, gradient in zip(places, grads, strict=bool(count)):
        torch.mul(gradient.to(dtype), count, out=place)
    ends[0], ends[1] = count * value, count
    summed(bucket, group)
    if not ends[1]:
        raise InputError("batch", "no sample on any rank", "one at least")
    bucket /= ends[1].clone()
    return ends[0], [place.to(leaf.dtype) for place, leaf in zip(places, like, strict=True)]


def _placed(piece: Tensor, leaf: Tensor) -> Tensor:
    """A part of the bucket in the shape of a leaf; matrices lie column by column, as those of `dense` do, on every rank."""
    return piece.view(leaf.T.shape).T if leaf.ndim == 2 else piece.view(leaf.shape)
