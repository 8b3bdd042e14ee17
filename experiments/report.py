"""Gathers every finished experiment of an output folder into one self-contained report.html that opens from disk."""

import base64
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from experiments.result import write_whole


def write_report(output: Path, names: Iterable[str]) -> Path:
    """Renders the sections that are there, in the order of the names. Experiments that were not run are left out."""
    sections = [_section(name, output / name) for name in names if (output / name / "result.json").is_file()]
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    html = environment.get_template("report.html.j2").render(sections=sections)
    path = output / "report.html"
    write_whole(path, html.encode())
    return path


def _section(name: str, folder: Path) -> dict[str, Any]:
    section = json.loads((folder / "result.json").read_text())
    for figure in section["figures"]:
        figure["data"] = base64.b64encode((folder / figure["file"]).read_bytes()).decode()
    return {"name": name, **section}
