import io
import sys

import numpy as np
import pytest
import torch
from helpers import classifier, normal, same_bits, seeded
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

import funcnn as fn


def mean_of(w, x):
    return (w - x).square().mean(), 2 * (w - x).mean(0)


def run(data=None, epochs=2, batch_size=4, seed=0, **options):
    data = normal(10, 3) if data is None else data
    return fn.fit(
        mean_of, fn.sgd(0.1), torch.zeros(3), data, epochs=epochs, batch_size=batch_size, generator=seeded(seed), **options
    )


@given(count=st.integers(1, 40), size=st.integers(1, 50), seed=st.integers(0, 10**6))
def test_an_epoch_shows_every_sample_once_and_its_last_batch_is_the_rest(count, size, seed):
    data = (torch.arange(count), 10 * torch.arange(count)[:, None])
    batches = list(fn.minibatches(data, size, generator=seeded(seed)))
    seen = torch.cat([samples for samples, _ in batches])
    assert sorted(seen.tolist()) == list(range(count))
    assert all(torch.equal(targets, 10 * samples[:, None]) for samples, targets in batches)
    assert [len(samples) for samples, _ in batches[:-1]] == [size] * (len(batches) - 1)
    assert len(batches[-1][0]) == (count % size or size)


def test_the_order_comes_from_the_generator_and_from_nothing_else():
    orders = [torch.cat(list(fn.minibatches(torch.arange(50), 7, generator=seeded(seed)))) for seed in (0, 0, 1)]
    assert torch.equal(orders[0], orders[1]) and not torch.equal(orders[0], orders[2])


def test_every_epoch_has_an_order_of_its_own():
    seen = []

    def spy(w, x):
        seen.extend(x[:, 0].tolist())
        return mean_of(w, x)

    data = torch.arange(20.0)[:, None].expand(20, 3)
    fn.fit(spy, fn.sgd(0.1), torch.zeros(3), data, epochs=2, batch_size=6, generator=seeded())
    assert sorted(seen[:20]) == sorted(seen[20:]) == list(range(20)) and seen[:20] != seen[20:]


@pytest.mark.parametrize(("epochs", "batch_size", "steps"), [(1, 10, 1), (3, 4, 3), (2, 1, 10), (2, 100, 1), (2, 5, 2)])
def test_the_history_has_a_loss_per_step_and_an_end_per_epoch(epochs, batch_size, steps):
    history = run(epochs=epochs, batch_size=batch_size).history
    assert history.losses.shape == (epochs * steps,) and torch.isfinite(history.losses).all()
    assert history.epoch_ends == [steps * (epoch + 1) for epoch in range(epochs)]
    assert history.evaluations == {}


def test_fit_is_train_over_shuffled_epochs():
    objective, params, data = classifier(count=11)
    step_fn, generator = fn.explicit(objective), seeded(3)
    result = fn.fit(step_fn, fn.adam(0.01), params, data, epochs=2, batch_size=4, generator=seeded(3))
    batches = [batch for _ in range(2) for batch in fn.minibatches(data, 4, generator=generator)]
    steps = list(fn.train(step_fn, fn.adam(0.01), params, batches))
    assert same_bits((result.params, result.state), tuple(steps[-1][:2]))
    assert torch.equal(result.history.losses, torch.stack([step.value for step in steps]))


def test_the_same_seed_gives_the_same_fit():
    assert same_bits(run(seed=5), run(seed=5)) and not same_bits(run(seed=5), run(seed=6))


EVALUATIONS = {
    "a number": (lambda w: 3.5, {"evaluation": [3.5, 3.5]}),
    "a tensor": (lambda w: torch.tensor(2.0), {"evaluation": [2.0, 2.0]}),
    "numbers by name": (lambda w: {"a": 1.0, "b": torch.tensor(0.5)}, {"a": [1.0, 1.0], "b": [0.5, 0.5]}),
}


@pytest.mark.parametrize("name", EVALUATIONS)
def test_the_evaluation_of_every_epoch_is_kept_by_name(name):
    evaluate, expected = EVALUATIONS[name]
    assert run(evaluate=evaluate).history.evaluations == expected


def test_the_evaluation_sees_the_parameters_at_the_end_of_its_epoch():
    seen = []
    result = run(evaluate=lambda w: seen.append(w.clone()) or 0.0)
    assert len(seen) == 2 and torch.equal(seen[-1], result.params) and not torch.equal(*seen)


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


def test_an_epoch_is_an_item_of_an_iterable(as_users_run_it):
    assert run(epochs=iter("abc")).history.epoch_ends == run(epochs=3).history.epoch_ends
    assert same_bits(run(epochs=np.int64(2)), run(epochs=2))


def test_an_evaluation_must_have_the_same_names_after_every_epoch(as_users_run_it):
    names = iter(["a", "b"])
    with pytest.raises(fn.InputError, match="the same names after every epoch"):
        run(evaluate=lambda w: {next(names): 1.0})


@pytest.mark.parametrize(("evaluate", "panels"), [(None, 1), (lambda w: {"error": 1.0, "accuracy": 0.5}, 2)])
def test_a_history_plots_itself_with_labels_and_legends(evaluate, panels, tmp_path):
    drawing = run(evaluate=evaluate).history.plot()
    assert isinstance(drawing, Figure) and len(drawing.axes) == panels
    for axis in drawing.axes:
        assert axis.get_xlabel() and axis.get_ylabel() and axis.get_legend().get_texts()
    drawing.savefig(tmp_path / "history.png")
    assert (tmp_path / "history.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("losses", [[0.0, 0.0], [-1.0, 2.0], [float("nan"), 1.0], [float("inf"), 1.0]], ids=str)
def test_a_run_that_reached_zero_or_went_wrong_can_still_be_drawn(losses, tmp_path):
    fn.History(torch.tensor(losses), [1, 2], {}).plot().savefig(tmp_path / "history.png")


# name: (changed arguments, the place that the error names)
REFUSED = {
    "no epoch": ({"epochs": 0}, "epochs"),
    "an iterable of no epoch": ({"epochs": []}, "epochs"),
    "a string of epochs": ({"epochs": "3"}, "epochs"),
    "no number of epochs": ({"epochs": None}, "epochs"),
    "true epochs": ({"epochs": True}, "epochs"),
    "more samples than a tensor has": ({"batch_size": 2**70}, "batch_size"),
    "no function to evaluate": ({"evaluate": 3}, "evaluate"),
    "a string for an evaluation": ({"evaluate": lambda w: "good"}, r"evaluate\(params\)"),
    "no number for an evaluation": ({"evaluate": lambda w: {"a": w}}, r"evaluate\(params\)"),
    "half an epoch": ({"epochs": 0.5}, "epochs"),
    "an empty minibatch": ({"batch_size": 0}, "batch_size"),
    "no samples": ({"data": torch.zeros(0, 3)}, "batch"),
    "leaves that disagree on N": ({"data": (torch.zeros(4, 3), torch.zeros(5))}, r"batch\[1\]"),
    "no data": ({"data": ()}, "data"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_arguments_are_refused_before_the_first_step(name, as_users_run_it):
    changed, place = REFUSED[name]
    with pytest.raises(fn.InputError, match=f"^{place}: got .*needs"):
        run(**changed)


def test_a_seed_is_no_generator(as_users_run_it):
    with pytest.raises(fn.InputError, match="^generator: got 3, needs a torch.Generator"):
        fn.fit(mean_of, fn.sgd(0.1), torch.zeros(3), normal(4, 3), epochs=1, batch_size=2, generator=3)
