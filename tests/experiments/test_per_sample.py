import json

import pytest
import torch
from helpers import EPS, classifier, normal

import funcnn as fn
from experiments import __main__ as command_line
from experiments.per_sample import PerSample
from experiments.per_sample.gradients import draw_ends, draw_errors, draw_norms, mean_error, relative_errors, share_of_tenth

OBJECTIVE, PARAMS, BATCH = classifier()
PARAMS = fn.tree.map(torch.Tensor.double, PARAMS)

# Relative errors of gradients a thousandth as large as the loss: rounding, or its balance with truncation, a thousandfold.
LIMITS = {name: 1e3 * EPS for name in ("explicit", "explicit, one pass", "func_grad", "autograd", "complex_step")}
LIMITS |= {name: 1e3 * EPS ** (1 / 2) for name in ("forward_difference", "backward_difference")}
LIMITS |= {"central_difference": 1e3 * EPS ** (2 / 3)}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("per_sample")
    command_line.run_one("per_sample", PerSample(output=folder, epochs=4, hidden=8, samples=6))
    return json.loads((folder / "per_sample" / "result.json").read_text())


def test_by_every_provider_the_mean_of_the_gradients_is_that_of_the_batch(found):
    means = found["numbers"]["mean from batch"]
    assert means.keys() == {*fn.PROVIDERS, "explicit, one pass"}
    for name, error in means.items():
        assert error < LIMITS[name], name


def test_by_every_provider_each_sample_has_the_gradient_that_func_grad_gives_it(found):
    for name, errors in found["numbers"]["each from func_grad"].items():
        assert len(errors) == 6 and len(errors[0]) == 4
        assert max(map(max, errors)) < LIMITS[name], name


def test_training_leaves_the_gradient_to_few_samples(found):
    norms = {at: torch.tensor(own) for at, own in found["numbers"]["norms"].items()}
    wrong = torch.tensor(found["numbers"]["wrong"])
    assert len(wrong) == len(norms["trained"]) == 1438
    assert share_of_tenth(norms["untrained"]) < 0.15 and share_of_tenth(norms["trained"]) > 0.4
    assert wrong[norms["trained"].topk(8).indices].all() and wrong.double().mean() < 0.1
    assert found["observations"][-1].startswith(
        "Of the 8 samples with the largest gradients the trained network names 8 wrong"
    )


def test_a_wrong_rule_shows_in_its_leaf_of_every_sample():
    def wrong(params, batch):
        value, (first, between, last) = fn.func_grad(OBJECTIVE)(params, batch)
        return value, (first, between, last | {"b": last["b"] * 1.001})

    right = fn.per_sample(fn.func_grad(OBJECTIVE))(PARAMS, BATCH)[1]
    errors = relative_errors(fn.per_sample(wrong)(PARAMS, BATCH)[1], right)
    of_b = fn.tree.paths(PARAMS).index("params[2]['b']")
    assert errors[:, of_b] == pytest.approx([1e-3] * len(errors))
    assert errors.sum(1) == pytest.approx(errors[:, of_b])


def test_a_sum_in_place_of_the_mean_shows():
    step_fn = fn.explicit(OBJECTIVE)
    each, whole = fn.per_sample(step_fn)(PARAMS, BATCH)[1], step_fn(PARAMS, BATCH)[1]
    assert mean_error(each, whole) < 100 * EPS
    assert mean_error(each, fn.tree.map(lambda leaf: 8 * leaf, whole)) == pytest.approx(7 / 8)


def test_the_share_of_the_largest_tenth():
    assert share_of_tenth(torch.ones(20)) == pytest.approx(0.1)
    assert share_of_tenth(torch.tensor([*[0.0] * 19, 5.0])) == 1


def test_the_figures_show_the_ends_in_order_and_name_their_axes():
    norms = torch.arange(20.0)
    labels, named = torch.arange(20) % 10, torch.zeros(20, dtype=torch.int64)
    drawing, _ = draw_ends(normal(20, 64).sigmoid(), labels, named, norms)
    first = [axis.get_xticklabels()[0].get_text() for axis in drawing.axes]
    assert first == ["9 named 0\n|g| = 19", "0 named 0\n|g| = 0"]
    drawing, _ = draw_norms({"untrained": norms, "trained": norms / 2})
    assert [axis.get_xscale() for axis in drawing.axes] == ["log"] and "norm" in drawing.axes[0].get_xlabel()
    drawing, _ = draw_errors(torch.rand(3, 2), ["a", "b"])
    assert drawing.axes[0].get_ylabel() == "sample"
    assert [label.get_text() for label in drawing.axes[0].get_xticklabels()] == ["a", "b"]


def test_a_diverging_training_is_reported_as_diverged(tmp_path):
    command_line.run_one("per_sample", PerSample(output=tmp_path, epochs=1, hidden=4, lr=1e200))
    (observation,) = (tmp_path / "per_sample" / "observations.txt").read_text().splitlines()
    assert "diverged at step" in observation


@pytest.mark.parametrize("flags", [["--samples", "0"], ["--hidden", "-1"], ["--lr", "nan"], ["--epochs", "0"]])
def test_bad_options_get_one_line_and_exit_code_2(capsys, flags):
    assert command_line.main(["per_sample", *flags]) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1 and flags[0].strip("-") in complaint
