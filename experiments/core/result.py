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
from tempfile import TemporaryFile
from typing import Any

import torch
from matplotlib.figure import Figure

from experiments.core.formulas import plain
from experiments.core.options import BadOption, Options

ROOM = 32  # MiB, several times what all experiments write


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


def check_output(folder: Path) -> None:
    """Makes the folder and raises BadOption unless it takes what a run writes: found before the work, and not after it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder) as probe:
            for _ in range(ROOM):
                probe.write(bytes(2**20))
    except OSError as error:
        needs = f"a folder that takes {ROOM} MiB"
        raise BadOption(f"output: got {folder}, which cannot be written ({error.strerror}); needs {needs}") from None


def save(name: str, result: Result, options: Options) -> Path:
    """Writes the result under options.output / name and returns that folder.

    Raises:
        OSError: it cannot be written; the earlier result is still there.
    """
    folder, new, old = (options.output / f"{mark}{name}" for mark in ("", ".new-", ".old-"))
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
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
    try:
        new.mkdir(parents=True)
        for stem, (figure, _) in result.figures.items():
            figure.savefig(new / f"{stem}.png")
        (new / "observations.txt").write_text("".join(f"{plain(line)}\n" for line in result.observations))
        (new / "result.json").write_text(json.dumps(_plain(record), indent=1, allow_nan=False))
    except OSError as error:  # which seldom names the place
        shutil.rmtree(new, ignore_errors=True)
        raise OSError(error.errno, error.strerror, str(folder)) from None
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    return folder


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file that is either there whole or not at all. Raises OSError that names it."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        partial.unlink(missing_ok=True)


def _plain(x: Any) -> Any:
    """The same for JSON, which has no NaN and no infinity: they become the strings 'nan', 'inf' and '-inf'."""
    if isinstance(x, dict):
        return {key: _plain(value) for key, value in x.items()}
    if isinstance(x, (list, tuple)):
        return [_plain(value) for value in x]
    return str(x) if isinstance(x, float) and not math.isfinite(x) else x
