"""An lstm on text beside a transformer of about as many parameters, and how far back in time each gradient reaches."""

from dataclasses import dataclass
from itertools import islice
from statistics import mean, median
from typing import Any, NamedTuple

import torch
from torch import nn

import funcnn as fn
from experiments.core import modules
from experiments.core.beside import agreement, beside_classic, beside_providers, cross_entropy, draw_differences
from experiments.core.classic import classic_step
from experiments.core.curves import style
from experiments.core.options import BadOption
from experiments.core.result import Result, Table
from experiments.core.text import Reading, batches, passages
from experiments.recurrent import distance
from funcnn.plots import figure

FEATURES, HIDDEN, HEADS, DEPTH = 64, 128, 4, 2
RADII = (0.7, 0.9, 1.2, 2.0)
FORGET = 4.0  # a bias with which the forget gate starts at 0.98
JUDGED = 64  # passages that the validation loss is taken on
SAMPLES = 16  # passages that gradients through time are the mean of
FEW, MARKS = 2, 10  # steps of the other providers; points of the validation curves


@dataclass(frozen=True, kw_only=True)
class Recurrent(Reading):
    """Trains an lstm and a transformer on text, and measures gradients through time of rnns and lstms."""

    lr: float = 3e-3
    """Learning rate of Adam, for both."""
    steps: int = 150
    """Steps of each; both go on learning for thousands."""
    compared: int = 20
    """The first steps, which classic PyTorch takes too."""
    length: int = 64
    """Letters in a window."""
    batch_size: int = 8
    """Windows in a batch."""
    distance: int = 100
    """Letters that gradients are followed back over."""

    FULL = {"steps": 2000}

    def __post_init__(self) -> None:
        """Raises BadOption for a distance that is none."""
        super().__post_init__()
        if self.distance < 2:
            raise BadOption(f"distance: got {self.distance}, needs at least 2")


def run(options: Recurrent) -> Result:
    """Both networks on the same batches, then gradients through time."""
    text, generator = options.read(), options.generator()
    size = len(text.vocabulary)
    drawn = list(islice(batches(text.train, options.length, options.batch_size, generator), options.steps))
    judged = tuple(leaf[:JUDGED] for leaf in passages(text.validation, options.length))
    found = {name: trained(*pair, drawn, judged, options) for name, pair in networks(size, options.length).items()}

    x, y = (leaf[:SAMPLES] for leaf in passages(text.validation, options.distance + 1))
    fresh, learnt = (distance.Reader("lstm", *params) for params in (found["lstm"].start, found["lstm"].params))
    readers = {
        **{f"rnn, radius {rho:g}": distance.simple(rho, size, HIDDEN, generator, options.tensors) for rho in RADII},
        "lstm, at the start": fresh,
        f"lstm, forget bias {FORGET:g}": distance.with_forget_bias(fresh, FORGET),
        "lstm, trained": learnt,
    }
    ways = {name: distance.through_time(reader, x, y) for name, reader in readers.items()}
    others = {name: distance.through_time_by_autograd(reader, x, y) for name, reader in readers.items()}
    apart = {name: ((own - others[name]).abs().max() / own.abs().max()).item() for name, own in ways.items()}
    curves = {name: distance.against_distance(own) for name, own in ways.items()}
    return Result(
        "Recurrent: an lstm beside a transformer, and gradients through time",
        f"An lstm of {HIDDEN} units and a transformer of {DEPTH} layers and {FEATURES} features, on windows of "
        f"{options.length} of the {len(text.train):,} characters, {options.batch_size} in a batch: {options.steps:,} steps "
        f"of Adam at lr {options.lr:g}. Then $|dL_T/dh_t|$ in the mean of {len(x)} passages.",
        numbers={
            "training": {name: training._asdict() | {"start": [], "params": []} for name, training in found.items()},
            "gradient against the distance": curves,
            "gradients from autograd's": apart,
        },
        observations=observations(found, curves, apart),
        figures={"training": draw_training(found), "through_time": distance.draw_distances(curves)},
        tables=[
            Table(
                "After training",
                ["network", "parameters", "training loss, last batches", "validation loss"],
                [
                    [name, f"{own.count:,}", f"{mean(own.losses[own.marks[-2] :]):.3f}", f"{own.validation[-1]:.3f}"]
                    for name, own in found.items()
                ],
            )
        ],
    )


class Trained(NamedTuple):
    """One network's training."""

    count: int  # of parameters
    start: Any
    params: Any
    losses: list[float]
    marks: list[int]  # the steps after which the validation loss was taken
    validation: list[float]
    differences: list[float]
    providers: dict[str, float]


def networks(size: int, length: int) -> dict[str, tuple[fn.Layer, nn.Module]]:
    """The layers, from tokens (N, T) to logits (N, T, size), and the same of torch's modules."""
    lstm = nn.Sequential(nn.Embedding(size, FEATURES), modules.LSTM(FEATURES, HIDDEN), nn.Linear(HIDDEN, size))
    sizes = (size, length, FEATURES, HEADS, DEPTH)
    return {
        "lstm": (fn.serial(fn.embedding(size, FEATURES), fn.lstm(FEATURES, HIDDEN), fn.dense(HIDDEN, size)), lstm),
        "transformer": (fn.transformer(*sizes), modules.transformer(*sizes)),
    }


def trained(layer: fn.Layer, module: nn.Module, drawn: list[Any], judged: Any, options: Recurrent) -> Trained:
    """Trains by explicit gradients; beside it, classic PyTorch takes the first steps, and other providers fewer."""
    start, objective = layer.init(options.generator(), **options.tensors), fn.supervised(layer, fn.softmax_cross_entropy())
    modules.copied(start, module.to(**options.tensors))
    adam, first = fn.adam(options.lr), drawn[: options.compared]
    classic = classic_step(module, cross_entropy, options.lr, torch.optim.Adam)
    differences = beside_classic(objective, adam, start, module, classic, first).differences
    providers = beside_providers(objective, adam, start, first[:FEW], ("func_grad", "autograd"))

    marks = sorted({options.steps * mark**2 // MARKS**2 for mark in range(MARKS + 1)})  # dense where the loss falls fast
    losses, validation, params = [], [objective.value(start, judged).item()], start
    for taken, step in enumerate(fn.train(fn.explicit(objective), adam, start, drawn), start=1):
        params = step.params
        losses.append(step.value.item())
        if taken in marks:
            validation.append(objective.value(params, judged).item())
    count = sum(leaf.numel() for leaf in fn.tree.leaves(start))
    return Trained(count, start, params, losses, marks, validation, differences, providers)


def observations(found: dict[str, Trained], curves: dict[str, list[float]], apart: dict[str, float]) -> list[str]:
    """What the numbers say."""
    ends = " and ".join(f"{own.validation[-1]:.3f} ({name}, {own.count:,} parameters)" for name, own in found.items())
    factors = ", ".join(f"{distance.per_token(shares):.2f} ({name})" for name, shares in curves.items())
    last = {name: shares[-1] for name, shares in curves.items()}
    least, most = min(last, key=lambda name: last[name]), max(last, key=lambda name: last[name])
    worst = max(apart, key=lambda name: apart[name])
    return [
        f"After {len(found['lstm'].losses):,} steps the validation loss is {ends}.",
        *(f"The {name}: {agreement(own.differences, own.providers, FEW)}" for name, own in found.items()),
        f"Over {len(curves[least]) - 1} letters the gradient is multiplied by {last[least]:.0e} ({least}) up to "
        f"{last[most]:.0e} ({most}); per letter by {factors}.",
        f"Classic autograd, through a loop over the letters, agrees to {median(apart.values()):.0e} of the largest entry in "
        f"the median, at worst to {apart[worst]:.0e} ({worst}): where gradients explode, so does rounding.",
    ]


def draw_training(found: dict[str, Trained]) -> tuple[Any, str]:
    """The losses against the steps, and how far explicit and classic are apart."""
    drawing, (left, right) = figure(2)
    for index, (name, own) in enumerate(found.items()):
        left.plot(
            range(1, len(own.losses) + 1), own.losses, color=style(index)["color"], alpha=0.25, linewidth=0.8, zorder=1
        )
        left.plot(own.marks, own.validation, **style(index), marker=".", label=f"{name}, validation")
        draw_differences(right, own.differences, **style(index), label=name)
    left.set(xlabel="step", ylabel="cross entropy")
    left.legend(frameon=False)
    right.set(title="explicit and classic")
    right.legend(frameon=False)
    return (
        drawing,
        "Left, the loss on passages kept aside, and pale that of each batch. Right, the parameters of two trainings side by "
        "side.",
    )
