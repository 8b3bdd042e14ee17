"""Descent by two values a step, that holds no gradient and no direction: where a tape, or a copy too many, does not fit.

Malladi, Gao, Nichani, Damian, Lee, Chen & Arora, "Fine-tuning language models with just forward passes" (2023). What a step
keeps of its direction is the seed. Each of the three points that it asks for is made leaf by leaf, of a direction that is
drawn anew, in the memory of that direction.

Theirs moves the parameters in place. Here they are the caller's and stay as they are, so a step holds one more copy, the
point where it evaluates; beside that and what a value takes it needs nothing.
"""

import torch
from torch import Generator

from .. import tree
from ..errors import check_generator, check_number
from ..memory import check_memory
from ..providers.differences import CENTRAL
from ..providers.directions import direction, gaussian
from ..providers.drawn import seeds
from ..types import At, Optimizer, Params, State, Step
from .hyperparameters import Hyperparameter, scheduled


@scheduled
def mezo(generator: Generator, lr: Hyperparameter, step: Hyperparameter | None = None) -> Optimizer:
    """Zeroth-order descent: w <- w - lr (f(w + c u) - f(w - c u)) / (2 c) u, with u Gaussian, drawn from the generator.

    These are the steps of sgd by forward_gradient(..., by="differences"), which takes one value more and holds the gradient.
    Here the step function is asked for values alone, so any will do, and the mean of the two is reported. A step that draws
    cannot be compiled.

    Args:
        generator: A seed is drawn from it at each step.
        lr: The rate, some 1/d of what a gradient allows for d parameters.
        step: c. None takes the cube root of the precision of the parameters.

    Raises:
        InputError: generator is none, lr is below 0, or step not positive.
    """
    check_generator(generator)
    rate = check_number("lr", lr)
    half = None if step is None else check_number("step", step, minimum=torch.finfo(torch.float64).tiny)

    def step_(at: At, params: Params, state: State) -> Step:
        leaves, unflatten = tree.flatten(params)
        check_memory("params", "a copy", sum(leaf.nbytes for leaf in leaves))
        (seed,) = seeds(generator, 1)
        c = half or max((CENTRAL.step(leaf.dtype) for leaf in leaves), default=1.0)

        def moved(distance: float) -> Params:
            directions = direction(gaussian, leaves, seed)
            return unflatten([torch.add(w, u, alpha=distance, out=u) for w, u in zip(leaves, directions, strict=True)])

        up = at.value(moved(c))
        down = at.value(moved(-c))
        slope = (up - down) / (2 * c)
        return Step(moved(-rate * slope.item()), (), (up + down) / 2)

    return Optimizer(lambda params: (), step_)
