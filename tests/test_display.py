import contextlib
import io
import os
import sys
from enum import Enum
from typing import NamedTuple

import pytest
import torch
from helpers import classifier, normal, same_bits, seeded
from rich.console import Console
from rich.file_proxy import FileProxy

import funcnn as fn


def mean_of(w, x):
    return (w - x).square().mean(), 2 * (w - x).mean(0)


def run(epochs=2, **options):
    options = {"epochs": epochs, "batch_size": 4, "generator": seeded(), **options}
    return fn.fit(mean_of, fn.sgd(0.1), torch.zeros(3), normal(10, 3), **options)


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Named(Enum):
    one = "one"


def on_terminal(monkeypatch):
    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    return sys.stderr


def test_fit_shows_nothing_not_even_on_a_terminal(monkeypatch, capfd):
    terminal = on_terminal(monkeypatch)
    run(epochs=3)
    assert terminal.getvalue() == "" and capfd.readouterr().out == ""


# name: (what stands for stderr, whether something is shown)
STREAMS = {
    "a terminal": (Terminal, True),
    "what a notebook puts there": (io.StringIO, True),
    "no stderr at all": (lambda: None, False),
    "a bar that is being drawn": (lambda: FileProxy(Console(), Terminal()), False),
}


def written(stream):
    if isinstance(stream, FileProxy):
        stream = stream.rich_proxied_file
    return stream.getvalue() if stream is not None else ""


@pytest.mark.parametrize("name", STREAMS)
def test_progress_is_shown_where_somebody_looks(name, monkeypatch, capfd):
    make, shown = STREAMS[name]
    stream = make()
    monkeypatch.setattr("sys.stderr", stream)
    assert list(fn.progress(range(3))) == [0, 1, 2]
    assert bool(written(stream)) == shown and capfd.readouterr() == ("", "")


def test_a_file_is_left_alone_and_a_pipe_gets_lines(tmp_path):
    source, sink = os.pipe()
    with open(source) as pipe, (tmp_path / "file").open("w+") as file:
        for stream in (file, open(sink, "w")):
            with contextlib.redirect_stderr(stream):
                assert list(fn.progress(range(3))) == [0, 1, 2]
            stream.flush()
        stream.close()
        assert pipe.read() == "3 of 3, 0:00:00 left\n" and file.seek(0, os.SEEK_END) == 0


class Clock:
    """Shows the seconds that have been spent."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr("funcnn.display.monotonic", lambda: self.now)

    def spend(self, seconds, items):
        for _ in items:
            self.now += seconds


def steps(*losses):
    return [fn.Step(torch.zeros(2), (), torch.tensor(loss)) for loss in losses]


# name: (the items, their total, seconds of each, the lines)
LINES = {
    "nothing": ([], None, 1.0, []),
    "ever more seldom": (
        range(200),
        None,
        1.0,
        [
            "1 of 200, 0:03:19 left",
            "2 of 200, 0:03:18 left",
            "4 of 200, 0:03:16 left",
            "8 of 200, 0:03:12 left",
            "16 of 200, 0:03:04 left",
            "32 of 200, 0:02:48 left",
            "64 of 200, 0:02:16 left",
            "124 of 200, 0:01:16 left",
            "184 of 200, 0:00:16 left",
            "200 of 200, 0:00:00 left",
        ],
    ),
    "no total": ((x for x in range(3)), None, 1.0, ["1", "2", "3"]),
    "more than announced": (
        iter(range(3)),
        2,
        60.0,
        ["1 of 2, 0:01:00 left", "2 of 2, 0:00:00 left", "3 of 2, 0:00:00 left"],
    ),
    "fast": (range(3), None, 0.01, ["3 of 3, 0:00:00 left"]),
    "steps": (
        steps(3.0, 2.5, 0.123456),
        None,
        7200.0,
        [
            "step 1 of 3, loss 3, 4:00:00 left",
            "step 2 of 3, loss 2.5, 2:00:00 left",
            "step 3 of 3, loss 0.1235, 0:00:00 left",
        ],
    ),
    "steps that went wrong": (iter(steps(float("nan"))), 5, 1.0, ["step 1 of 5, loss nan, 0:00:04 left"]),
    "whatever has a value that is no loss": (
        iter([Terminal, Named.one]),
        2,
        1.0,
        ["1 of 2, 0:00:01 left", "2 of 2, 0:00:00 left"],
    ),
}


@pytest.mark.parametrize("name", LINES)
def test_lines_say_how_many_have_passed_the_loss_and_the_time_left(name, monkeypatch):
    items, total, seconds, lines = LINES[name]
    monkeypatch.setattr("sys.stderr", io.StringIO())
    Clock(monkeypatch).spend(seconds, fn.progress(items, total))
    assert sys.stderr.getvalue().splitlines() == lines


@pytest.mark.parametrize(("stdout", "above"), [(io.StringIO, False), (Terminal, True)])
def test_what_is_printed_meanwhile_goes_where_stdout_goes(stdout, above, monkeypatch):
    terminal = on_terminal(monkeypatch)
    monkeypatch.setattr("sys.stdout", out := stdout())
    for _ in fn.progress(range(2)):
        print("printed")
    assert out.getvalue().count("printed") == (0 if above else 2)
    assert terminal.getvalue().count("printed") == (2 if above else 0)


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_a_loop_that_ends_early_says_how_far_it_came(stream, monkeypatch):
    monkeypatch.setattr("sys.stderr", stream())
    for item in fn.progress(range(5)):
        if item == 2:
            break
    assert "2 of 5, 0:00:00 left" in sys.stderr.getvalue()


def test_on_a_terminal_the_loss_is_read_at_most_ten_times_a_second(monkeypatch):
    on_terminal(monkeypatch)
    read = []

    class Watched(NamedTuple):
        index: int

        @property
        def value(self):
            read.append(self.index)
            return 0.5

    Clock(monkeypatch).spend(1 / 64, fn.progress(map(Watched, range(640)), 640))
    assert len(read) <= 100 and read[-1] == 639


# name: (makes an iterable, its total)
LENGTHS = {
    "a range": (lambda: range(30), None),
    "a generator and its total": (lambda: (x for x in range(7)), 7),
    "a generator": (lambda: (x for x in range(7)), None),
    "an iterator that knows what is left": (lambda: iter([1, 2, 3]), None),
    "nothing": (lambda: [], None),
}


@pytest.mark.parametrize("name", LENGTHS)
def test_on_a_terminal_progress_is_shown_on_stderr_and_the_items_are_the_same(name, monkeypatch, capfd):
    terminal = on_terminal(monkeypatch)
    make, total = LENGTHS[name]
    assert list(fn.progress(make(), total)) == list(make())
    assert terminal.getvalue() and capfd.readouterr().out == ""


def test_the_share_that_has_passed_is_shown(monkeypatch):
    terminal = on_terminal(monkeypatch)
    for _ in fn.progress(range(4)):
        pass
    known = terminal.getvalue()
    terminal.truncate(0)
    for _ in fn.progress(x for x in range(4)):
        pass
    assert "4 of 4" in known and "4" in terminal.getvalue() and "of" not in terminal.getvalue()


def test_fit_with_progress_is_fit(monkeypatch):
    terminal = on_terminal(monkeypatch)
    shown = run(epochs=fn.progress(range(3)))
    assert terminal.getvalue() and same_bits(shown, run(epochs=3))


# name: (what fit is told besides, seconds of each step, the lines)
EPOCHS = {
    "to the end": (
        {},
        4.0,
        [
            "0 of 2, step 1 of 3, loss 0.5, 0:00:20 left",
            "0 of 2, step 2 of 3, loss 0.25, 0:00:16 left",
            "1 of 2, step 1 of 3, loss 0.0625, 0:00:08 left",
            "2 of 2, step 3 of 3, loss 0.01562, 0:00:00 left",
        ],
    ),
    "until the first epoch ends": (
        {"until": lambda history: True},
        1.0,
        [
            "0 of 2, step 1 of 3, loss 0.5, 0:00:05 left",
            "0 of 2, step 2 of 3, loss 0.25, 0:00:04 left",
            "1 of 2, step 3 of 3, loss 0.125, 0:00:03 left",
        ],
    ),
}


@pytest.mark.parametrize("name", EPOCHS)
def test_fit_shows_steps_their_loss_and_the_time_left(name, monkeypatch):
    options, seconds, lines = EPOCHS[name]
    monkeypatch.setattr("sys.stderr", io.StringIO())
    clock, taken = Clock(monkeypatch), []

    def timed(w, x):
        clock.now += seconds
        taken.append(x)
        return torch.tensor(0.5 ** len(taken)), w

    options = {"epochs": fn.progress(range(2)), "batch_size": 4, "generator": seeded()} | options
    fn.fit(timed, fn.sgd(0.1), torch.zeros(3), normal(10, 3), **options)
    assert sys.stderr.getvalue().splitlines() == lines


def test_what_was_passed_over_before_the_first_step_took_none_of_the_time(monkeypatch):
    monkeypatch.setattr("sys.stderr", io.StringIO())
    clock, epochs = Clock(monkeypatch), fn.progress(range(4))
    next(epochs), next(epochs)
    for _ in epochs:
        clock.spend(10.0, epochs.inside(steps(2.0, 1.0), total=2))
    assert sys.stderr.getvalue().splitlines() == [
        "2 of 4, step 1 of 2, loss 2, 0:00:30 left",
        "3 of 4, step 2 of 2, loss 1, 0:00:20 left",
        "4 of 4, step 2 of 2, loss 1, 0:00:00 left",
    ]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_the_bar_is_gone_before_an_error_is_printed(error, monkeypatch):
    terminal = on_terminal(monkeypatch)

    def evaluate(params):
        if terminal.getvalue():
            raise error("on purpose")
        return 1.0

    try:
        run(epochs=fn.progress(range(3)), evaluate=evaluate)
    except error as caught:
        assert caught.trained is not None and terminal.getvalue().count("\x1b[?25h") == 1  # the cursor is back


def test_progress_is_for_whatever_takes_long(monkeypatch):
    terminal = on_terminal(monkeypatch)
    objective, params, batch = classifier()
    steps = fn.train(fn.explicit(objective), fn.sgd(0.1), params, [batch] * 3)
    assert len(list(fn.progress(steps, total=3))) == 3 and terminal.getvalue()


def test_no_item_is_taken_before_it_is_asked_for():
    taken = []
    items = fn.progress(taken.append(x) for x in range(3))
    assert taken == []
    next(items)
    assert taken == [0]


@pytest.mark.parametrize(("arguments", "place"), [((3,), "progress"), (([1], 0), "total"), (([1], 1.5), "total")])
def test_what_has_no_progress_is_refused(arguments, place, as_users_run_it):
    with pytest.raises(fn.InputError, match=f"^{place}.*: got"):
        fn.progress(*arguments)
