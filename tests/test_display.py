import io
import sys

import pytest
import torch
from helpers import classifier, normal, same_bits, seeded

import funcnn as fn


def mean_of(w, x):
    return (w - x).square().mean(), 2 * (w - x).mean(0)


def run(epochs=2, **options):
    options = {"epochs": epochs, "batch_size": 4, "generator": seeded(), **options}
    return fn.fit(mean_of, fn.sgd(0.1), torch.zeros(3), normal(10, 3), **options)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def on_terminal(monkeypatch):
    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    return sys.stderr


def test_fit_shows_nothing_not_even_on_a_terminal(monkeypatch, capfd):
    terminal = on_terminal(monkeypatch)
    run(epochs=3)
    assert terminal.getvalue() == "" and capfd.readouterr().out == ""


def test_in_a_pipe_progress_is_silent(capfd):
    assert list(fn.progress(range(3))) == [0, 1, 2]
    assert capfd.readouterr() == ("", "")


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
    assert "100%" in known and "100%" not in terminal.getvalue()


def test_fit_with_progress_is_fit(monkeypatch):
    terminal = on_terminal(monkeypatch)
    shown = run(epochs=fn.progress(range(3)))
    assert terminal.getvalue() and same_bits(shown, run(epochs=3))


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
