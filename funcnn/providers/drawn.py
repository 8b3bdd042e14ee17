"""Gradients that are drawn: an estimate of K terms, each a number times a vector, and each determined by a seed.

    g = 1/K sum_k c_k v_k

c_k is what evaluating the objective says of the k-th draw, and v_k what needs no evaluation: a direction, or the score of a
sample. *The draw is data*, as the mask of dropout is. A call takes K seeds from its generator, `draw` makes tensors of
them, and from there on all is a pure function of (params, batch, draws). So whoever transforms or traces a step draws
before, hands the draws in, and has the bits that an eager call would have had of the same generator: `per_sample` once for
all samples, which then share the draw, so that the mean of their estimates is that of the batch; `compiled` once a step.
Two machines that exchange seeds and numbers know each other's terms.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from .. import tree
from ..errors import InputError, check_params
from ..types import Batch, Params, StepFn, Tree
from .doors import Gradient, LeafByLeaf, behind_door

SEEDS = 2**32  # the generator of the processor looks at no more of a seed


class Place(NamedTuple):
    """Parameters and a batch: `own` are the trained leaves, `whole(leaves)` all parameters with others in place of these."""

    own: list[Tensor]
    whole: Callable[[list[Tensor]], Params]
    batch: Batch
    trained: list[bool]


class Drawn(NamedTuple):
    """A gradient of which each call draws: (params, batch) -> (value, grads).

    draw        (leaves, seeds) -> draws: numbers for all leaves of the parameters, by K seeds
    outcomes    (place, draws) -> outcomes: what they come to there, with a leading axis K: directions, samples
    numbers     (place, outcomes) -> (value, c), with c (K,)
    vectors     (place, outcomes) -> v, a tensor (K, ...) for each trained leaf
    """

    draw: Callable[[list[Tensor], list[int]], Tree]
    outcomes: Callable[[Place, Tree], Tree]
    numbers: Callable[[Place, Tree], tuple[Tensor, Tensor]]
    vectors: Callable[[Place, Tree], list[Tensor]]
    generator: Generator
    samples: int

    def drawn(self, params: Params) -> Tree:
        """The draws of one call."""
        check_params(params)
        return self.draw(tree.leaves(params), seeds(self.generator, self.samples))

    def given(self, draws: Tree) -> LeafByLeaf:
        """The pure function of what was drawn."""

        def of_leaves(params: Params, batch: Batch, trained: list[bool]) -> tuple[Tensor, list[Tensor]]:
            at = place(params, batch, trained)
            outcomes = self.outcomes(at, draws)
            value, numbers = self.numbers(at, outcomes)
            return value, combined(numbers, self.vectors(at, outcomes), at.own)

        return LeafByLeaf(of_leaves)

    def __call__(self, params: Params, batch: Batch) -> tuple[Tensor, Params]:
        """(value, grads) of a new draw."""
        return self.given(self.drawn(params))(params, batch)

    def of_some(self, params: Params, batch: Batch, trained: list[bool]) -> tuple[Tensor, list[Tensor]]:
        """The same, of some leaves; the others do not move."""
        return self.given(self.drawn(params)).of_some(params, batch, trained)


def place(params: Params, batch: Batch, trained: list[bool]) -> Place:
    """Where an estimate is made."""
    leaves, unflatten = tree.flatten(params)
    own, frozen = tree.parted(leaves, trained)
    return Place(own, lambda own: unflatten(tree.joined(own, frozen, trained)), batch, trained)


def combined(numbers: Tensor, vectors: list[Tensor], like: list[Tensor]) -> list[Tensor]:
    """The mean g of the terms c_k v_k, leaf by leaf."""

    def mean(v: Tensor, leaf: Tensor) -> Tensor:
        wide = torch.promote_types(v.dtype, numbers.dtype)
        g: Tensor = torch.tensordot(numbers.to(wide), v.to(wide), 1) / len(v)
        return g.to(leaf.dtype)

    return [mean(v, leaf) for v, leaf in zip(vectors, like, strict=True)]


def seeds(generator: Generator, count: int) -> list[int]:
    """So many seeds. Raises InputError where a draw would be a constant, or one for each entry that is mapped over."""
    needs = "one outside: per_sample and compiled draw before they begin, where the step function itself is theirs"
    refusal = InputError("generator", "a draw under torch.func.vmap, or in a step that is traced", needs)
    try:
        numbers: list[int] = torch.randint(SEEDS, (count,), generator=generator, device=generator.device).tolist()
    except RuntimeError as error:
        raise refusal from error
    if not all(isinstance(number, int) for number in numbers):  # a trace has symbols of them
        raise refusal
    return numbers


def drawn(step_fn: StepFn, params: Params) -> Tree:
    """What the next call of a step function would draw; () where that draws nothing."""
    rule = behind_door(step_fn.value_and_grad)
    return rule.drawn(params) if isinstance(rule, Drawn) else ()


def given(step_fn: StepFn, draws: Tree) -> StepFn:
    """The step function with its draw made, which draws no more."""
    gradient, rule = step_fn.value_and_grad, behind_door(step_fn.value_and_grad)
    if not isinstance(rule, Drawn):
        return step_fn
    fixed = rule.given(draws)
    return StepFn(step_fn.value, gradient._replace(function=fixed) if isinstance(gradient, Gradient) else fixed)
