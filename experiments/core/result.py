"""What an experiment found, and how it is kept: a folder of PNG figures, `result.json` and `observations.txt`.

A result is written beside its place and moved there as a whole, so a run that is interrupted leaves the earlier result or
a complete new one, never some of both.
"""

import dataclasses
import json
import math
import os
import platform
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from experiments.core.formulas import plain
from experiments.core.options import Options


@dataclass(frozen=True)
class Table:
    """A table for the report: a caption, the column heads, and rows of text or numbers."""

    caption: str
    columns: list[str]
    rows: list[list[Any]]


@dataclass(frozen=True)
class Result:
    """One experiment's findings. `observations` are sentences computed from `numbers`; texts may hold `formulas`."""

    title: str
    about: str
    numbers: dict[str, Any]
    observations: list[str]
    figures: dict[str, tuple[Figure, str]] = field(default_factory=dict)  # file stem: (figure, caption)
    tables: list[Table] = field(default_factory=list)
    seconds: float | None = None  # that it took, measured by whoever runs it; nothing else depends on a clock


def save(name: str, result: Result, options: Options) -> Path:
    """Writes the result under options.output / name and returns that folder."""
    folder, new, old = (options.output / f"{mark}{name}" for mark in ("", ".new-", ".old-"))
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    new.mkdir(parents=True)
    for stem, (figure, _) in result.figures.items():
        figure.savefig(new / f"{stem}.png")
    (new / "observations.txt").write_text("".join(f"{plain(line)}\n" for line in result.observations))
    threads = torch.get_num_threads()
    record = {
        "title": result.title,
        "about": result.about,
        "options": {name: str(option) for name, option in dataclasses.asdict(options).items()},
        "machine": f"torch {torch.__version__}, {threads} thread{'s' * (threads > 1)}, {platform.machine()}",
        "seconds": result.seconds,
        "observations": result.observations,
        "figures": [
            {"file": f"{stem}.png", "caption": caption, "inches": figure.get_figwidth()}
            for stem, (figure, caption) in result.figures.items()
        ],
        "tables": [dataclasses.asdict(table) for table in result.tables],
        "numbers": result.numbers,
    }
    (new / "result.json").write_text(json.dumps(_plain(record), indent=1, allow_nan=False))
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    return folder


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file that is either there whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _plain(x: Any) -> Any:
    """The same for JSON, which has no NaN and no infinity: they become the strings 'nan', 'inf' and '-inf'."""
    if isinstance(x, dict):
        return {key: _plain(value) for key, value in x.items()}
    if isinstance(x, (list, tuple)):
        return [_plain(value) for value in x]
    return str(x) if isinstance(x, float) and not math.isfinite(x) else x
