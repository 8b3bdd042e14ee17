"""One network, every gradient provider: the same start, the same batches, six ways to the gradient."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import funcnn as fn
from experiments.options import Options, require_positive
from experiments.result import Result, Table
from experiments.timing import Timing, interleaved
from funcnn.plots import COLORS, DASHES, figure


@dataclass(frozen=True, kw_only=True)
class Providers(Options):
    """Trains one network on digits with every gradient provider and compares trajectories and costs."""

    hidden: int = 64
    """Sigmoid units in the hidden layer."""
    lr: float = 1.0
    """Learning rate."""
    steps: int = 135
    """Steps of gradient descent."""
    batch_size: int = 32
    """Samples per step."""

    def __post_init__(self) -> None:
        """Raises BadOption for an option that is not positive."""
        super().__post_init__()
        require_positive(self, "hidden", "lr", "steps", "batch_size")


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

    step_fns = {name: provider(objective) for name, provider in fn.PROVIDERS.items()}
    paths = {name: list(fn.train(f, fn.sgd(options.lr), start, batches[: options.steps])) for name, f in step_fns.items()}
    losses = {name: [step.value.item() for step in path] for name, path in paths.items()}
    distances = {
        name: [fn.tree.max_difference(a.params, b.params).item() for a, b in zip(path, paths["explicit"], strict=True)]
        for name, path in paths.items()
    }
    timing = interleaved(
        {name: partial(f, start, batches[0]) for name, f in step_fns.items()}, rounds=9, device=options.device
    )
    count = sum(leaf.numel() for leaf in fn.tree.leaves(start))
    return Result(
        "Providers: six ways to one gradient",
        f"Sizes {data.train[0].shape[1]}, {options.hidden}, 10 ({count} parameters) on digits: {options.steps} steps of "
        f"gradient descent on minibatches of {options.batch_size}, once with each gradient provider.",
        numbers={
            "parameters": count,
            "loss per step": losses,
            "distance from explicit": distances,
            "seconds": timing.rounds,
        },
        observations=_observations(losses, distances, timing, count),
        figures={"trajectories": _trajectories(losses, distances), "cost": _cost(timing)},
        tables=[_table(losses, distances, timing)],
    )


def _observations(losses: Any, distances: Any, timing: Timing, count: int) -> list[str]:
    derived = [name for name in distances if not name.endswith("difference")]
    others = [name for name in distances if name.endswith("difference")]
    exact, farthest = max(max(distances[name]) for name in derived), max(others, key=lambda name: max(distances[name]))
    nearest = min(others, key=lambda name: max(distances[name]))
    slowest = max(timing.rounds, key=timing.seconds)
    return [
        f"{', '.join(derived)} agree to {exact:.1e} in every parameter over {len(losses['explicit'])} steps; the loss "
        f"falls from {losses['explicit'][0]:.3f} to {losses['explicit'][-1]:.3f}.",
        f"Of the finite differences {nearest} stays closest, within {max(distances[nearest]):.1e}, and {farthest} strays "
        f"the farthest, {max(distances[farthest]):.1e}.",
        f"A gradient by {slowest} costs {timing.ratio(slowest, 'explicit')[0]:.0f} explicit ones, for {count} parameters; "
        f"func_grad costs {timing.ratio('func_grad', 'explicit')[0]:.1f} and autograd "
        f"{timing.ratio('autograd', 'explicit')[0]:.1f}.",
    ]


def _table(losses: Any, distances: Any, timing: Timing) -> Table:
    rows = []
    for name in losses:
        ratio, low, high = timing.ratio(name, "explicit")
        cost = f"{ratio:.1f} ({low:.1f} to {high:.1f})"
        rows.append(
            [name, f"{losses[name][-1]:.6f}", f"{max(distances[name]):.1e}", f"{1e6 * timing.seconds(name):.0f}", cost]
        )
    columns = ["provider", "last loss", "largest distance from explicit", "µs per gradient", "times explicit (quartiles)"]
    return Table("Every provider on the same batches", columns, rows)


def _trajectories(losses: Any, distances: Any) -> tuple[Any, str]:
    drawing, (left, right) = figure(2)
    for index, name in enumerate(losses):
        style = {"color": COLORS[index], "linestyle": DASHES[index], "label": name}
        left.plot(range(1, len(losses[name]) + 1), losses[name], linewidth=7 - 1.1 * index, **style)
        if any(distances[name]):
            right.semilogy(range(1, len(distances[name]) + 1), distances[name], linewidth=1.5, **style)
    left.set(xlabel="step", ylabel="loss of the minibatch")
    right.set(xlabel="step", ylabel="largest difference from explicit")
    left.legend(frameon=False, fontsize="small")
    right.legend(frameon=False, fontsize="small")
    return drawing, "Six trajectories that look like one (left), and how far each is from the hand-derived one (right)."


def _cost(timing: Timing) -> tuple[Any, str]:
    drawing, (axis,) = figure(1, height=3.0)
    names = list(timing.rounds)[::-1]
    times = [1e6 * timing.seconds(name) for name in names]
    bars = axis.barh(names, times, color=[COLORS[len(names) - 1 - i] for i in range(len(names))])
    axis.bar_label(bars, [f"{t:,.0f}" for t in times], padding=3)
    axis.set(xscale="log", xlabel="time of one value and gradient (µs)", xlim=(min(times) / 3, max(times) * 4))
    return drawing, "The median time of one value and gradient with each provider, measured in turns."
