"""Gathers every finished experiment of an output folder into one self-contained report.html that opens from disk."""

import base64
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from experiments.core.result import write_whole

KEYS = ("title", "about", "options", "machine", "observations", "figures", "tables")


def write_report(output: Path, names: Iterable[str]) -> Path:
    """Renders the sections that are there, in the order of the names. What was not run, or cannot be read, is left out."""
    sections = [section for name in names if (section := _section(name, output / name))]
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    html = environment.get_template("report.html.j2").render(sections=sections)
    path = output / "report.html"
    write_whole(path, html.encode())
    return path


def _section(name: str, folder: Path) -> dict[str, Any] | None:
    if not folder.is_dir():
        return None
    try:
        section = json.loads((folder / "result.json").read_text())
        for figure in section["figures"]:
            figure["data"] = base64.b64encode((folder / figure["file"]).read_bytes()).decode()
        return {"name": name} | {key: section[key] for key in KEYS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        print(f"{folder} is left out of the report: it cannot be read ({error!r})", file=sys.stderr)
        return None
