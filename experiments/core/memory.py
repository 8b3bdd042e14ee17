"""How much memory a computation needs: the peak of what torch allocates while it runs."""

import os
from collections.abc import Callable
from itertools import accumulate
from typing import Any

from torch.profiler import ProfilerActivity, profile

os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else the profiler tells every start and stop of it on the terminal

UNITS = {unit: 2 ** (10 * power) for power, unit in enumerate(("bytes", "KiB", "MiB", "GiB", "TiB", "PiB"))}


def peak(function: Callable[[], Any]) -> int:
    """Bytes of the CPU's memory that two calls hold at most beyond what was held before."""
    # Events are kept, or torch 2.11 warns on a GPU's machine that they are not.
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        for _ in range(2):
            function()
    assert profiler.profiler is not None
    changes = [event.nbytes() for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(accumulate(changes), default=0)


def in_units(size: float) -> str:
    """Bytes in the largest unit of which there is at least one, such as 256 GiB."""
    unit = max((unit for unit in UNITS if UNITS[unit] <= size), key=lambda unit: UNITS[unit], default="bytes")
    return f"{size / UNITS[unit]:.3g} {unit}"


def memory_scale(axis: Any) -> None:
    """A logarithmic y axis in bytes: ticks at 1 KiB, 32 KiB, 1 MiB and so on."""
    axis.set_yscale("log", base=32, subs=[])
    axis.yaxis.set_major_formatter(lambda size, _: in_units(size))
