import sys

import pytest
import torch
from helpers import normal, same_bits, seeded
from matplotlib.figure import Figure

import funcnn as fn


def mean_of(w, x):
    return (w - x).square().mean(), 2 * (w - x).mean(0)


def run(**options):
    options = {"epochs": 2, "batch_size": 4, "generator": seeded(), **options}
    return fn.fit(mean_of, fn.sgd(0.1), torch.zeros(3), normal(10, 3), **options)


@pytest.mark.parametrize(("evaluate", "panels"), [(None, 1), (lambda w: {"error": 1.0, "accuracy": 0.5}, 2)])
def test_a_history_plots_itself_with_labels_and_legends(evaluate, panels, tmp_path):
    drawing = run(evaluate=evaluate).history.plot()
    assert isinstance(drawing, Figure) and len(drawing.axes) == panels
    for axis in drawing.axes:
        assert axis.get_xlabel() and axis.get_ylabel() and axis.get_legend().get_texts()
    drawing.savefig(tmp_path / "history.png")
    assert (tmp_path / "history.png").read_bytes().startswith(b"\x89PNG")


# name: (losses, where epochs end)
ENDS = {
    "no epoch was finished": ([3.0, 2.0], []),
    "the last was not": ([3.0, 2.0, 1.0], [2]),
    "all were": ([3.0, 2.0], [1, 2]),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_history_that_ends_within_an_epoch_can_be_drawn(name):
    losses, ends = ENDS[name]
    (axis,) = fn.History(torch.tensor(losses), ends, {}).plot().axes
    each, means = axis.lines
    assert list(each.get_ydata()) == losses and list(means.get_xdata()) == ends


# Results that hold no function, beside the steps and states of every optimizer.
RESULTS = {
    "History": fn.History(torch.tensor([3.0, 2.0]), [1, 2], {"accuracy": [0.5, 0.75]}),
    "Dataset": fn.data.spirals(8, generator=seeded()),
    "Scan": fn.Scan({"w": normal(2)}, (), normal(3)),
}


@pytest.mark.parametrize("name", RESULTS)
def test_what_torch_has_saved_loads_by_its_safe_default(name, tmp_path):
    torch.save(RESULTS[name], tmp_path / "file")
    loaded = torch.load(tmp_path / "file", weights_only=True)
    assert same_bits(loaded, RESULTS[name]) and type(loaded).__name__ == name


def test_a_history_becomes_a_table_of_its_steps():
    pytest.importorskip("pandas")  # which nothing else here needs
    history = fn.History(torch.tensor([3.0, 2.0, 1.0, 0.5, 0.25]), [2, 4], {"accuracy": [0.5, 0.75]})
    table = history.to_pandas()
    assert table.index.tolist() == [1, 2, 3, 4, 5] and table.index.name == "step"
    assert table.epoch.tolist() == [1, 1, 2, 2, 3] and table.loss.tolist() == history.losses.tolist()
    assert table.accuracy.dropna().to_dict() == {2: 0.5, 4: 0.75}


def test_without_pandas_it_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="^History.to_pandas: pandas is not installed, needs pip install pandas$"):
        run().history.to_pandas()


@pytest.mark.parametrize("losses", [[0.0, 0.0], [-1.0, 2.0], [float("nan"), 1.0], [float("inf"), 1.0]], ids=str)
def test_a_run_that_reached_zero_or_went_wrong_can_still_be_drawn(losses, tmp_path):
    fn.History(torch.tensor(losses), [1, 2], {}).plot().savefig(tmp_path / "history.png")
