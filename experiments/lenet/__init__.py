"""LeCun's network of 1989 and LeNet-5 read digits, by gradients derived by hand, as well as it was published.

The one of 1989 learned from pixels alone: 9,760 parameters, a digit a step, 23 times through 7,291 digits of post codes; it
misread 5.0% of 2,007 others. Karpathy's reproduction of 2022, on digits of MNIST scaled to 16 x 16, misread 4.09%. Some of
its layers are in no library; `layers` writes them as one writes one's own.
"""

from dataclasses import dataclass

import funcnn as fn
from experiments.core.beside import beside_classic, beside_providers, step_times
from experiments.core.classic import classic_step
from experiments.core.result import Result
from experiments.core.training import Run, training_run
from experiments.lenet import presentation
from experiments.lenet.digits import Digits, batches_of, drawn
from experiments.lenet.loop import difference_times
from experiments.lenet.networks import Contest, lenet_5, of_1989

OTHERS = ("func_grad", "autograd", "central_difference")


@dataclass(frozen=True, kw_only=True)
class LeNet(Digits):
    """Trains LeCun's network of 1989 and LeNet-5 on digits, beside classic PyTorch and other gradients."""

    passes: int = 4
    """How often every digit is seen; 23 is the published length."""
    compared: int = 500
    """Steps beside classic PyTorch, an epoch of them at most."""
    steps: int = 3
    """Steps beside each of the other providers."""

    FULL = {"passes": 23}


def run(options: LeNet) -> Result:
    """Both networks from their start to the end of the last pass, and what else says that their gradients are right."""
    generator = options.generator()
    parts = drawn(options, generator)
    contests = [made(*parts, generator, options.tensors) for made in (of_1989, lenet_5)]
    old, _ = contests
    differences, times, others = {}, {}, {}
    for contest in contests:
        batches = batches_of(contest.data.train, contest.batch_size, options.generator(), options.compared)
        classic, descent = classic_step(contest.module, contest.criterion, contest.lr), fn.sgd(contest.lr)
        same = contest.objective, descent, contest.start
        differences[contest.name] = beside_classic(*same, contest.module, classic, batches).differences
        others[contest.name] = beside_providers(*same, batches[: options.steps], OTHERS if contest is old else OTHERS[:2])
        sides = contest.explicit, contest.optimizers, contest.start, classic
        times[contest.name] = step_times(*sides, batches[0], options.device)
    runs = {contest.name: train(contest, options) for contest in contests}
    moved = difference_times(old, options.device)
    return presentation.result(presentation.Found(contests, runs, differences, others, times, moved), options)


def train(contest: Contest, options: LeNet) -> Run:
    """A run through all passes."""
    *_, optimizer = contest.optimizers.values()
    schedule = {"epochs": options.passes, "batch_size": contest.batch_size, "generator": options.generator()}
    return training_run(contest.explicit, optimizer, contest.start, contest.data.train, contest.measure, **schedule)
