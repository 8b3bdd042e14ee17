"""A small GPT learns to write, character by character, and what its heads look at is drawn.

It is given the characters of a window and predicts the one that follows each: a sequence of T characters is T exercises.
The setting is that of nanoGPT for a processor, https://github.com/karpathy/nanoGPT, whose README has a validation loss of
1.88 on tinyshakespeare after 2,000 steps; there the matrix of the logits is that of the embedding.
"""

import re
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Literal, NamedTuple

from torch import Tensor

import funcnn as fn
from experiments.characters import presentation
from experiments.characters.heads import maps, weight_by_distance
from experiments.characters.writing import counting_losses, write
from experiments.core import modules
from experiments.core.beside import compared, cross_entropy
from experiments.core.gpt import Recipe
from experiments.core.options import BadOption
from experiments.core.result import Result
from experiments.core.text import Reading, Text, batches, passages


@dataclass(frozen=True, kw_only=True)
class Characters(Reading):
    """Trains a small GPT on the characters of a text, lets it write, and draws what its heads look at.

    The default stops early, so that it takes half a minute; `--steps 2000` is the published length.
    """

    dtype: Literal["float32", "float64"] = "float32"
    steps: int = 120
    """Steps of training; the published length is 2,000."""
    batch_size: int = 12
    """Windows per step."""
    length: int = 64
    """Characters of a window."""
    features: int = 128
    """Features of a character."""
    heads: int = 4
    """Heads of each attention, a divisor of the features."""
    depth: int = 4
    """Blocks of an attention and a perceptron each."""
    lr: float = 1e-3
    """Learning rate after 100 steps of warm-up; it falls to a tenth."""
    compared: int = 3
    """Steps that classic PyTorch and two other providers take too."""
    compiled: bool = False
    """Compiles the step, which takes half a minute and makes up for it in about 1,700 steps."""

    FULL = {"steps": 2000}

    def __post_init__(self) -> None:
        """Raises BadOption where the heads do not divide the features."""
        super().__post_init__()
        if self.features % self.heads:
            raise BadOption(f"heads: got {self.heads}, needs a divisor of the features, {self.features}")


class Moment(NamedTuple):
    """What the network can do after some steps."""

    steps: int
    loss: float  # of the validation part
    written: str


def run(options: Characters) -> Result:
    """Agreement with others on some steps, then training, with a look at three moments, then the heads."""
    generator, text = options.generator(), options.read()
    sizes = len(text.vocabulary), options.length, options.features, options.heads, options.depth
    layer = fn.transformer(*sizes)
    objective, start = fn.supervised(layer, fn.softmax_cross_entropy()), layer.init(generator, **options.tensors)
    recipe = Recipe(options.steps, options.lr, least=options.lr / 10, warm_up=100, betas=(0.9, 0.99))
    held_out = passages(text.validation, options.length)

    def look(steps: int, params: Any) -> Moment:
        prompt = text.validation[: options.length]
        written = write(layer, params, prompt, 160, options.length, options.generator())
        return Moment(steps, mean_loss(objective, params, held_out), text.decode(written))

    stream = batches(text.train, options.length, options.batch_size, generator)
    method, module = recipe.transformation(start), modules.transformer(*sizes)
    classic, first = partial(recipe.classic_step, criterion=cross_entropy), list(islice(stream, options.compared))
    found = compared(objective, method, start, module, classic, first, options.device)
    when, losses, params, moments = {options.steps >> k for k in range(2)}, [], start, [look(0, start)]
    steps = fn.train(
        fn.explicit(objective), fn.compiled(method) if options.compiled else method, start, islice(stream, options.steps)
    )
    for count, step in enumerate(steps, start=1):
        params = step.params
        losses.append(step.value.item())
        moments += [look(count, params)] if count in when else []

    guesses, shown = counting_losses(text), sentence(held_out[0][:, :24], text)
    by_distance = weight_by_distance(maps(layer, params, held_out[0][:240], options.heads))
    return Result(
        "Characters: a small GPT learns to write",
        about(options, text, start),
        numbers={
            "loss per step": losses,
            "moments": [moment._asdict() for moment in moments],
            "guesses": guesses,
            "largest difference per step": found.differences,
            "largest difference of providers": found.providers,
            "seconds": found.timing.rounds,
            "weight by distance": by_distance.tolist(),
        },
        observations=[*presentation.observations(moments, guesses, by_distance), *found.observations()],
        figures={
            "learning": presentation.draw_learning(losses, moments, guesses, found.differences),
            "attention": presentation.draw_maps(maps(layer, params, shown[None], options.heads)[0], text.decode(shown)),
            "distance": presentation.draw_distances(by_distance),
        },
        tables=[presentation.table_of_moments(moments, text.decode(text.validation[: options.length]))],
    )


def about(options: Characters, text: Text, start: Any) -> str:
    """The network, the text and the training in a paragraph."""
    count = sum(leaf.numel() for leaf in fn.tree.leaves(start))
    return (
        f"A transformer of {options.depth} layers, {options.heads} heads and {options.features} features ({count:,} "
        f"parameters) on {options.text or 'the prose of Python’s help'}, {len(text.train):,} characters of "
        f"{len(text.vocabulary)} kinds and {len(text.validation):,} held out: {options.steps} steps of AdamW by the explicit"
        f" gradient on {options.batch_size} windows of {options.length}. nanoGPT's setting for a processor, which on "
        "tinyshakespeare ends at 1.88 after 2,000 steps."
    )


def sentence(passages: Tensor, text: Text) -> Tensor:
    """The first of the passages (N, T) that is one line, not indented, or else the first: (T,)."""
    return next((row for row in passages if not re.search("\n|  ", text.decode(row))), passages[0])


def mean_loss(objective: fn.Objective, params: Any, data: tuple[Tensor, Tensor]) -> float:
    """The loss over all windows, 64 at a time."""
    parts = zip(*(part.split(64) for part in data), strict=True)
    return sum(len(x) * objective.value(params, (x, y)).item() for x, y in parts) / len(data[0])
