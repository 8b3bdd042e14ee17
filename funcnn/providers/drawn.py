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
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from .. import tree
from ..batches import tensors
from ..errors import InputError
from ..operands import check_params
from ..types import Batch, Params, StepFn, Tree, ValueFn
from .batched import batched
from .differences import ELEMENTS_AT_ONCE
from .doors import Gradient, LeafByLeaf, Value, behind_door

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
    directions  where v are directions and c slopes along them: the law that is claimed of v, "gaussian", "rademacher" or
                "orthogonal", as `check_estimator` tests it; else ""
    """

    draw: Callable[[list[Tensor], list[int]], Tree]
    outcomes: Callable[[Place, Tree], Tree]
    numbers: Callable[[Place, Tree], tuple[Tensor, Tensor]]
    vectors: Callable[[Place, Tree], list[Tensor]]
    generator: Generator
    samples: int
    directions: str = ""

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

    def value(self, draws: Tree) -> ValueFn:
        """The value alone, of what was drawn."""

        def of_params(params: Params, batch: Batch) -> Tensor:
            at = place(params, batch, [True] * len(tree.leaves(params)))
            return self.numbers(at, self.outcomes(at, draws))[0]

        return of_params

    def __call__(self, params: Params, batch: Batch) -> tuple[Tensor, Params]:
        """(value, grads) of a new draw."""
        return self.given(self.drawn(params))(params, batch)

    def of_some(self, params: Params, batch: Batch, trained: list[bool]) -> tuple[Tensor, list[Tensor]]:
        """The same, of some leaves; the others do not move."""
        return self.given(self.drawn(params)).of_some(params, batch, trained)


class DrawnValue(NamedTuple):
    """The value of a drawn gradient that knows none without a draw, of a new one at each call."""

    rule: Drawn

    def __call__(self, params: Params, batch: Batch) -> Tensor:
        """(params, batch) -> value."""
        return self.rule.value(self.rule.drawn(params))(params, batch)


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
    """The step function with its draw made, of which its value and its gradient then both are."""
    rule = behind_door(step_fn.value_and_grad)
    if not isinstance(rule, Drawn):
        return step_fn
    of_draw = isinstance(behind_door(step_fn.value), DrawnValue)
    value = _replaced(step_fn.value, rule.value(draws)) if of_draw else step_fn.value
    return StepFn(value, _replaced(step_fn.value_and_grad, rule.given(draws)))


def _replaced(door: Any, function: Any) -> Any:
    """Another function behind the same door."""
    return door._replace(function=function) if isinstance(door, (Value, Gradient)) else function


def of_each(function: Callable[..., Any], stacked: list[Tensor], at: Place) -> Any:
    """What a function is of each entry along the leading axes, many of them at once where the place is small."""
    elements = sum(leaf.numel() for leaf in [*at.own, *tensors(at.batch)[0]])
    at_once = max(1, ELEMENTS_AT_ONCE // max(1, elements))

    def of_chunk(*xs: Tensor) -> Any:
        if len(xs[0]) == 1:
            return tree.map(lambda x: x[None], function(*(x[0] for x in xs)))
        return batched(function)(*xs)

    chunks = zip(*(x.split(at_once) for x in stacked), strict=True)
    return tree.map(lambda *parts: torch.cat(parts), *(of_chunk(*chunk) for chunk in chunks))
