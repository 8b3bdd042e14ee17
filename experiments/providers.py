"""One network, every gradient provider: the same start, the same batches, seven ways to the gradient."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import funcnn as fn
from experiments.core.options import Options
from experiments.core.result import Result, Table
from experiments.core.timing import Timing, interleaved
from funcnn.plots import COLORS, DASHES, figure


@dataclass(frozen=True, kw_only=True)
class Providers(Options):
    """Trains one network on digits with every gradient provider and compares trajectories and costs."""

    hidden: int = 64
    """Sigmoid units in the hidden layer."""
    lr: float = 1.0
    """Learning rate."""
    steps: int = 45
    """Steps of gradient descent."""
    batch_size: int = 32
    """Samples per step."""

    FULL = {"steps": 135}


def run(options: Providers) -> Result:
    """Every provider's losses, its distance from the explicit one, and the time of a step."""
    generator = options.generator()
    data = fn.data.digits(generator=generator, **options.tensors)
    layer = fn.mlp((data.train[0].shape[1], options.hidden, 10))
    objective = fn.supervised(layer, fn.softmax_cross_entropy())
    start = layer.init(generator, **options.tensors)
    batches: list[Any] = []
    while len(batches) < options.steps:
        batches += fn.minibatches(data.train, options.batch_size, generator=generator)

    batches = batches[: options.steps]

    step_fns = {name: provider(objective) for name, provider in fn.PROVIDERS.items()}
    paths = {name: list(fn.train(step_fn, fn.sgd(options.lr), start, batches)) for name, step_fn in step_fns.items()}
    losses = {name: [step.value.item() for step in path] for name, path in paths.items()}
    distances = {
        name: [fn.tree.max_difference(a.params, b.params).item() for a, b in zip(path, paths["explicit"], strict=True)]
        for name, path in paths.items()
    }
    sides = {name: partial(step_fn, start, batches[0]) for name, step_fn in step_fns.items()}
    timing = interleaved(sides, rounds=9, device=options.device)
    count = sum(leaf.numel() for leaf in fn.tree.leaves(start))
    return Result(
        "Providers: seven ways to one gradient",
        f"Sizes {data.train[0].shape[1]}, {options.hidden}, 10 ({count} parameters) on digits: {options.steps} steps of "
        f"gradient descent on minibatches of {options.batch_size}, once with each gradient provider.",
        numbers={"loss per step": losses, "distance from explicit": distances, "seconds": timing.rounds},
        observations=_observations(losses, distances, timing, count),
        figures={"trajectories": _trajectories(losses, distances), "cost": _cost(timing)},
        tables=[_table(losses, distances, timing)],
    )


def _observations(losses: Any, distances: Any, timing: Timing, count: int) -> list[str]:
    largest = {name: max(path) for name, path in distances.items()}
    derived = [name for name in largest if not name.endswith("difference")]
    ranked = sorted((name for name in largest if name not in derived), key=lambda name: largest[name])
    costs = {name: timing.ratio(name, "explicit")[0] for name in timing.rounds}
    slowest = max(costs, key=lambda name: costs[name])
    return [
        f"{', '.join(derived)} agree to {max(largest[name] for name in derived):.1e} in every parameter over "
        f"{len(losses['explicit'])} steps; the loss goes from {losses['explicit'][0]:.3f} to {losses['explicit'][-1]:.3f}.",
        f"Of the finite differences {ranked[0]} stays closest, within {largest[ranked[0]]:.1e}, and {ranked[-1]} strays "
        f"the farthest, {largest[ranked[-1]]:.1e}.",
        f"A gradient by {slowest} costs {costs[slowest]:.0f} explicit ones, for {count} parameters; func_grad costs "
        f"{costs['func_grad']:.1f} and autograd {costs['autograd']:.1f}.",
    ]


def _table(losses: Any, distances: Any, timing: Timing) -> Table:
    rows = []
    for name, path in losses.items():
        cost = "{:.1f} ({:.1f} to {:.1f})".format(*timing.ratio(name, "explicit"))
        rows.append([name, f"{path[-1]:.6f}", f"{max(distances[name]):.1e}", f"{1e6 * timing.seconds(name):.0f}", cost])
    columns = ["provider", "last loss", "largest distance from explicit", "µs per gradient", "times explicit (quartiles)"]
    return Table("Every provider on the same batches", columns, rows)


def _trajectories(losses: Any, distances: Any) -> tuple[Any, str]:
    drawing, (left, right) = figure(2)
    for index, name in enumerate(losses):
        style = {"color": COLORS[index], "linestyle": DASHES[index], "label": name}
        left.plot(range(1, len(losses[name]) + 1), losses[name], linewidth=7 - index, **style)
        if any(distances[name]):
            right.semilogy(range(1, len(distances[name]) + 1), distances[name], linewidth=1.5, **style)
    left.set(xlabel="step", ylabel="loss of the minibatch")
    right.set(xlabel="step", ylabel="largest difference from explicit")
    left.legend(frameon=False, fontsize="small")
    right.legend(frameon=False, fontsize="small")
    return drawing, "The loss with each provider (left), and how far its parameters are from the hand-derived ones (right)."


def _cost(timing: Timing) -> tuple[Any, str]:
    drawing, (axis,) = figure(1, height=3.0)
    names = list(timing.rounds)[::-1]
    times = [1e6 * timing.seconds(name) for name in names]
    bars = axis.barh(names, times, color=[COLORS[len(names) - 1 - i] for i in range(len(names))])
    axis.bar_label(bars, [f"{t:,.0f}" for t in times], padding=3)
    axis.set(xscale="log", xlabel="time of one value and gradient (µs)", xlim=(min(times) / 3, max(times) * 4))
    return drawing, "The median time of one value and gradient with each provider, measured in turns."
