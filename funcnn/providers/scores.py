"""The gradient of an expectation over a distribution that the parameters shape, from its costs alone.

    L(w) = E f(x),  x of density p_w        dL/dw = E f(x) d log p_w(x) / dw        since dp = p d log p

f may be any number, of samples that are whole or steps that are sudden: it is never differentiated. What that costs is
variance. Of x of N(w, 1) and f = x^2 at w = 1 one sample estimates the gradient 2 with variance 30; through the sample,
as the derivative of f(w + z), with variance 4. So where f has a gradient and x is a function of w and of noise z, let the
noise be a batch:

    expectation = fn.Expectation(noise, sample, log_density, cost)
    fn.score_function(expectation, generator)                                      by costs
    fn.func_grad(fn.Objective(lambda w, z: cost(sample(w, (), z), ())))            through the sample

Williams, "Simple statistical gradient-following algorithms for connectionist reinforcement learning" (1992); Mohamed,
Rosca, Figurnov & Mnih, "Monte Carlo gradient estimation in machine learning" (2020).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from .. import tree
from ..errors import InputError, called, check_count, check_generator, check_tensor, check_value, describe
from ..types import Batch, Params, StepFn, Tree, name
from .doors import Gradient, Value
from .drawn import Drawn, DrawnValue, Place, of_each


class Expectation(NamedTuple):
    """The mean cost of a sample x = sample(w, batch, z), where z is noise that knows nothing of w, the parameters.

    noise           generator -> z, a tree of tensors
    sample          (w, batch, z) -> x, a tree of tensors, of density exp(log_density(w, batch, x))
    log_density     (w, batch, x) -> scalar
    cost            (x, batch) -> scalar

    A normal variable of mean w is w + z with z normal, a choice of probabilities softmax(w) the largest of w + z with z of
    Gumbel's distribution. Where a batch has a sample x for each of its rows, and each row a cost of its own, the estimate of
    the whole cost gives every row the blame for all: `per_sample` gives each its own.
    """

    noise: Callable[[Generator], Tree]
    sample: Callable[[Params, Batch, Tree], Tree]
    log_density: Callable[[Params, Batch, Tree], Tensor]
    cost: Callable[[Tree, Batch], Tensor]

    def __repr__(self) -> str:
        """What is sampled, and what it costs."""
        return f"Expectation({name(self.sample)}, {name(self.cost)})"


def score_function(expectation: Expectation, generator: Generator, *, samples: int = 1) -> StepFn:
    """The gradient of an expectation by costs of samples and the score, the derivative of the log density.

        g = 1/K sum_k f(x_k) d log p_w(x_k) / dw

    The value is the mean cost of the same K samples, and `value` that of others.

    Args:
        expectation: What is minimised.
        generator: The noise is drawn by seeds from it, at each call.
        samples: K.

    Raises:
        InputError: expectation is no Expectation of four functions; generator or samples is none; (when called) noise or
            samples that are no tensors, costs or log densities that are no scalars.
    """
    if not isinstance(expectation, Expectation):
        needs = "an Expectation(noise, sample, log_density, cost)"
        raise InputError("score_function(expectation)", describe(expectation), needs)
    for field, function in expectation._asdict().items():
        if not callable(function):
            raise InputError(f"expectation.{field}", describe(function), "a function")
    check_generator(generator)
    count = check_count("samples", samples)

    def draw(leaves: list[Tensor], seeds: list[int]) -> Tree:
        generators = (Generator(generator.device).manual_seed(seed) for seed in seeds)
        noise = [_tensors("expectation.noise(generator)", expectation.noise, own) for own in generators]
        return tree.map(lambda *each: torch.stack(each), *noise)

    def outcomes(at: Place, draws: Tree) -> Tree:
        noise, unflatten = tree.flatten(draws)

        def sample(*z: Tensor) -> Tree:
            place = "expectation.sample(params, batch, noise)"
            return _tensors(place, expectation.sample, at.whole(at.own), at.batch, unflatten([*z]))

        return of_each(sample, noise, at)

    def numbers(at: Place, outcomes: Tree) -> tuple[Tensor, Tensor]:
        samples, unflatten = tree.flatten(outcomes)

        def cost(*x: Tensor) -> Tensor:
            return _scalar("expectation.cost(x, batch)", expectation.cost, unflatten([*x]), at.batch)

        costs = of_each(cost, samples, at)
        return costs.mean(), costs

    def vectors(at: Place, outcomes: Tree) -> list[Tensor]:
        samples, unflatten = tree.flatten(outcomes)

        def score(*x: Tensor) -> tuple[Tensor, ...]:
            def log_density(own: tuple[Tensor, ...]) -> Tensor:
                place = "expectation.log_density(params, batch, x)"
                return _scalar(place, expectation.log_density, at.whole([*own]), at.batch, unflatten([*x]))

            scores: tuple[Tensor, ...] = torch.func.grad(log_density)(tuple(at.own))
            return scores

        return [*of_each(score, samples, at)] if at.own else []

    rule = Drawn(draw, outcomes, numbers, vectors, generator, count)
    value = DrawnValue(rule)
    return StepFn(Value(value), Gradient(rule, "score_function", expectation.cost))


def _tensors(place: str, function: Callable[..., Tree], *arguments: Tree) -> Tree:
    result = called(place, function, *arguments)
    for leaf in tree.leaves(result) or [None]:
        check_tensor(place, leaf)
    return result


def _scalar(place: str, function: Callable[..., Tensor], *arguments: Tree) -> Tensor:
    value: Tensor = called(place, function, *arguments)
    check_value(place, value)
    return value
