import contextlib
import dataclasses
import json
import resource
import runpy
import sys
import time
from html.parser import HTMLParser

import pytest

from experiments import __main__ as command_line
from experiments.bugs import Bugs
from experiments.core.formulas import plain
from experiments.core.options import Missing, Options
from experiments.core.result import Result, Table, save, write_whole
from experiments.core.runner import Job, in_turn
from experiments.core.timing import Timing, interleaved
from experiments.hidden_layer import HiddenLayer
from experiments.perceptron import Perceptron
from experiments.providers import Providers

SMALL = {
    "perceptron": ["--epochs", "2"],
    "hidden_layer": ["--epochs", "2", "--hidden", "8"],
    "providers": ["--steps", "5", "--hidden", "2"],
}


class Links(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.sources, self.ids = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.sources += [named[key] for key in ("src", "href") if key in named]
        self.ids += [named["id"]] if tag == "section" else []


def numbers(folder, name):
    return json.loads((folder / name / "result.json").read_text())["numbers"]


@pytest.mark.parametrize(
    ("name", "options", "accuracy"), [("perceptron", Perceptron, 0.95), ("hidden_layer", HiddenLayer, 0.96)]
)
def test_explicit_and_classic_coincide_and_learn(tmp_path, name, options, accuracy):
    command_line.run_one(name, options(output=tmp_path))
    found = numbers(tmp_path, name)
    differences = found["largest difference per step"]
    steps_per_epoch = -(-{"perceptron": 455, "hidden_layer": 1438}[name] // 32)
    assert len(differences) == steps_per_epoch * options().epochs
    assert max(differences) < 1e-10
    for side in ("explicit", "classic"):
        curve = found["loss and accuracy per epoch"][side]
        assert curve[-1][0] < 0.2 * curve[0][0]
        assert curve[-1][1] >= accuracy


def test_every_provider_walks_the_same_path(tmp_path):
    command_line.run_one("providers", Providers(output=tmp_path, steps=8, hidden=4))
    distances = numbers(tmp_path, "providers")["distance from explicit"]
    assert distances.keys() == command_line.fn.PROVIDERS.keys()
    largest = {name: max(path) for name, path in distances.items()}
    assert largest["explicit"] == 0
    assert largest["func_grad"] < 1e-10 and largest["autograd"] < 1e-10
    assert largest["central_difference"] < 1e-6
    assert largest["central_difference"] < largest["forward_difference"] < 1e-4


def test_a_run_of_everything_ends_in_one_self_contained_report(tmp_path):
    for name, flags in SMALL.items():
        assert command_line.main([name, "--output", str(tmp_path), *flags]) == 0
    page = Links((tmp_path / "report.html").read_text())
    assert page.ids == list(SMALL)
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in page.sources)
    for name in SMALL:
        record = json.loads((tmp_path / name / "result.json").read_text())
        observations = (tmp_path / name / "observations.txt").read_text().splitlines()
        assert observations == list(map(plain, record["observations"])) and observations
        assert all((tmp_path / name / figure["file"]).read_bytes().startswith(b"\x89PNG") for figure in record["figures"])
        assert record["options"]["seed"] == "0" and record["seconds"] > 0


def test_the_same_seed_gives_the_same_numbers(tmp_path):
    for run in ("first", "second"):
        command_line.main(["perceptron", "--epochs", "2", "--seed", "7", "--output", str(tmp_path / run)])
    first, second = (numbers(tmp_path / run, "perceptron") for run in ("first", "second"))
    assert first["loss and accuracy per epoch"] == second["loss and accuracy per epoch"]


def test_a_diverging_run_is_reported_as_diverged(tmp_path):
    flags = ["--lr", "1e300", "--epochs", "3", "--hidden", "4"]
    assert command_line.main(["hidden_layer", "--output", str(tmp_path), *flags]) == 0
    (observation,) = (tmp_path / "hidden_layer" / "observations.txt").read_text().splitlines()
    assert "diverged" in observation


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        (["nope"], "nope"),
        (["perceptron", "--nope", "1"], "--nope"),
        (["--nope"], "--nope"),
        (["perceptron", "--lr", "-1"], "lr"),
        (["perceptron", "--lr", "nan"], "lr"),
        (["perceptron", "--epochs", "1.5"], "--epochs"),
        (["hidden_layer", "--hidden", "0"], "hidden"),
        (["providers", "--steps", "-3"], "steps"),
        (["--seed", "-1"], "seed"),
        (["--dtype", "int64"], "--dtype"),
        (["--device", "nowhere"], "device"),
        (["hidden_layer", "--mnist", "no-such-folder"], "no-such-folder"),
        (["--output", "pyproject.toml"], "output"),
    ],
)
def test_a_bad_command_line_gets_one_line_and_exit_code_2(tmp_path, capsys, monkeypatch, arguments, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").touch()
    assert command_line.main(arguments) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1 and place in complaint


@contextlib.contextmanager
def largest_file(size):
    """No file may be larger: what a full disk is for whoever writes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# name: (the folder, bytes that a file may have, the reason)
UNWRITABLE = {
    "a folder in a file": ("taken/results", None, "Not a directory"),
    "a folder that the system keeps for itself": ("/proc/results", None, "No such file or directory"),
    "a disk without room": ("results", 2**20, "File too large"),
}


@pytest.mark.parametrize("name", UNWRITABLE)
@pytest.mark.parametrize("flags", [[], ["perceptron"]], ids=str)
def test_an_output_folder_that_takes_no_results_is_refused_before_the_work(name, flags, tmp_path, capsys, monkeypatch):
    folder, size, reason = UNWRITABLE[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").touch()
    monkeypatch.setattr(command_line, "in_turn", lambda *_: pytest.fail("work was begun"))
    with largest_file(size) if size else contextlib.nullcontext():
        assert command_line.main([*flags, "--output", folder]) == 2
    needs = f"output: got {folder}, which cannot be written ({reason}); needs a folder that takes 32 MiB\n"
    assert capsys.readouterr().err == f"python -m experiments: {needs}"


def test_a_disk_that_fills_up_meanwhile_is_named_and_the_earlier_result_is_whole(tmp_path):
    text, options = Result("t", "a", {}, ["o"]), Perceptron(output=tmp_path)
    save("x", text, options)
    whole = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    with largest_file(2**14), pytest.raises(OSError, match="File too large: .*/x'"):
        save("x", dataclasses.replace(text, observations=["o" * 2**15]), options)
    with largest_file(2**14), pytest.raises(OSError, match="File too large: .*/report.html'"):
        write_whole(tmp_path / "report.html", bytes(2**15))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == whole


def test_help_shows_the_options_and_their_defaults(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["experiments", "hidden_layer", "--help"])
    monkeypatch.delitem(sys.modules, "experiments.__main__")  # which is about to run under another name
    with pytest.raises(SystemExit) as end:
        runpy.run_module("experiments", run_name="__main__")  # what python -m does, in this process
    assert not end.value.code
    shown = capsys.readouterr().out
    for flag in ("--seed", "--device", "--dtype", "--output", "--hidden", "--lr", "--epochs", "--batch-size"):
        assert flag in shown
    assert "(default: 40)" in shown


def test_after_ctrl_c_what_was_finished_is_whole(tmp_path, capsys, monkeypatch):
    def interrupted(options):
        raise KeyboardInterrupt

    finished = (Perceptron, lambda options: command_line.perceptron.run(Perceptron(epochs=1, output=options.output)))
    monkeypatch.setattr(command_line, "EXPERIMENTS", {"perceptron": finished, "providers": (Providers, interrupted)})
    assert command_line.main(["--processes", "1", "--output", str(tmp_path)]) == 130
    assert Links((tmp_path / "report.html").read_text()).ids == ["perceptron"]
    assert "Interrupted" in capsys.readouterr().err


def slow(options):
    time.sleep(1)
    print("slow")
    return Result("t", "a", {}, ["slow"])


def quick(options):
    return Result("t", "a", {}, ["quick"])


def lacking(options):
    raise Missing("a package")


@pytest.mark.parametrize("processes", [1, 2])
def test_experiments_are_told_in_order_whichever_is_done_first(tmp_path, capsys, processes):
    runs = {"slow": slow, "lacking": lacking, "quick": quick}
    jobs = [Job(name, run, Options(output=tmp_path)) for name, run in runs.items()]
    told = {}
    for job, done in in_turn(jobs, processes):
        try:
            told[job.name] = done().observations
        except Missing as missing:
            told[job.name] = str(missing)
    assert list(told.items()) == [("slow", ["slow"]), ("lacking", "a package"), ("quick", ["quick"])]
    assert capsys.readouterr().out == "slow\n"
    assert json.loads((tmp_path / "slow" / "result.json").read_text())["seconds"] >= 1


def course(tmp_path, monkeypatch, *flags):
    """The experiments of the whole course in the order in which they run, and their options."""
    ran = {}

    def instead(name):
        return lambda options: ran.setdefault(name, options) and Result("t", "a", {}, [])

    table = {name: (kind, instead(name)) for name, (kind, _) in command_line.EXPERIMENTS.items()}
    monkeypatch.setattr(command_line, "EXPERIMENTS", table)
    assert command_line.main(["--processes", "1", "--output", str(tmp_path), *flags]) == 0
    return ran


def test_the_long_experiments_come_last_and_brief_leaves_them_out(tmp_path, monkeypatch, capsys):
    names = [name for name in command_line.EXPERIMENTS if name not in command_line.LONG]
    assert list(course(tmp_path, monkeypatch)) == [*names, *command_line.LONG]
    first, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{len(command_line.EXPERIMENTS)} experiments: {', '.join(names)}")
    assert "--brief" in first and ", ".join(command_line.LONG) in first
    assert list(course(tmp_path, monkeypatch, "--brief")) == names


def test_each_experiment_has_its_own_defaults_unless_a_flag_says_otherwise(tmp_path, monkeypatch):
    for name, options in course(tmp_path, monkeypatch).items():
        assert options == dataclasses.replace(command_line.EXPERIMENTS[name][0](), output=tmp_path)
    for options in course(tmp_path, monkeypatch, "--dtype", "float32", "--seed", "3").values():
        assert (options.dtype, options.seed) == ("float32", 3)


def test_full_runs_the_full_sizes_unless_a_flag_says_otherwise(tmp_path, monkeypatch):
    ran = course(tmp_path, monkeypatch, "--full")
    cut = {name: options.FULL for name, options in ran.items() if options.FULL}
    assert cut
    for name, sizes in cut.items():
        assert {option: getattr(ran[name], option) for option in sizes} == dict(sizes)
        assert type(ran[name])(**sizes) != type(ran[name])()  # the default sizes are smaller
    options = command_line.parse(Bugs, ["--full", "--sample", "7"], "x", "x")
    assert (options.networks, options.sample) == (Bugs.FULL["networks"], 7)


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_whole(path, b"old")
    with pytest.raises(TypeError):
        write_whole(path, "no bytes")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_numbers_that_json_lacks_stay_readable(tmp_path):
    result = Result("t", "a", {"x": [float("nan"), float("inf"), 1.5]}, ["o"], tables=[Table("c", ["h"], [[1]])])
    save("x", result, Perceptron(output=tmp_path))
    assert numbers(tmp_path, "x") == {"x": ["nan", "inf", 1.5]}


def test_timing_takes_turns_and_takes_ratios_within_rounds():
    calls = []
    sides = {name: (lambda name=name: calls.append(name)) for name in ("a", "b")}
    timing = interleaved(sides, rounds=5, slice_seconds=0)
    assert {name: len(times) for name, times in timing.rounds.items()} == {"a": 5, "b": 5}
    assert calls[-10:] == ["a", "b", "b", "a", "a", "b", "b", "a", "a", "b"]
    assert Timing({"a": [2.0, 4.0, 6.0], "b": [1.0, 4.0, 3.0]}).ratio("a", "b") == (2.0, 1.5, 2.0)


def test_a_result_that_cannot_be_read_is_left_out_and_named(tmp_path, capsys):
    for broken in ("{", "[]", "{}"):
        (tmp_path / "providers").mkdir(exist_ok=True)
        (tmp_path / "providers" / "result.json").write_text(broken)
        assert command_line.main(["perceptron", "--epochs", "1", "--output", str(tmp_path)]) == 0
        assert Links((tmp_path / "report.html").read_text()).ids == ["perceptron"]
        assert "providers is left out" in capsys.readouterr().err


def test_an_interrupted_rerun_leaves_the_earlier_result_whole(tmp_path, monkeypatch):
    flags = ["perceptron", "--epochs", "1", "--output", str(tmp_path)]
    command_line.main(flags)
    before = {path.name: path.read_bytes() for path in (tmp_path / "perceptron").iterdir()}

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.core.result.json.dumps", interrupted)
    assert command_line.main([*flags, "--seed", "7"]) == 130
    assert {path.name: path.read_bytes() for path in (tmp_path / "perceptron").iterdir()} == before
