import contextlib
import io
import re
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


def test_the_example_prints_what_the_readme_says():
    (example,) = blocks("python")
    (promised,) = blocks("text")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(example, "README.md", "exec"), {})
    difference, accuracy = (float(line.split(": ")[1]) for line in printed.getvalue().splitlines())
    promised_difference, promised_accuracy = (float(line.split(": ")[1]) for line in promised.splitlines())
    assert difference <= 10 * promised_difference
    assert accuracy == pytest.approx(promised_accuracy, abs=2 / 359)  # two of the test images, for other machines' rounding


def test_the_example_has_at_most_20_lines_of_code():
    lines = [line for line in blocks("python")[0].splitlines() if line.strip() and not line.startswith("#")]
    assert len(lines) <= 20


def test_the_picture_is_there():
    for path in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (Path(__file__).parent.parent / path).read_bytes().startswith(b"\x89PNG")
