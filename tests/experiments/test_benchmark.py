import json

import pytest
import torch

import funcnn as fn
from experiments import __main__ as command_line
from experiments.benchmark import (
    differences,
    files,
    growth,
    network_peers,
    networks,
    overheads,
    peers,
    presentation,
    samples,
    steps,
)
from experiments.benchmark.measure import Race, Row
from experiments.benchmark.measure import relative_error as error
from experiments.core import modules
from experiments.core.classic import as_params
from experiments.core.scene import SIZES, deep, scene
from experiments.core.timing import Timing

RACE = Race(1, "cpu")
ROW = Row("step", "eager, tiny", "classic PyTorch", 1, 50e-6, 100e-6, 0.5, 0.45, 0.55, 0.6)


def generator():
    return torch.Generator().manual_seed(0)


def test_two_sides_that_differ_are_never_timed():
    same = ([torch.ones(2)], [torch.tensor([1.0, 1.1])], 1e-3)
    with pytest.raises(RuntimeError, match="ours and theirs differ by 9.1e-02"):
        RACE("s", "w", "theirs", lambda: pytest.fail("timed"), lambda: pytest.fail("timed"), same=same)


def test_a_ratio_is_of_times_per_unit_of_work(monkeypatch):
    rounds = {"ours": [2.0, 4.0, 6.0], "theirs": [1.0, 1.0, 1.0]}
    monkeypatch.setattr("experiments.benchmark.measure.interleaved", lambda *sides, **options: Timing(rounds))
    row = RACE("s", "w", "p", None, None, same=([torch.ones(1)], [torch.ones(1)], 0.0), per_call=(1, 0.01))
    assert (row.ours, row.theirs) == (4.0, 100.0)  # theirs did a hundredth of the work in its second
    assert (row.ratio, row.low, row.high) == pytest.approx((0.04, 0.03, 0.05))


def test_the_error_is_relative_to_the_largest_entry():
    assert error(torch.tensor([1.0, 4.0]), torch.tensor([1.0, 5.0])) == pytest.approx(0.2)
    assert error(torch.zeros(2), torch.zeros(2)) == 0


def test_every_size_has_a_target_and_a_scene_of_its_shape():
    assert SIZES.keys() == steps.COMPILED.keys() == steps.EAGER.keys()
    for size, (count, features, hidden, classes) in SIZES.items():
        _, params, (inputs, targets) = scene(size, generator(), torch.float32, "cpu")
        assert inputs.shape == (count, features) and targets.shape == (count,)
        assert params[0]["w"].shape == (features, hidden) and params[2]["w"].shape == (hidden, classes)


def test_the_peers_compute_what_we_compute():
    objective, params, batch = scene("tiny", generator(), torch.float64, "cpu")
    module, classic = peers.classic(params, batch, SIZES["tiny"], 0.1)
    classic()
    (step,) = fn.train(fn.explicit(objective), fn.sgd(0.1), params, [batch])
    assert max(map(error, fn.tree.leaves(step.params), fn.tree.leaves(as_params(module)))) < 1e-12
    x = differences.flat([torch.arange(3.0)])
    assert error(differences.loop(lambda x: (x**3).sum(), x, 3), 3 * x**2) < 1e-9


def test_the_deep_network_is_that_of_its_peer():
    objective, params, batch = deep(generator(), torch.float64, "cpu")
    module, classic = peers.deep_classic(params, batch, 0.1)
    classic()
    (step,) = fn.train(fn.explicit(objective), fn.sgd(0.1), params, [batch])
    assert len(fn.tree.leaves(params)) == 200 and len(module) == 200
    assert max(map(error, fn.tree.leaves(step.params), fn.tree.leaves(as_params(module)))) < 1e-12


@pytest.mark.parametrize(
    ("row", "what", "target"),
    [
        (differences.with_softmax, "softmax between layers", 1.5),
        (differences.with_replaced_backward, "backward replaced", 1.1),
        (samples.with_softmax, "gradients, softmax between layers", 1.5),
    ],
)
def test_ours_against_ours_are_rows_of_the_same_work(monkeypatch, row, what, target):
    rounds = {"ours": [3.0] * 3, "theirs": [2.0] * 3}
    monkeypatch.setattr("experiments.benchmark.measure.interleaved", lambda *sides, **options: Timing(rounds))
    found = row(RACE, generator())  # raises where both sides do not compute what they should
    assert (found.what, found.target, found.ratio) == (what, target, 1.5)


def test_rows_of_files_are_of_the_same_numbers(monkeypatch):
    rounds = {"ours": [3.0] * 3, "theirs": [2.0] * 3}
    monkeypatch.setattr("experiments.benchmark.measure.interleaved", lambda *sides, **options: Timing(rounds))
    monkeypatch.setattr(files, "in_new_process", lambda call: 3.0 if call.startswith("fn.load") else 2.0)
    for name, value in {"WIDTHS": (3, 4, 2), "STEPS": 2, "TURNS": 3}.items():
        monkeypatch.setattr(files, name, value)
    *rows, checkpoint, frozen = files.run(RACE, generator())  # raises where both sides do not compute what they should
    assert [(row.what, row.ratio) for row in rows] == [
        ("save, 10^7 parameters", 1.5),
        ("save, 10^7 parameters", 1.5),
        ("load, 10^7 parameters", 1.5),
        ("load, 10^7 parameters, first in a process", 1.5),
    ]
    assert checkpoint.low <= checkpoint.ratio <= checkpoint.high and frozen.ratio == 1.5


def test_what_both_sides_have_to_multiply_bounds_their_ratio():
    bound = ROW._replace(what="eager, large", products=40e-6)  # of ours 80%, of theirs 40%
    (line,) = presentation.bounds([bound, bound._replace(peer="JAX jit", target=0.3), ROW])
    assert "80% (eager, large)" in line and "eager, large against JAX jit (not below 0.40, for 0.3)" in line
    assert "against classic PyTorch" not in line
    assert presentation.bounds([ROW]) == []


def test_the_loop_of_train_does_what_it_is_timed_for():
    row = overheads.loop(RACE)
    assert row.ours > 0 and row.target == 1.0 and row.low <= row.ratio <= row.high


def test_peak_memory_counts_what_is_held_at_once():
    def call():
        first, second = torch.empty(10**6, dtype=torch.float64), torch.empty(10**6, dtype=torch.float64)
        del first
        return second.sum()

    assert 16e6 <= overheads.peak(call) < 17e6


def test_the_slope_of_a_power_law_is_its_exponent():
    path = [growth.Point(x, x, x, 3e-6 * x**2, 5e-6 * x**0.5) for x in (1, 10, 100, 1000)]
    assert growth.slope(path, "explicit") == pytest.approx(2) and growth.slope(path, "classic") == pytest.approx(0.5)


def test_a_point_of_growth_counts_its_products():
    point = growth.measure(4, growth.mlp(8, [4, 3, 2], generator()), generator(), "cpu")
    assert point.x == 4 and point.parameters == 4 * 3 + 3 + 3 * 2 + 2
    assert point.flops == 2 * 8 * (2 * 12 + 3 * 6)
    assert point.explicit > 0 and point.classic > 0
    tokens, features, depth = 6, 8, 2
    point = growth.measure(tokens, growth.transformer(tokens, features, depth, generator()), generator(), "cpu")
    matrices = depth * 12 * features**2 + growth.VOCABULARY * features
    assert point.flops == 6 * tokens * matrices + 6 * depth * tokens**2 * features


def test_the_table_says_what_is_reached():
    missed = ROW._replace(what="eager, large", ratio=0.7)
    assert presentation.cells(ROW)[-1] == "yes" and presentation.cells(missed)[-1] == "no"
    assert presentation.cells(ROW._replace(target=None))[-2:] == ["", ""]
    lines = presentation.observations([ROW, missed], [])
    assert lines[0].startswith("1 of 2 targets are reached") and "eager, large" in lines[0]


def test_what_moved_is_what_leaves_the_quartiles(tmp_path):
    earlier = tmp_path / "result.json"
    earlier.write_text(json.dumps({"numbers": {"rows": [ROW._asdict()]}}))
    slower = ROW._replace(ratio=0.9, low=0.8, high=1.0)
    assert "0.5 to 0.9" in presentation.moved([slower], earlier)[0]
    assert "nothing" in presentation.moved([ROW._replace(ratio=0.52, low=0.5, high=0.6)], earlier)[0]
    assert presentation.moved([slower], None) == []


def test_the_figures_have_their_axes():
    figure, _ = presentation.draw([ROW, ROW._replace(threads=2, target=None)])
    assert "ours / peer" in figure.axes[0].get_xlabel()
    point = growth.Point(1, 2, 3, 4e-6, 5e-6)._asdict()
    found = {
        "points": {"width": [point] * 2, "depth": [point] * 2},
        "slopes": dict.fromkeys(("width", "depth"), {"explicit": 1.0, "classic": 1.0}),
        "threads": 1,
    }
    figure, _ = growth.draw(found | {"flops per second": 1e9})
    assert figure.axes[0].get_xlabel() == "width" and "µs" in figure.axes[0].get_ylabel()


@pytest.mark.parametrize("arguments", [["--threads", "0"], ["--compare", "nowhere.json"], ["--sections", "nope"]])
def test_bad_options_get_one_line_and_exit_code_2(capsys, arguments):
    assert command_line.main(["benchmark", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_scenes_of_the_networks_are_what_their_peers_compute():
    for name, made in networks.scenes(generator(), "cpu").items():
        params = made.layer.init(generator(), dtype=torch.float64)
        x, t = made.batch[0][:2], made.batch[1][:2]
        batch = (x.double() if x.is_floating_point() else x, t)
        module = modules.copied(params, made.made().double())
        expected = network_peers.cross_entropy(module(batch[0]), t)
        value, grads = fn.explicit(fn.supervised(made.layer, fn.softmax_cross_entropy()))(params, batch)
        assert error(value, expected) < 1e-10, name
        norms = network_peers.vmapped_norms(params, lambda made=made: made.made().double(), batch)()
        step_fn = fn.explicit(fn.supervised(made.layer, fn.softmax_cross_entropy()))
        assert error(fn.per_sample_norms(step_fn)(params, batch), norms) < 1e-10, name
        expected.backward()
        assert max(map(error, fn.tree.leaves(grads), modules.leaves_of(module, of_gradients=True))) < 1e-10, name
