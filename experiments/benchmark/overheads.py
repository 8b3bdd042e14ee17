"""What the library itself costs: its import, the loop around a step, and the memory of a step."""

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from itertools import repeat

import torch

import funcnn as fn
from experiments.benchmark import peers
from experiments.benchmark.measure import Race, Row
from experiments.benchmark.steps import LR
from experiments.core.memory import peak
from experiments.core.scene import SIZES, scene
from experiments.core.timing import interleaved

IMPORT = "import torch; from time import perf_counter as t; a = t(); import funcnn; print(t() - a)"


def run(race: Race, generator: torch.Generator) -> Iterator[Row]:
    """Seconds of import and of the loop, each against its bar in place of a peer; megabytes against another gradient."""
    yield imports(race)
    yield loop(race)
    if race.device == "cpu":
        yield from memory(race, generator)


def imports(race: Race) -> Row:
    """What `import funcnn` adds to `import torch`, against 0.15 s: fresh processes, with bytecode as once installed."""
    surroundings = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}

    def seconds() -> float:
        run = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True, env=surroundings)
        return float(run.stdout)

    added = sorted(seconds() for _ in range(5))
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


def memory(race: Race, generator: torch.Generator) -> Iterator[Row]:
    """The peak of what torch allocates during the first two calls, in megabytes where other rows have seconds."""
    objective, params, batch = scene("large", generator, torch.float32, race.device)
    steps = fn.train(fn.explicit(objective), fn.sgd(LR), params, repeat(batch))
    _, classic = peers.classic(params, batch, SIZES["large"], LR)
    yield memory_row("a step, large", "classic PyTorch", peak(partial(next, steps)), peak(classic), race, 1.0)
    objective, params, batch = scene("middle", generator, torch.float64, race.device)
    differences, exact = (partial(provider(objective), params, batch) for provider in (fn.finite_difference, fn.func_grad))
    yield memory_row("finite differences, middle", "torch.func.grad", peak(differences), peak(exact), race, None)


def memory_row(what: str, peer: str, ours: int, theirs: int, race: Race, target: float | None) -> Row:
    """A row in megabytes; allocations are the same in every run, so there is no spread."""
    ratio, megabytes = ours / theirs, (ours / 1e6, theirs / 1e6)
    return Row("overheads", f"peak memory of {what} (MB)", peer, race.threads, *megabytes, ratio, ratio, ratio, target)
