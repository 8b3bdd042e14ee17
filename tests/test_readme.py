import contextlib
import io
import re
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()

# What torchrun tells the one rank of an example; it finds a port of its own.
ALONE = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "GLOO_SOCKET_IFNAME": "lo"}


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """What each example prints; a later one goes on where the earlier ended. What they write is in a folder of its own."""
    names, outputs = {}, []
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ALONE.items():
            patch.setenv(name, value)
        for example in blocks("python"):
            output = io.StringIO()
            with contextlib.redirect_stdout(output), contextlib.chdir(tmp_path_factory.mktemp("example")):
                exec(compile(example, "README.md", "exec"), names)
            outputs.append(output.getvalue())
    return outputs


def test_the_first_example_prints_what_the_readme_says(printed):
    difference, accuracy = (float(line.split(": ")[1]) for line in printed[0].splitlines())
    promised_difference, promised_accuracy = (float(line.split(": ")[1]) for line in blocks("text")[0].splitlines())
    assert difference <= 10 * promised_difference
    assert accuracy == pytest.approx(promised_accuracy, abs=2 / 359)  # two of the test images, for other machines' rounding


def test_the_check_says_what_the_readme_says(printed):
    lines, promised = printed[1].splitlines(), blocks("text")[1].splitlines()
    assert len(lines) == len(promised)
    for line, other in zip(lines, promised, strict=True):
        if " ok " in line:  # what is left there is rounding
            assert line.split()[:2] == other.split()[:2] and float(line.split()[2]) < 1e-8
        else:
            assert line == other


def test_the_audit_says_what_the_readme_says(printed):
    assert printed[2] == blocks("text")[2]


def test_the_check_of_an_estimator_says_what_the_readme_says(printed):
    said, promised = (re.sub(r"[\d.]+(e[+-]\d+)?", "#", text) for text in (printed[3], blocks("text")[3]))
    assert said == promised


def test_the_examples_have_at_most_20_lines_of_code():
    for example in blocks("python"):
        lines = [line for line in example.splitlines() if line.strip() and not line.startswith("#")]
        assert len(lines) <= 20


def test_the_pictures_are_there():
    for path in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (Path(__file__).parent.parent / path).read_bytes().startswith(b"\x89PNG")
