"""Timing that survives a noisy machine: the sides take turns in the same process, and only ratios are concluded from.

In each round every side runs for about the same short while, one right after the other, so that whatever else the
machine is doing hits them alike. A ratio is taken within each round; its median and quartiles are over the rounds.
"""

from collections.abc import Callable
from statistics import median, quantiles
from time import perf_counter
from typing import Any, NamedTuple

import torch


class Timing(NamedTuple):
    """Seconds per call of each side, one number per round."""

    rounds: dict[str, list[float]]

    def seconds(self, side: str) -> float:
        """The median time of a call."""
        return median(self.rounds[side])

    def ratio(self, side: str, other: str) -> tuple[float, float, float]:
        """How many times as long `side` takes as `other`: (median, lower quartile, upper quartile) over the rounds."""
        ratios = [a / b for a, b in zip(self.rounds[side], self.rounds[other], strict=True)]
        low, middle, high = quantiles(ratios, n=4, method="inclusive")
        return middle, low, high


def interleaved(
    sides: dict[str, Callable[[], Any]],
    *,
    rounds: int = 30,
    slice_seconds: float = 0.004,
    seconds: float = 2.0,
    device: str = "cpu",
) -> Timing:
    """Times functions of no arguments in turn, `rounds` times each, after a warm-up that also sizes the slices.

    What takes longer than so many `seconds` in all is timed less often, three rounds at least.
    """
    timed = _seconds_on_cuda if device.startswith("cuda") else _seconds
    repeats, took = {}, {}
    for name, function in sides.items():
        function()
        took[name] = max(timed(function, 1), 1e-9)
        repeats[name] = max(1, round(slice_seconds / took[name]))
    rounds = max(3, min(rounds, round(seconds / sum(repeats[name] * took[name] for name in sides))))
    times: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    for turn in range(rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            times[name].append(timed(sides[name], repeats[name]))
    return Timing(times)


def _seconds(function: Callable[[], Any], repeats: int) -> float:
    start = perf_counter()
    for _ in range(repeats):
        function()
    return (perf_counter() - start) / repeats


def _seconds_on_cuda(function: Callable[[], Any], repeats: int) -> float:
    """By events on the device: the clock of the host sees only how fast work is handed over."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(repeats):
        function()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000 / repeats
