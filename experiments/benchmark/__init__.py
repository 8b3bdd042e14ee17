"""The benchmark: ours against what a user would pick instead, measured in turns, at one thread and at two."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from experiments.benchmark import growth
from experiments.benchmark.measure import Row
from experiments.benchmark.presentation import COLUMNS, at, cells, draw, earlier, moved, observations, show
from experiments.core.options import BadOption, Options
from experiments.core.result import Result, Table

Section = Literal["step", "large", "networks", "differences", "samples", "overheads", "files", "growth"]
SECTIONS = get_args(Section)


@dataclass(frozen=True, kw_only=True)
class Benchmark(Options):
    """Measures funcnn against classic PyTorch, torch.func, JAX, Opacus, BackPACK and more, in float32 whatever --dtype."""

    sections: tuple[Section, ...] = ("step",)
    """What to measure; `large` are steps of a large network and of one of many layers."""
    threads: tuple[int, ...] = (1,)
    """Numbers of threads; each is measured in a process of its own."""
    compare: Path | None = None
    """The result.json of an earlier benchmark: shows what moved."""

    FULL = {"sections": SECTIONS, "threads": (1, 2)}

    def __post_init__(self) -> None:
        """Raises BadOption for thread counts or an earlier result that cannot be used."""
        super().__post_init__()
        if not self.threads or min(self.threads) < 1:
            raise BadOption(f"threads: got {self.threads}, needs positive numbers")
        if self.compare is not None and not self.compare.is_file():
            raise BadOption(f"compare: got {self.compare}, needs the result.json of an earlier benchmark")
        if self.compare is not None:
            earlier(self.compare)


def run(options: Benchmark) -> Result:
    """Every section at every number of threads, as one table."""
    rows, growths = [], []
    for threads in options.threads:
        for line in measured(options, threads):
            kind, content = json.loads(line)
            if kind == "row":
                rows.append(Row(*content))
                print(f"  {at(threads)}: {rows[-1].what}, {rows[-1].peer}: {rows[-1].ratio:.3g}", flush=True)
            else:
                growths.append(content)
    table = Table("Ours against its peers (times in µs)", COLUMNS, [cells(row) for row in rows])
    figures = {"ratios": draw(rows)} if rows else {}
    figures |= {f"growth_{found['threads']}": growth.draw(found) for found in growths}
    if rows:
        show(table)
    return Result(
        "Benchmark: ours against its peers",
        "Ratios of times measured in turns in one process, after checking that both sides compute the same; below 1 ours is "
        "faster. Sizes (N, D, H, C): tiny (32, 64, 32, 10), middle (128, 784, 128, 10), large (1024, 784, 512, 10).",
        numbers={"rows": [row._asdict() for row in rows], "growth": growths},
        observations=[*observations(rows, growths), *moved(rows, options.compare)],
        figures=figures,
        tables=[table] if rows else [],
    )


def measured(options: Benchmark, threads: int) -> Iterator[str]:
    """The lines that a process with that many threads prints, as they come."""
    command = [sys.executable, "-m", "experiments.benchmark.worker", str(threads), str(options.seed), options.device]
    with subprocess.Popen([*command, *options.sections], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        yield from worker.stdout
    if worker.returncode:
        raise RuntimeError(f"the benchmark's process with {at(threads)} failed with exit code {worker.returncode}")
