"""What the library itself costs: its import, the loop around a step, and the memory of a step."""

import resource
import subprocess
import sys
from collections.abc import Iterator
from itertools import repeat

import torch

import funcnn as fn
from experiments.benchmark import peers
from experiments.benchmark.measure import SIZES, Race, Row
from experiments.benchmark.steps import LR, scene
from experiments.timing import interleaved

IMPORT = "from time import perf_counter as t; a = t(); import {}; print(t() - a)"


def run(race: Race, generator: torch.Generator) -> Iterator[Row]:
    """Seconds of import and of the loop, each against its bar in place of a peer; megabytes against classic PyTorch."""
    yield imports(race)
    yield loop(race)
    yield memory(race)


def imports(race: Race) -> Row:
    """What `import funcnn` adds to `import torch`, against 0.15 s: fresh processes, in turns."""

    def seconds(module: str, before: str) -> float:
        code = before + IMPORT.format(module)
        return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)

    added = sorted(seconds("funcnn", "import torch; ") for _ in range(5))
    ratios = [added[k] / 0.15 for k in (2, 1, 3)]
    return Row("overheads", "import funcnn, after torch", "bar of 0.15 s", race.threads, added[2], 0.15, *ratios, target=1.0)


def loop(race: Race) -> Row:
    """`train` with a step function and an optimizer that do nothing, against 10 us."""
    value, params = torch.zeros(()), {"w": torch.zeros(1)}
    step_fn = fn.StepFn(lambda params, batch: value, lambda params, batch: (value, params))
    optimizer = fn.Optimizer(lambda params: (), lambda at, params, state: fn.Step(params, state, at(params)[0]))
    steps = fn.train(step_fn, optimizer, params, repeat(value))
    timing = interleaved({"ours": lambda: next(steps)}, rounds=20)
    low, middle, high = (sorted(timing.rounds["ours"])[k] for k in (5, 10, 15))
    ratios = [t / 10e-6 for t in (middle, low, high)]
    return Row("overheads", "train, per step", "bar of 10 µs", race.threads, middle, 10e-6, *ratios, target=1.0)


def memory(race: Race) -> Row:
    """The growth of a fresh process's peak memory over a few steps at large, in bytes where other rows have seconds."""

    def peak(side: str) -> int:
        command = [sys.executable, "-m", "experiments.benchmark.overheads", side]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    pairs = [(peak("explicit"), peak("classic")) for _ in range(3)]
    ours, theirs = (sorted(side)[1] for side in zip(*pairs, strict=True))
    low, middle, high = sorted(a / b for a, b in pairs)
    return Row(
        "overheads",
        "peak memory, large (MB)",
        "classic PyTorch",
        race.threads,
        ours / 1e6,
        theirs / 1e6,
        middle,
        low,
        high,
        1.0,
    )


def _peak_of(side: str) -> int:
    """Bytes by which five steps raise this process's high-water mark."""
    objective, params, batch = scene("large", torch.Generator().manual_seed(0), torch.float32, "cpu")
    steps = fn.train(fn.explicit(objective), fn.sgd(LR), params, repeat(batch))
    module, step = peers.classic(params, batch, SIZES["large"], LR)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(5):
        if side == "explicit":
            next(steps)
        else:
            step()
    return 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


if __name__ == "__main__":
    print(_peak_of(sys.argv[1]))
