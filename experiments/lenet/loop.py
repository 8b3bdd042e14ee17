"""Differences of every parameter, structured, against the loop that anyone would write first."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

import funcnn as fn
from experiments.core.timing import interleaved
from experiments.lenet.networks import Contest

EVERY = 32  # one of so many parameters is moved by the loop that is timed: all of them would take it half a minute


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
