"""A small GPT learns to add two numbers below 100, which nobody tells it how to do.

A sum is a sequence of digits, and the loss is that of the answer's digits alone: a layer without parameters leaves the last
places of what the transformer says. As in minGPT's play_math, https://github.com/karpathy/minGPT, 9,000 of the 10,000 sums
are learnt, in 50 passes by 512, and 1,000 are asked; there two layers write the answer as it is read and get 999 of them
right. Here the answer begins with its units, whose carry the tens need: `--no-reverse` has it as it is read.
"""

from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Literal

import torch
from torch import Tensor

import funcnn as fn
from experiments.addition import presentation
from experiments.addition.sums import ANSWER, LENGTH, answers, every_sum, exercises, last, numbers_of, of_answers
from experiments.core import modules
from experiments.core.beside import compared
from experiments.core.gpt import Recipe
from experiments.core.options import BadOption, Options
from experiments.core.result import Result

LOOKS = 7  # how often the held-out sums are asked


@dataclass(frozen=True, kw_only=True)
class Addition(Options):
    """Trains a small GPT to add two numbers below 100, and asks it for sums that it has not seen.

    The default stops early, on smaller batches, so that it takes less than a minute; `--full` is the published length.
    """

    dtype: Literal["float32", "float64"] = "float32"
    steps: int = 220
    """Steps of training; the published length is 900."""
    batch_size: int = 64
    """Sums per step; the published number is 512."""
    features: int = 128
    """Features of a digit."""
    heads: int = 4
    """Heads of each attention, a divisor of the features."""
    depth: int = 4
    """Blocks of an attention and a perceptron each."""
    lr: float = 2e-3
    """Learning rate after 10 steps of warm-up; it falls to a tenth."""
    reverse: bool = True
    """Whether the answer begins with its units."""
    compared: int = 3
    """Steps that classic PyTorch and two other providers take too."""

    FULL = {"steps": 900, "batch_size": 512, "lr": 6e-4}

    def __post_init__(self) -> None:
        """Raises BadOption where the heads do not divide the features."""
        super().__post_init__()
        if self.features % self.heads:
            raise BadOption(f"heads: got {self.heads}, needs a divisor of the features, {self.features}")


def run(options: Addition) -> Result:
    """Agreement with others on some steps, then training, with exams on the way."""
    generator, sums = options.generator(), every_sum(options.reverse).to(options.device)
    test, train = sums[torch.randperm(len(sums), generator=generator).to(options.device)].split([1000, len(sums) - 1000])
    sizes = 10, LENGTH, options.features, options.heads, options.depth
    network = fn.transformer(*sizes)
    layer = fn.serial(network, last(ANSWER))
    objective, start = fn.supervised(layer, fn.softmax_cross_entropy()), layer.init(generator, **options.tensors)
    recipe = Recipe(options.steps, options.lr, least=options.lr / 10, warm_up=10, betas=(0.9, 0.95))

    def stream() -> Any:
        while True:
            yield from fn.minibatches(exercises(train), options.batch_size, generator=generator)

    method, module = recipe.transformation(start), modules.transformer(*sizes)
    classic, first = partial(recipe.classic_step, criterion=of_answers), list(islice(stream(), options.compared))
    found = compared(objective, method, start, module, classic, first, options.device)
    losses, params, exams = [], start, [(0, exam(network, start[0], test))]
    steps = fn.train(fn.explicit(objective), method, start, islice(stream(), options.steps))
    for count, step in enumerate(steps, start=1):
        params = step.params
        losses.append(step.value.item())
        if count == options.steps or count % max(1, options.steps // LOOKS) == 0:
            exams.append((count, exam(network, params[0], test)))

    said, seen = answers(network, params[0], test), train[: len(test)]
    wrong = (said != test[:, -ANSWER:]).any(1)
    mistakes = numbers_of(torch.cat([test[wrong, :-ANSWER], said[wrong]], 1), options.reverse)
    learnt = exam(network, params[0], seen)
    count = sum(leaf.numel() for leaf in fn.tree.leaves(start))
    return Result(
        "Addition: a small GPT learns to add",
        f"A transformer of {options.depth} layers, {options.heads} heads and {options.features} features ({count:,} "
        f"parameters) on {len(train):,} of the sums of two numbers below 100, digit by digit, the answer "
        f"{'from its units on' if options.reverse else 'as it is read'}: {options.steps} steps of AdamW by the explicit "
        f"gradient on {options.batch_size} sums. {len(test):,} sums are held out. minGPT's play_math has 999 of 1,000 "
        "after 900 steps, with two layers.",
        numbers={
            "loss per step": losses,
            "right after steps": exams,
            "mistakes": mistakes,
            "largest difference per step": found.differences,
            "largest difference of providers": found.providers,
            "seconds": found.timing.rounds,
        },
        observations=[*presentation.observations(exams, learnt, len(seen), mistakes), *found.observations()],
        figures={"learning": presentation.draw_learning(losses, exams, found.differences)},
        tables=[presentation.table_of_mistakes(mistakes)] if mistakes else [],
    )


def exam(network: fn.Layer, params: Any, sums: Tensor) -> int:
    """How many of the sums the network answers with every digit right."""
    return int((answers(network, params, sums) == sums[:, -ANSWER:]).all(1).sum())
