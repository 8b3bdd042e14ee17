"""What it costs to keep a training, in a file of ten million parameters or after every step, and to freeze a part of one."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat
from pathlib import Path
from statistics import quantiles
from time import perf_counter
from typing import Any

import torch

import funcnn as fn
from experiments.benchmark import peers
from experiments.benchmark.measure import Race, Row
from experiments.benchmark.steps import LR
from experiments.core.classic import as_params
from experiments.core.scene import SIZES, on_random_data, scene

WIDTHS = (1000, 2500, 2500, 500)  # ten million parameters
STEPS, TURNS = 100, 9
SECONDS = "import torch, funcnn as fn; from time import perf_counter as t; a = t(); x = {}; print(t() - a)"


def run(race: Race, generator: torch.Generator) -> Iterator[Row]:
    """Files lie in the system's folder for temporary ones."""
    with tempfile.TemporaryDirectory() as folder:
        if race.device == "cpu":
            yield from ten_million(race, fn.mlp(WIDTHS).init(generator), Path(folder))
            yield checkpoints(race, generator, Path(folder) / "run")
    yield frozen(race, generator)


def ten_million(race: Race, params: Any, folder: Path) -> Iterator[Row]:
    """Saving, which comes to the disk with ours alone, and loading, which sums every byte with ours alone."""
    ours, theirs, what = folder / "ours.safetensors", folder / "theirs.pt", "10^7 parameters"
    save, saved = partial(fn.save, ours, params), partial(torch.save, params, theirs)
    load, loaded = partial(fn.load, ours), partial(torch.load, theirs)
    save(), saved()
    same = (fn.tree.leaves(load()), fn.tree.leaves(loaded()), 0.0)

    def synced() -> None:
        saved()
        with theirs.open("rb+") as file:
            os.fsync(file.fileno())

    yield race("files", f"save, {what}", "torch.save", save, saved, same=same, target=1.5)
    yield race("files", f"save, {what}", "torch.save and fsync", save, synced, same=same)
    yield race("files", f"load, {what}", "torch.load", load, loaded, same=same, target=1.0)
    calls = [f"fn.load({str(ours)!r})", f"torch.load({str(theirs)!r})"]
    sides = [[in_new_process(call) for call in calls] for _ in range(TURNS)]
    own, other = ([side[k] for side in sides] for k in range(2))
    ratios = quartiles([a / b for a, b in sides])
    what = f"load, {what}, first in a process"
    yield Row("files", what, "torch.load", race.threads, quartiles(own)[0], quartiles(other)[0], *ratios, target=1.0)


def checkpoints(race: Race, generator: torch.Generator, path: Path) -> Row:
    """What `fit` takes more for each step with a checkpoint after it, on the tiny network, against 1 ms."""
    count, features, hidden, classes = SIZES["tiny"]
    shape = (STEPS * count, features, classes)
    objective, params, data = on_random_data(fn.mlp((features, hidden, classes)), shape, generator, torch.float32, "cpu")

    def per_step(**kept: Any) -> float:
        path.unlink(missing_ok=True)
        how = {"epochs": 1, "batch_size": count, "generator": torch.Generator().manual_seed(0), **kept}
        return seconds(partial(fn.fit, fn.explicit(objective), fn.adam(0.01), params, data, **how)) / STEPS

    more = [per_step(checkpoint=path, checkpoint_every=1) - per_step() for _ in range(TURNS)]
    middle, low, high = quartiles(more)
    ratios = [t / 1e-3 for t in (middle, low, high)]
    return Row(
        "files", "a checkpoint after every step, tiny", "bar of 1 ms", race.threads, middle, 1e-3, *ratios, target=1.0
    )


def frozen(race: Race, generator: torch.Generator) -> Row:
    """A step that trains the last layer alone; on the other side the first requires no gradient."""
    objective, params, batch = scene("large", generator, torch.float32, race.device)
    module, classic = peers.classic(params, batch, SIZES["large"], LR)
    module[0].requires_grad_(False)
    classic()
    masked = fn.masked(fn.sgd(LR), fn.tree.map(lambda leaf: leaf is params[-1]["w"] or leaf is params[-1]["b"], params))
    steps: Any = fn.train(fn.explicit(objective), masked, params, repeat(batch))
    same = (fn.tree.leaves(next(steps).params), fn.tree.leaves(as_params(module)), 1e-5)
    return race(
        "files", "the last layer alone, large", "classic PyTorch", partial(next, steps), classic, same=same, target=1.0
    )


def in_new_process(call: str) -> float:
    """The seconds that a call takes there, where torch is imported already."""
    found = subprocess.run([sys.executable, "-c", SECONDS.format(call)], capture_output=True, text=True, check=True)
    return float(found.stdout)


def seconds(call: Callable[[], Any]) -> float:
    """Those that a call takes."""
    start = perf_counter()
    call()
    return perf_counter() - start


def quartiles(numbers: list[float]) -> tuple[float, float, float]:
    """(median, lower, upper)."""
    low, middle, high = quantiles(numbers, n=4, method="inclusive")
    return middle, low, high
