"""Names, letter by letter: an MLP with batch norm by hand-derived rules, which reads three letters and writes the next.

The network, its start, its batches and its schedule are those of Karpathy's "Building makemore, part 4: becoming a backprop
ninja" (2022), where the pullback of each layer is an exercise. There, with a file of 32,033 names, the training loss is
2.0705 and the validation loss 2.1099 after 200,000 steps of 32 samples.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice, pairwise
from math import sqrt
from statistics import mean
from typing import Any

import torch
from torch import Generator, Tensor, nn

import funcnn as fn
from experiments.core.beside import agreement, beside_classic, beside_providers, cross_entropy, draw_differences
from experiments.core.classic import classic_step
from experiments.core.curves import style
from experiments.core.modules import copied, leaves_of
from experiments.core.options import BadOption
from experiments.core.result import Result, Table
from experiments.core.text import END, Naming
from funcnn.plots import COLORS, figure

CONTEXT, FEATURES, HIDDEN = 3, 10, 200
FEW = 2  # steps of the other providers
MARKS = 20  # points of the curves


@dataclass(frozen=True, kw_only=True)
class Names(Naming):
    """Trains an MLP with batch norm on names by explicit gradients, beside classic PyTorch, and lets it write some.

    The default ends after a fortieth of the published length, which is 200,000 steps.
    """

    lr: float = 0.1
    """Learning rate of the first half of the steps; that of the second is a tenth of it."""
    steps: int = 4_000
    """Steps of gradient descent, two at least."""
    compared: int = 1_000
    """The first steps, which classic PyTorch takes too."""
    batch_size: int = 32
    """Contexts in a batch, drawn from all with replacement; two at least."""

    FULL = {"steps": 200_000}

    def __post_init__(self) -> None:
        """Raises BadOption for a training without halves, or batches without a variance."""
        super().__post_init__()
        for name, given in (("steps", self.steps), ("batch_size", self.batch_size)):
            if given < 2:
                raise BadOption(f"{name}: got {given}, needs at least 2")


def run(options: Names) -> Result:
    """Trains, measures with the statistics of all training data on the way, and writes some names."""
    names, generator = options.read(), options.generator()
    train, validation, _ = (
        tuple(leaf.to(options.device) for leaf in names.contexts(part, CONTEXT)) for part in names.parts()
    )
    layer, module = network(len(names.vocabulary))
    objective, start = fn.supervised(layer, fn.softmax_cross_entropy()), drawn(len(names.vocabulary), generator, options)
    copied(start, module.to(**options.tensors))
    count = sum(leaf.numel() for leaf in fn.tree.leaves(start))

    half = options.steps // 2
    batches = drawn_batches(train, options.batch_size, generator)
    first = list(islice(batches, min(options.compared, half)))
    leaves = leaf_by_leaf(objective, start, module, first[0])
    fast, slow = fn.sgd(options.lr), fn.sgd(options.lr / 10)
    classic = classic_step(module, cross_entropy, options.lr)
    differences = beside_classic(objective, fast, start, module, classic, first).differences
    providers = beside_providers(objective, fast, start, first[:FEW], ("func_grad", "central_difference"))

    params, losses, stream = start, [], chain(first, batches)
    marks = sorted({half, *(options.steps * mark // MARKS for mark in range(MARKS + 1))})
    curves = {name: [loss] for name, loss in measured(layer, start, train, validation).items()}
    for begin, end in pairwise(marks):
        for step in fn.train(fn.explicit(objective), fast if begin < half else slow, params, islice(stream, end - begin)):
            params = step.params
            losses.append(step.value.item())
        for name, loss in measured(layer, params, train, validation).items():
            curves[name].append(loss)
    written = write(fn.calibrate(layer, params, train[0]), params, names.vocabulary, generator)
    return Result(
        "Names: an MLP with batch norm, letter by letter",
        f"An embedding of {CONTEXT} letters in {FEATURES} features each, {HIDDEN} tanh units with batch norm, and logits of "
        f"the next letter: {count:,} parameters. {options.steps:,} steps, where 200,000 are the published length, on "
        f"batches of {options.batch_size} of {len(train[1]):,} contexts.",
        numbers={
            "losses": {"steps": marks, **curves},
            "loss of batches": [mean(losses[begin:end]) for begin, end in pairwise(marks)],
            "difference from classic": differences,
            "providers": providers,
            "gradients": leaves,
            "written": written,
        },
        observations=[
            f"After {options.steps:,} steps the training loss is {curves['training'][-1]:.4f} and the validation loss "
            f"{curves['validation'][-1]:.4f}, with the statistics of all training contexts.",
            agreement(differences, providers, FEW),
            f"It writes: {', '.join(written)}.",
        ],
        figures={"training": draw(marks, curves, losses, differences)},
        tables=[
            Table(
                "The gradient of the first batch, by hand and by classic PyTorch",
                ["parameter", "numbers", "largest", "largest difference"],
                [[name, number, f"{largest:.1e}", f"{apart:.1e}"] for name, (number, largest, apart) in leaves.items()],
            ),
            Table(
                "The loss",
                ["", "steps", "training", "validation"],
                [
                    ["here", f"{options.steps:,}", *(f"{curve[-1]:.4f}" for curve in curves.values())],
                    ["Karpathy, on 32,033 names", "200,000", "2.0705", "2.1099"],
                ],
            ),
        ],
    )


def network(size: int) -> tuple[fn.Layer, nn.Sequential]:
    """The layer, from contexts (N, 3) to logits (N, size), and the same of torch's modules."""
    inputs = CONTEXT * FEATURES
    ours = fn.embedding(size, FEATURES), fn.flatten(), fn.dense(inputs, HIDDEN), fn.batch_norm(HIDDEN), fn.tanh()
    theirs = nn.Embedding(size, FEATURES), nn.Flatten(), nn.Linear(inputs, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.Tanh()
    return fn.serial(*ours, fn.dense(HIDDEN, size)), nn.Sequential(*theirs, nn.Linear(HIDDEN, size))


def drawn(size: int, generator: Generator, options: Names) -> Any:
    """The start: a standard normal table, 5/3 / sqrt(30) before tanh, and small numbers, so that no gradient is 0."""

    def normal(deviation: float, *shape: int) -> Tensor:
        return (deviation * torch.randn(*shape, generator=generator, dtype=torch.float64)).to(**options.tensors)

    inputs = CONTEXT * FEATURES
    hidden = {"w": normal(5 / 3 / sqrt(inputs), inputs, HIDDEN), "b": normal(0.1, HIDDEN)}
    norm = {"w": 1 + normal(0.1, HIDDEN), "b": normal(0.1, HIDDEN)}
    return {"w": normal(1.0, size, FEATURES)}, (), hidden, norm, (), {"w": normal(0.1, HIDDEN, size), "b": normal(0.1, size)}


def drawn_batches(data: Any, batch_size: int, generator: Generator) -> Iterator[Any]:
    """Without end, samples drawn with replacement."""
    inputs, targets = data
    while True:
        chosen = torch.randint(len(targets), (batch_size,), generator=generator).to(targets.device)
        yield inputs[chosen], targets[chosen]


def measured(layer: fn.Layer, params: Any, train: Any, validation: Any) -> dict[str, float]:
    """The losses of both parts, batch norm by the statistics of the training part."""
    objective = fn.supervised(fn.calibrate(layer, params, train[0]), fn.softmax_cross_entropy())
    parts = {"training": train, "validation": validation}
    return {name: objective.value(params, data).item() for name, data in parts.items()}


def leaf_by_leaf(objective: fn.Objective, params: Any, module: nn.Module, batch: Any) -> dict[str, tuple[int, float, float]]:
    """Of the gradient with respect to each parameter: how many numbers, the largest, and the largest difference."""
    cross_entropy(module(batch[0]), batch[1]).backward()
    grads = fn.tree.leaves(fn.explicit(objective)(params, batch)[1])
    triples = zip(fn.tree.paths(params), grads, leaves_of(module, of_gradients=True), strict=True)
    return {path: (own.numel(), own.abs().max().item(), (own - other).abs().max().item()) for path, own, other in triples}


def write(layer: fn.Layer, params: Any, vocabulary: str, generator: Generator, count: int = 12) -> list[str]:
    """Names drawn letter by letter, all at once, each up to its end or 20 letters."""
    tokens = torch.full((count, CONTEXT), vocabulary.index(END))
    device = fn.tree.leaves(params)[0].device
    for _ in range(20):
        logits = layer(params, tokens[:, -CONTEXT:].to(device))
        tokens = torch.cat([tokens, logits.softmax(1).cpu().multinomial(1, generator=generator)], 1)
    texts = ["".join(vocabulary[token] for token in row) for row in tokens[:, CONTEXT:].tolist()]
    return [text.partition(END)[0] for text in texts]


def draw(marks: list[int], curves: dict[str, list[float]], losses: list[float], differences: list[float]) -> tuple[Any, str]:
    """The losses against the steps, and how far explicit and classic are apart."""
    drawing, (left, right) = figure(2)
    middles = [(begin + end) / 2 for begin, end in pairwise(marks)]
    means = [mean(losses[begin:end]) for begin, end in pairwise(marks)]
    left.plot(middles, means, color=COLORS[5], linewidth=3, label="batches, mean")
    for index, (name, curve) in enumerate(curves.items()):
        left.plot(marks[1:], curve[1:], **style(index), marker=".", label=name)
    left.xaxis.get_major_locator().set_params(nbins=5)  # room for steps of six digits
    left.set(xlabel="step", ylabel="cross entropy")
    left.legend(frameon=False)
    draw_differences(right, differences)
    right.set(title="explicit and classic")
    return (
        drawing,
        "Left, the loss on all training and validation contexts, and the mean of the batches between. Right, the parameters "
        "of two trainings side by side.",
    )
