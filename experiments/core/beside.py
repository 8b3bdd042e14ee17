"""One network trained twice or more, explicit beside classic PyTorch and beside other providers: same start, same batches.

What their parameters differ by, step after step, is rounding, or an error of a rule.
"""

from collections.abc import Callable, Iterable
from itertools import tee
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import funcnn as fn
from experiments.core.modules import leaves_of
from funcnn.plots import COLORS


class Sides(NamedTuple):
    """Step by step the loss of explicit, and the largest difference of a parameter from classic PyTorch's."""

    losses: list[float]
    differences: list[float]


def beside_classic(
    objective: fn.Objective,
    optimizer: Any,
    start: Any,
    module: nn.Module,
    classic: Callable[[Any], Tensor],
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
