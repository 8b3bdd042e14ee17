"""Gathers every finished experiment of an output folder into one self-contained report.html that opens from disk."""

import base64
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from experiments.core.formulas import plain, typeset
from experiments.core.result import write_whole

KEYS = ("title", "about", "options", "machine", "seconds", "observations", "figures", "tables")
DPI = 100  # of a figure on the page; opened it has all of its pixels


def write_report(output: Path, topics: Mapping[str, Iterable[str]]) -> Path:
    """Renders the sections that are there, by topic and in the order of the names. What was not run is left out."""
    found = {topic: [s for name in names if (s := _section(name, output / name))] for topic, names in topics.items()}
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    environment.filters |= {"plain": plain, "typeset": typeset, "duration": duration}
    topics = {topic: sections for topic, sections in found.items() if sections}
    html = environment.get_template("report.html.j2").render(topics=topics, dpi=DPI)
    path = output / "report.html"
    write_whole(path, html.encode())
    return path


def duration(seconds: float) -> str:
    """A time as it is read: 0.4 s, 12 s, 3 min 5 s."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s" if seconds < 9.95 else f"{rest} s"


def _section(name: str, folder: Path) -> dict[str, Any] | None:
    if not folder.is_dir():
        return None
    try:
        section = {"seconds": None} | json.loads((folder / "result.json").read_text())
        for figure in section["figures"]:
            figure["data"] = base64.b64encode((folder / figure["file"]).read_bytes()).decode()
        return {"name": name} | {key: section[key] for key in KEYS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"{folder} is left out of the report: it cannot be read ({error!r})", file=sys.stderr)
        return None
