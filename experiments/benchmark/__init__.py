"""The benchmark: ours against what a user would pick instead, measured in turns, at one thread and at two."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table as RichTable

from experiments.benchmark import growth
from experiments.benchmark.measure import Row
from experiments.benchmark.peers import missing
from experiments.options import BadOption, Options
from experiments.result import Result, Table
from funcnn.plots import COLORS, figure

SECTIONS = ("step", "differences", "samples", "overheads", "growth")
COLUMNS = ["what", "threads", "peer", "peer's time", "ours", "ours / peer", "quartiles", "target", "reached"]


@dataclass(frozen=True, kw_only=True)
class Benchmark(Options):
    """Measures funcnn against classic PyTorch, torch.func, JAX, Opacus, BackPACK, SciPy and more, in float32 unless said."""

    sections: tuple[Literal["step", "differences", "samples", "overheads", "growth"], ...] = SECTIONS
    """What to measure."""
    threads: tuple[int, ...] = (1, 2)
    """Numbers of threads; each is measured in a process of its own."""
    compare: Path | None = None
    """The result.json of an earlier benchmark: shows what moved."""

    def __post_init__(self) -> None:
        """Raises BadOption for thread counts or an earlier result that cannot be used."""
        super().__post_init__()
        if not self.threads or min(self.threads) < 1:
            raise BadOption(f"threads: got {self.threads}, needs positive numbers")
        if self.compare is not None and not self.compare.is_file():
            raise BadOption(f"compare: got {self.compare}, needs the result.json of an earlier benchmark")


def run(options: Benchmark) -> Result:
    """Every section at every number of threads, as one table."""
    rows, growths = [], []
    for threads in options.threads:
        for line in measured(options, threads):
            kind, content = json.loads(line)
            if kind == "row":
                rows.append(Row(*content))
                print(f"  {threads} threads: {rows[-1].what}, {rows[-1].peer}: {rows[-1].ratio:.3g}", flush=True)
            else:
                growths.append(content)
    table = Table("Ours against its peers (times in µs)", COLUMNS, [cells(row) for row in rows])
    figures = {"ratios": draw(rows)} if rows else {}
    figures |= {f"growth_{found['threads']}": growth.draw(found) for found in growths}
    show(table)
    return Result(
        "Benchmark: ours against its peers",
        "Ratios of times measured in turns in one process, after checking that both sides compute the same; below 1 ours is "
        "faster. Sizes (N, D, H, C): tiny (32, 64, 32, 10), middle (128, 784, 128, 10), large (1024, 784, 512, 10).",
        numbers={"rows": [row._asdict() for row in rows], "growth": growths},
        observations=[*observations(rows, growths), *moved(rows, options.compare)],
        figures=figures,
        tables=[table],
    )


def measured(options: Benchmark, threads: int) -> Iterator[str]:
    """The lines that a process with that many threads prints, as they come."""
    command = [sys.executable, "-m", "experiments.benchmark.worker", str(threads), str(options.seed), options.device]
    with subprocess.Popen([*command, *options.sections], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        yield from worker.stdout
    if worker.returncode:
        raise RuntimeError(f"the benchmark's process with {threads} threads failed with exit code {worker.returncode}")


def cells(row: Row) -> list[str]:
    """A row as it is read."""
    target = "" if row.target is None else f"{row.target:.3g}"
    reached = "" if row.target is None else ("yes" if row.ratio <= row.target else "no")
    times = (
        [f"{1e6 * row.theirs:,.1f}", f"{1e6 * row.ours:,.1f}"]
        if "(MB)" not in row.what
        else [f"{row.theirs:.1f} MB", f"{row.ours:.1f} MB"]
    )
    return [
        row.what,
        str(row.threads),
        row.peer,
        *times,
        f"{row.ratio:.3g}",
        f"{row.low:.3g} to {row.high:.3g}",
        target,
        reached,
    ]


def show(table: Table) -> None:
    """The table on the terminal."""
    shown = RichTable(*table.columns, title=table.caption)
    for row in table.rows:
        shown.add_row(*row)
    terminal = Console()
    (terminal if terminal.is_terminal else Console(width=160)).print(shown)


def observations(rows: list[Row], growths: list[Any]) -> list[str]:
    """What the rows come to, which peers are missing, and how much of the matmul bound is reached."""
    aimed = [row for row in rows if row.target is not None]
    short = [
        f"{r.what} at {r.threads} threads against {r.peer} ({r.ratio:.3g}, not {r.target:.3g})"
        for r in aimed
        if r.ratio > r.target
    ]
    lines = [f"{len(aimed) - len(short)} of {len(aimed)} targets are reached. Short of it: {'; '.join(short) or 'none'}."]
    lines += [f"Not installed, and so not measured: {', '.join(missing())}."] if missing() else []
    for found in growths:
        best = {name: max(shares) for name, shares in found["shares"].items()}
        reached = ", ".join(f"{share:.0%} along {name}" for name, share in best.items())
        lines.append(f"At {found['threads']} threads a step reaches up to {reached} of the machine's best matrix product.")
    return lines


def moved(rows: list[Row], earlier: Path | None) -> list[str]:
    """The ratios whose quartiles no longer meet those of an earlier result."""
    if earlier is None:
        return []
    before = {(r["what"], r["peer"], r["threads"]): r for r in json.loads(earlier.read_text())["numbers"]["rows"]}
    changes = []
    for row in rows:
        old = before.get((row.what, row.peer, row.threads))
        if old and (row.low > old["high"] or row.high < old["low"]):
            changes.append(f"{row.what} against {row.peer} at {row.threads} threads: {old['ratio']:.3g} to {row.ratio:.3g}")
    return [f"Moved since {earlier}: {'; '.join(changes) or 'nothing beyond the quartiles'}."]


def draw(rows: list[Row]) -> tuple[Any, str]:
    """Every ratio as a point with its quartiles, and its target as a mark."""
    names = list(dict.fromkeys(f"{row.what} / {row.peer}" for row in rows))
    drawing, (axis,) = figure(1, height=1.4 + 0.2 * len(names))
    for offset, threads in enumerate(sorted({row.threads for row in rows})):
        own = [row for row in rows if row.threads == threads]
        y = [names.index(f"{row.what} / {row.peer}") + 0.25 * offset for row in own]
        spread = [[row.ratio - row.low for row in own], [row.high - row.ratio for row in own]]
        label = f"{threads} thread{'s' if threads > 1 else ''}, with quartiles"
        marker, color = "os^D"[offset % 4], COLORS[offset % len(COLORS)]
        axis.errorbar([row.ratio for row in own], y, xerr=spread, fmt=marker, markersize=4, color=color, label=label)
    aimed = {names.index(f"{row.what} / {row.peer}"): row.target for row in rows if row.target is not None}
    axis.plot(list(aimed.values()), list(aimed), "k|", markersize=11, label="target, at most")
    axis.axvline(1, color="black", linewidth=0.8)
    axis.set(xscale="log", xlabel="time of ours / time of the peer", ylim=(len(names) - 0.3, -0.7))
    axis.set_yticks(range(len(names)), names, fontsize="x-small")
    drawing.legend(frameon=False, fontsize="small", loc="outside lower center", ncols=3)
    return drawing, "Ratios with their quartiles, and the targets. Left of 1 ours is faster."
