"""One network trained twice or more, explicit beside classic PyTorch and beside other providers: same start, same batches.

What their parameters differ by, step after step, is rounding, or an error of a rule.
"""

from collections.abc import Callable, Iterable
from functools import partial
from itertools import repeat, tee
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import funcnn as fn
from experiments.core.modules import copied, leaves_of
from experiments.core.timing import Timing, interleaved
from funcnn.plots import COLORS

Classic = Callable[[Any], Tensor]  # a step of classic training, a function of the batch


class Sides(NamedTuple):
    """Step by step the loss of explicit, and the largest difference of a parameter from classic PyTorch's."""

    losses: list[float]
    differences: list[float]


def beside_classic(
    objective: fn.Objective,
    optimizer: Any,
    start: Any,
    module: nn.Module,
    classic: Classic,
    batches: Iterable[Any],
) -> Sides:
    """Trains by explicit gradients from a start that is the module's too, and the module by `classic`, its step."""
    found = Sides([], [])
    ours, theirs = tee(batches)
    for step, batch in zip(fn.train(fn.explicit(objective), optimizer, start, ours), theirs, strict=True):
        classic(batch)
        found.losses.append(step.value.item())
        found.differences.append(difference(step.params, module))
    return found


def difference(params: Any, module: nn.Module) -> float:
    """The largest difference of a parameter of ours from the module's."""
    pairs = zip(fn.tree.leaves(params), leaves_of(module), strict=True)
    return torch.stack([(own - other).abs().max() for own, other in pairs]).max().item()


def beside_providers(
    objective: fn.Objective, optimizer: Any, start: Any, batches: list[Any], names: tuple[str, ...]
) -> dict[str, float]:
    """The largest difference from explicit, of any parameter after any of the batches, of training by each provider."""

    def path(name: str) -> Iterable[fn.Step]:
        return fn.train(fn.PROVIDERS[name](objective), optimizer, start, batches)

    return {
        name: max(
            fn.tree.max_difference(ours.params, theirs.params).item()
            for ours, theirs in zip(path("explicit"), path(name), strict=True)
        )
        for name in names
    }


def step_times(
    explicit: fn.StepFn, optimizers: dict[str, Any], start: Any, classic: Classic, batch: Any, device: str
) -> Timing:
    """A step on one batch by each of the optimizers and by classic PyTorch, whose parameters go on changing."""
    runs = {name: fn.train(explicit, own, start, repeat(batch)) for name, own in optimizers.items()}
    sides = {name: partial(next, run) for name, run in runs.items()}
    return interleaved(sides | {"classic": partial(classic, batch)}, device=device)


class Compared(NamedTuple):
    """How far explicit is from classic PyTorch step by step, from other providers at most, and the time of a step."""

    differences: list[float]
    providers: dict[str, float]
    timing: Timing

    def observations(self) -> list[str]:
        """What that comes to, in sentences."""
        (ratio, low, high), seconds = self.timing.ratio("explicit", "classic"), self.timing.seconds
        return [
            f"In float64: {agreement(self.differences, self.providers, len(self.differences))}",
            f"A step takes {1e3 * seconds('explicit'):.1f} ms explicit and {1e3 * seconds('classic'):.1f} ms classic: "
            f"{ratio:.2f} times as long (quartiles {low:.2f} to {high:.2f}).",
        ]


def compared(
    objective: fn.Objective,
    optimizer: Any,
    start: Any,
    module: nn.Module,
    classic: Callable[[nn.Module], Classic],
    batches: list[Any],
    device: str,
) -> Compared:
    """All of it on these batches; `classic` makes of a module its step. The times are those in the dtype of the start.

    Parameters are compared in float64. In float32 rounding would decide: the loss of a transformer does not depend on the
    bias of its keys, and of a gradient that is nothing but rounding Adam makes steps as long as any other.
    """
    exact = fn.tree.map(Tensor.double, start)
    double = copied(exact, module.to(device=device, dtype=torch.float64))
    sides = beside_classic(objective, optimizer, exact, double, classic(double), batches)
    providers = beside_providers(objective, optimizer, exact, batches, ("func_grad", "autograd"))
    step = classic(copied(start, module.to(fn.tree.leaves(start)[0])))
    timing = step_times(fn.explicit(objective), {"explicit": optimizer}, start, step, batches[0], device)
    return Compared(sides.differences, providers, timing)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Classic PyTorch's, the mean over all tokens: logits (..., C), labels (...)."""
    return F.cross_entropy(logits.flatten(0, -2), labels.flatten())


def agreement(differences: list[float], providers: dict[str, float], steps: int) -> str:
    """What both kinds of comparison found, in a sentence; the providers took so many steps."""
    others = ", ".join(f"{largest:.1e} ({name})" for name, largest in providers.items())
    return (
        f"Over {len(differences):,} steps no parameter by explicit differs from classic PyTorch's by more than "
        f"{max(differences):.1e}; from other providers', over {steps}, by {others} at most."
    )


def draw_differences(axis: Any, differences: list[float], **style: Any) -> None:
    """The largest difference of a parameter after each step, on a logarithmic axis; none is no point."""
    steps = [step for step, found in enumerate(differences, start=1) if found]
    axis.semilogy(steps, [differences[step - 1] for step in steps], **{"color": COLORS[0], "linewidth": 1, **style})
    axis.xaxis.get_major_locator().set_params(nbins=5, integer=True)
    axis.set(xlabel="step", ylabel="largest difference of a parameter")
