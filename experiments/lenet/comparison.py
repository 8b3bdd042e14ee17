"""Is it the same training? Step by step against classic PyTorch, other providers, and differences of every parameter."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

import funcnn as fn
from experiments.core.classic import classic_step
from experiments.core.timing import Timing, interleaved
from experiments.lenet.networks import Contest

OTHERS = ("func_grad", "autograd", "central_difference")
EVERY = 32  # one of so many parameters is moved by the loop that is timed: all of them would take it half a minute


def beside_classic(contest: Contest, batches: list[Any]) -> list[float]:
    """The largest difference of a parameter after each step from the same start, hand-derived gradients against classic."""
    classic = classic_step(contest.module, contest.criterion, contest.lr)
    steps = fn.train(contest.explicit, fn.sgd(contest.lr), contest.start, batches)
    differences = []
    for step, batch in zip(steps, batches, strict=True):
        classic(batch)
        differences.append(fn.tree.max_difference(fn.tree.leaves(step.params), contest.leaves()).item())
    return differences


def step_times(contest: Contest, device: str) -> Timing:
    """A step on the same batch by each optimizer, and by classic PyTorch."""
    batch = tuple(leaf[: contest.batch_size] for leaf in contest.data.train)
    classic = classic_step(contest.module, contest.criterion, contest.lr)
    runs = {name: fn.train(contest.explicit, own, contest.start, repeat(batch)) for name, own in contest.optimizers.items()}
    sides = {name: partial(next, run) for name, run in runs.items()}
    return interleaved(sides | {"classic": partial(classic, batch)}, device=device)


def beside_providers(contest: Contest, batches: list[Any], names: tuple[str, ...] = OTHERS) -> dict[str, float]:
    """The largest difference of a parameter from hand-derived gradients after some steps from the same start."""

    def trained(provider: Any) -> Any:
        *_, last = fn.train(provider(contest.objective), fn.sgd(contest.lr), contest.start, batches)
        return last.params

    derived = trained(fn.explicit)
    return {name: fn.tree.max_difference(trained(fn.PROVIDERS[name]), derived).item() for name in names}


def difference_times(contest: Contest, device: str) -> dict[str, Any]:
    """Forward differences of all parameters, structured, against a loop of one evaluation for each, on one sample."""
    batch = tuple(leaf[:1] for leaf in contest.data.train)
    objective = contest.objective
    w, unravel = fn.tree.ravel(contest.start)
    entries = range(0, len(w), EVERY)
    structured = partial(fn.finite_difference(objective, "forward"), contest.start, batch)
    looped = partial(loop, lambda w: objective.value(unravel(w), batch), w, entries)
    apart = (fn.tree.ravel(structured()[1])[0][entries.start :: EVERY] - looped()).abs().max().item()
    timing = interleaved({"structured": structured, "loop": looped}, rounds=5, device=device)
    share = len(entries) / len(w)
    ratio, low, high = timing.ratio("loop", "structured")
    return {
        "parameters": len(w),
        "structured": timing.seconds("structured"),
        "loop": timing.seconds("loop") / share,
        "faster": [number / share for number in (ratio, low, high)],
        "apart": apart,
    }


def loop(value: Callable[[Tensor], Tensor], w: Tensor, entries: range) -> Tensor:
    """What anyone would write first: (f(w + h e_i) - f(w)) / h for one entry after another."""
    h, center = torch.finfo(w.dtype).eps ** 0.5, value(w)

    def slopes() -> Iterator[Tensor]:
        for entry in entries:
            moved = w.clone()
            moved[entry] += h
            yield (value(moved) - center) / (moved[entry] - w[entry])

    return torch.stack(list(slopes()))
