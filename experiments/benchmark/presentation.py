"""How the benchmark's rows are shown: a table, a figure, sentences, and what moved since an earlier run."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from experiments.benchmark.measure import Row
from experiments.benchmark.peers import missing
from experiments.core.options import BadOption
from experiments.core.result import Table
from funcnn.plots import COLORS, figure, log_scale

COLUMNS = ["what", "threads", "peer", "peer's time", "ours", "ours / peer", "quartiles", "target", "reached"]


def at(threads: int) -> str:
    """How a number of threads is said."""
    return "one thread" if threads == 1 else f"{threads} threads"


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
        f"{r.what} at {at(r.threads)} against {r.peer} ({r.ratio:.3g}, not {r.target:.3g})"
        for r in aimed
        if r.ratio > r.target
    ]
    lines = [f"{len(aimed) - len(short)} of {len(aimed)} targets are reached. Short of it: {'; '.join(short) or 'none'}."]
    lines = lines if aimed else []
    lines += [f"Not installed, and so not measured: {', '.join(missing())}."] if missing() else []
    lines += bounds(rows)
    for found in growths:
        best = {name: max(shares) for name, shares in found["shares"].items()}
        reached = ", ".join(f"{share:.0%} along {name}" for name, share in best.items())
        lines.append(f"At {at(found['threads'])} a step reaches up to {reached} of the machine's best matrix product.")
    return lines


def bounds(rows: list[Row]) -> list[str]:
    """How much of each step the matrix products take at the machine's best rate, and which targets they put out of reach."""
    lines = []
    for threads in sorted({row.threads for row in rows}):
        held = [row for row in rows if row.threads == threads and row.products is not None]
        if not held:
            continue
        shares = [f"{row.products / row.ours:.0%} ({row.what})" for row in {row.what: row for row in held}.values()]
        least = [(row, row.products / row.theirs) for row in held if row.target is not None]
        beyond = [
            f"{row.what} against {row.peer} (not below {ratio:.2f}, for {row.target:.3g})"
            for row, ratio in least
            if ratio > row.target
        ]
        lines.append(
            f"At {at(threads)} the matrix products of a step, at the machine's best rate, take these shares of ours: "
            f"{', '.join(shares)}. Both sides have the same products; out of reach, then: {'; '.join(beyond) or 'nothing'}."
        )
    return lines


def earlier(path: Path) -> dict[tuple[str, str, int], dict[str, Any]]:
    """The rows of an earlier benchmark's result.json. Raises BadOption where that is not what the file holds."""
    try:
        return {(r["what"], r["peer"], r["threads"]): r for r in json.loads(path.read_text())["numbers"]["rows"]}
    except (ValueError, KeyError, TypeError):
        raise BadOption(f"compare: got {path}, needs the result.json of an earlier benchmark") from None


def moved(rows: list[Row], path: Path | None) -> list[str]:
    """The ratios whose quartiles no longer meet those of an earlier result."""
    if path is None:
        return []
    before = earlier(path)
    changes = []
    for row in rows:
        old = before.get((row.what, row.peer, row.threads))
        if old and (row.low > old["high"] or row.high < old["low"]):
            changes.append(f"{row.what} against {row.peer} at {at(row.threads)}: {old['ratio']:.3g} to {row.ratio:.3g}")
    return [f"Moved since {path}: {'; '.join(changes) or 'nothing beyond the quartiles'}."]


def draw(rows: list[Row]) -> tuple[Any, str]:
    """Every ratio as a point with its quartiles, and its target as a mark."""
    names = list(dict.fromkeys(f"{row.what} / {row.peer}" for row in rows))
    drawing, (axis,) = figure(1, height=1.4 + 0.2 * len(names))
    for offset, threads in enumerate(sorted({row.threads for row in rows})):
        own = [row for row in rows if row.threads == threads]
        y = [names.index(f"{row.what} / {row.peer}") + 0.25 * offset for row in own]
        spread = [[row.ratio - row.low for row in own], [row.high - row.ratio for row in own]]
        label = f"{at(threads)}, with quartiles"
        marker, color = "os^D"[offset % 4], COLORS[offset % len(COLORS)]
        axis.barh(y, [row.ratio - 1 for row in own], left=1, height=0.24, color=color, alpha=0.35)
        axis.errorbar([row.ratio for row in own], y, xerr=spread, fmt=marker, markersize=4, color=color, label=label)
    aimed = {names.index(f"{row.what} / {row.peer}"): row.target for row in rows if row.target is not None}
    axis.plot(list(aimed.values()), list(aimed), "k|", markersize=11, label="target, at most")
    axis.axvline(1, color="black", linewidth=0.8)
    log_scale(axis, "x")
    axis.tick_params(axis="x", labelsize="small")
    axis.set(xlabel="ours / peer (times, or memory)", ylim=(len(names) - 0.3, -0.7))
    axis.set_yticks(range(len(names)), names, fontsize="x-small")
    drawing.legend(frameon=False, fontsize="small", loc="outside lower center", ncols=3)
    return drawing, "Ratios with their quartiles, and the targets. To the left of 1 ours is faster, or smaller."
