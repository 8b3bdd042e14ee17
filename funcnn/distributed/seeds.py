"""Stochastic providers on several ranks: what they exchange is a seed and a number for each draw, whatever d is.

An estimate g = 1/K sum_k c_k v_k is known to whoever knows the seeds and the K numbers c_k, for v_k follows from the k-th
seed: see `providers.drawn`. So each rank evaluates K / R of the draws, and every rank makes the same gradient of all:

    every rank draws K seeds and hands on its share                8 bytes a draw
    makes the K draws of these, and evaluates its share            the work that is divided
    hands on the numbers of these                                  8 bytes a draw, and 8 for the value
    makes g of all numbers and all draws                           K passes over the parameters, on each rank

Ranks whose generators have the same state make the estimate of one process with that generator; where the states differ, one
whose draws come from all of them.
"""

from typing import Any

import torch
from torch import Tensor

from .. import tree
from ..errors import InputError
from ..providers.doors import Gradient, LeafByLeaf, behind_door, lifted
from ..providers.drawn import Drawn, DrawnValue, combined, place, seeds
from ..types import Batch, Params, StepFn, name
from .entries import share
from .ranks import Group, check_alone, check_group, gathered


def seeded(step_fn: StepFn, *, group: Group = None) -> StepFn:
    """The same estimate, each of whose ranks evaluates its share of the draws; all have the same bits of the whole.

        train(seeded(spsa(objective, generator, samples=64)), optimizer, params, batches)

    All ranks have the same parameters and the same batch. What a rank sends does not depend on the number of parameters: 16
    bytes a draw to each other rank, and 8 a call. The value is that of rank 0, or the mean cost of all samples.

    Args:
        step_fn: spsa, forward_gradient, evolution or score_function.
        group: A process group of torch.distributed; None is all ranks.

    Raises:
        InputError: any other step_fn; no process group; (when called) inside a transform, a tape or a tracer; whatever
            step_fn refuses.
        RankEnded: (when called) another rank ended.
    """
    gradient: Any = lifted(step_fn).value_and_grad
    rule = behind_door(gradient)
    if not isinstance(gradient, Gradient) or not isinstance(rule, Drawn):
        needs = "a provider that draws: spsa, forward_gradient, evolution or score_function"
        raise InputError("seeded(step_fn)", name(gradient), needs)
    check_group("seeded(step_fn)", group)
    of_samples = isinstance(behind_door(step_fn.value), DrawnValue)  # whose value is the mean of their numbers

    def together(params: Params, batch: Batch, trained: list[bool]) -> tuple[Tensor, list[Tensor]]:
        leaves = tree.leaves(params)
        check_alone("seeded(step_fn)(params, batch)", [*leaves, *tree.leaves(batch)])
        device = leaves[0].device if leaves else "cpu"
        drawn = torch.tensor(seeds(rule.generator, rule.samples), device=device)
        own = share(torch.arange(rule.samples, device=device), group)
        every = gathered(drawn[own], group).flatten()[: rule.samples]

        at = place(params, batch, trained)
        outcomes = rule.outcomes(at, rule.draw(leaves, every.tolist()))
        value, numbers = rule.numbers(at, tree.map(lambda x: x[own], outcomes))
        table = gathered(torch.cat([value[None], numbers]).double(), group)
        numbers = table[:, 1:].flatten()[: rule.samples].to(numbers.dtype)
        value = numbers.mean() if of_samples else table[0, 0].to(value.dtype)
        return value, combined(numbers, rule.vectors(at, outcomes), at.own)

    title = f"seeded {gradient.provider}"
    return StepFn(step_fn.value, gradient._replace(function=LeafByLeaf(together), provider=title))
