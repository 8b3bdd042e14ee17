"""The same network twice, trained side by side: funcnn's explicit gradients against classic PyTorch.

Both sides start from the same parameters and see the same batches in the same order, so any difference between them is
rounding or an error.
"""

from itertools import repeat
from math import nan
from typing import Any

import torch
from torch import nn

import funcnn as fn
from experiments.core.classic import as_params, classic_step, copy_params
from experiments.core.options import Options
from experiments.core.result import Result, Table
from experiments.core.timing import Timing, interleaved
from experiments.core.training import accuracy
from funcnn.plots import COLORS, figure, log_scale


def compare(
    title: str,
    about: str,
    layer: fn.Layer,
    loss: fn.Loss,
    module: nn.Sequential,
    criterion: nn.Module,
    data: fn.data.Dataset,
    options: Any,
    generator: torch.Generator,
) -> Result:
    """Trains both, compares them step by step, then times a step of each."""
    params = layer.init(generator, **options.tensors)
    module = module.to(**options.tensors)
    copy_params(params, module)
    objective = fn.supervised(layer, loss)
    step_fn, optimizer = fn.explicit(objective), fn.sgd(options.lr)
    classic = classic_step(module, criterion, options.lr)

    def evaluate(params: Any) -> tuple[float, float]:
        return objective.value(params, data.train).item(), accuracy(layer, params, data.test)

    start = evaluate(params)
    curves: dict[str, list[tuple[float, float]]] = {"explicit": [start], "classic": [start]}
    differences, first = [], params
    for _ in range(options.epochs):
        batches = list(fn.minibatches(data.train, options.batch_size, generator=generator))
        for step, batch in zip(fn.train(step_fn, optimizer, params, batches), batches, strict=True):
            classic(batch)
            params = step.params
            differences.append(fn.tree.max_difference(params, as_params(module)).item())
        curves["explicit"].append(evaluate(params))
        curves["classic"].append(evaluate(as_params(module)))

    batch = tuple(leaf[: options.batch_size] for leaf in data.train)
    steps = fn.train(step_fn, optimizer, first, repeat(batch))
    timing = interleaved({"explicit": lambda: next(steps), "classic": lambda: classic(batch)}, device=options.device)
    return Result(
        title,
        about,
        numbers={
            "loss and accuracy per epoch": curves,
            "largest difference per step": differences,
            "seconds": timing.rounds,
        },
        observations=_observations(curves, differences, timing, options),
        figures={"convergence": _convergence(curves, differences), "performance": _performance(timing)},
        tables=[_table(curves, timing)],
    )


def _observations(curves: Any, differences: list[float], timing: Timing, options: Options) -> list[str]:
    (loss, accuracy), (_, classic_accuracy) = curves["explicit"][-1], curves["classic"][-1]
    start = curves["explicit"][0][0]
    if not loss <= start:
        epoch = next(i for i, (value, _) in enumerate(curves["explicit"]) if not value <= start)
        return [
            f"The training diverged: its loss went from {start:.3g} to {loss:.3g}, rising above its start in epoch {epoch}."
        ]
    largest, eps = max(differences), torch.finfo(getattr(torch, options.dtype)).eps
    ratio, low, high = timing.ratio("explicit", "classic")
    return [
        f"Over {len(differences)} steps the parameters of the two networks differ by at most {largest:.1e}, "
        f"{largest / eps:.2g} times the rounding unit of {options.dtype}.",
        f"The training loss falls from {start:.3f} to {loss:.4f}; the test accuracy ends at "
        f"{accuracy:.3f} (explicit) and {classic_accuracy:.3f} (classic).",
        f"A step takes {1e6 * timing.seconds('explicit'):.0f} µs explicit and {1e6 * timing.seconds('classic'):.0f} µs "
        f"classic: {ratio:.2f} times as long (quartiles {low:.2f} to {high:.2f}).",
    ]


def _table(curves: Any, timing: Timing) -> Table:
    rows = [
        [side, f"{curves[side][-1][0]:.6f}", f"{curves[side][-1][1]:.4f}", f"{1e6 * timing.seconds(side):.1f}"]
        for side in ("explicit", "classic")
    ]
    return Table("At the end", ["network", "training loss", "test accuracy", "µs per step"], rows)


def _convergence(curves: Any, differences: list[float]) -> tuple[Any, str]:
    drawing, (left, middle, right) = figure(3)
    for side, width, dash, color in (("classic", 4.0, "-", COLORS[5]), ("explicit", 1.5, "--", COLORS[1])):
        losses, accuracies = zip(*curves[side], strict=True)
        losses = [loss if loss < 1e99 else nan for loss in losses]  # what diverged leaves the picture
        left.plot(losses, linewidth=width, linestyle=dash, color=color, label=side)
        middle.plot(accuracies, linewidth=width, linestyle=dash, color=color, label=side)
    log_scale(left)
    left.set(xlabel="epoch", ylabel="training loss")
    middle.set(xlabel="epoch", ylabel="test accuracy")
    right.semilogy(
        range(1, len(differences) + 1), [d if d < 1e99 else nan for d in differences], color=COLORS[0], linewidth=1
    )
    right.set(xlabel="step", ylabel="largest difference of a parameter")
    left.legend(frameon=False)
    middle.legend(frameon=False)
    caption = "Loss and accuracy of both networks, and the largest difference between their parameters after each step."
    return drawing, caption


def _performance(timing: Timing) -> tuple[Any, str]:
    drawing, (left, right) = figure(2, height=3.0)
    sides = ["explicit", "classic"]
    left.boxplot([[1e6 * t for t in timing.rounds[side]] for side in sides], tick_labels=sides, showfliers=False)
    left.set(ylabel="time per step (µs)", ylim=(0, None))
    ratios = [a / b for a, b in zip(timing.rounds["explicit"], timing.rounds["classic"], strict=True)]
    right.plot(range(1, len(ratios) + 1), ratios, ".", color=COLORS[0], label="explicit / classic")
    right.axhline(1, color="black", linewidth=0.8)
    right.set(xlabel="round", ylabel="ratio of the times", ylim=(0, 1.15 * max(1, *ratios)))
    right.legend(frameon=False, loc="lower left")
    return drawing, "Time per step, measured in turns; right, the ratio within each round (below 1: explicit is faster)."
