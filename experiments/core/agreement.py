"""Do others come to the same parameters? Classic PyTorch and two providers beside the explicit gradient, step by step.

All start from the same parameters and see the same batches, in float64. In float32 rounding would decide: the loss does not
depend on the bias of the keys, and of a gradient that is nothing but rounding Adam makes steps as long as any other.
"""

from collections.abc import Iterable, Iterator
from itertools import cycle
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

import funcnn as fn
from experiments.core.adamw import AdamW
from experiments.core.modules import copied, leaves_of
from experiments.core.timing import Timing, interleaved
from funcnn.plots import COLORS, DASHES

PROVIDERS = {"func_grad": fn.func_grad, "autograd": fn.autograd}


class Sides(NamedTuple):
    """A network of tokens and its loss twice, ours and classic PyTorch's, and the optimizer of both."""

    objective: fn.Objective
    module: nn.Module
    optimizer: AdamW

    def path(self, provider: Any, start: Any, batches: Iterable[Any]) -> Iterator[Any]:
        """The leaves of the parameters after each of our steps."""
        for step in fn.train(provider(self.objective), self.optimizer.transformation(), start, batches):
            yield fn.tree.leaves(step.params)

    def classic_path(self, start: Any, batches: Iterable[Any]) -> Iterator[Any]:
        """The same of classic training; the next step changes them."""
        module = copied(start, self.module.to(fn.tree.leaves(start)[0]))
        step = self.optimizer.classic_step(module, last_cross_entropy)
        for batch in batches:
            step(batch)
            yield leaves_of(module)


def last_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over the last places of logits (N, T, C), as many as there are labels (N, L)."""
    return F.cross_entropy(logits[:, -labels.shape[1] :].flatten(0, 1), labels.flatten())


class Agreement(NamedTuple):
    """The largest difference of a parameter from the explicit path after each step, by name; and the time of a step."""

    distances: dict[str, list[float]]
    timing: Timing

    def observations(self) -> list[str]:
        """What it shows, in sentences."""
        largest = {name: max(path) for name, path in self.distances.items()}
        steps, (ratio, low, high) = len(self.distances["classic"]), self.timing.ratio("explicit", "classic")
        others = ", ".join(f"{name} {distance:.1e}" for name, distance in largest.items() if name != "classic")
        return [
            f"Over {steps} steps in float64 the parameters differ from those of the explicit gradient by at most "
            f"{largest['classic']:.1e} in classic PyTorch ({others}).",
            f"A step takes {1e3 * self.timing.seconds('explicit'):.1f} ms explicit and "
            f"{1e3 * self.timing.seconds('classic'):.1f} ms classic: {ratio:.2f} times as long (quartiles {low:.2f} to "
            f"{high:.2f}).",
        ]

    def draw(self, axis: Any) -> None:
        """The differences, step by step."""
        for index, (name, path) in enumerate(self.distances.items()):
            axis.semilogy(range(1, len(path) + 1), path, color=COLORS[index], linestyle=DASHES[index], label=name)
        axis.set(xlabel="step", ylabel="largest difference from explicit")
        axis.legend(frameon=False, fontsize="small")


def agreement(sides: Sides, start: Any, batches: list[Any], device: str) -> Agreement:
    """What steps on these batches show. The times are those in the dtype of the start."""
    found = distances(sides, fn.tree.map(Tensor.double, start), batches)
    ours = sides.path(fn.explicit, start, cycle(batches))
    theirs = sides.classic_path(start, cycle(batches))
    timing = interleaved({"explicit": lambda: next(ours), "classic": lambda: next(theirs)}, device=device)
    return Agreement(found, timing)


def distances(sides: Sides, start: Any, batches: list[Any]) -> dict[str, list[float]]:
    """The largest difference of a parameter from the explicit path after each step."""
    others = {name: sides.path(provider, start, batches) for name, provider in PROVIDERS.items()}
    others = {"classic": sides.classic_path(start, batches), **others}
    found: dict[str, list[float]] = {name: [] for name in others}
    for explicit in sides.path(fn.explicit, start, batches):
        for name, path in others.items():
            found[name].append(fn.tree.max_difference(next(path), explicit).item())
    return found
