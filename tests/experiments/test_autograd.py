import json

import pytest
import torch
from helpers import EPS, TOLERANCES, assert_close, normal

import funcnn as fn
from experiments import __main__ as command_line
from experiments.autograd import Autograd, field, line, tape

NO_SLOPE = {"w": torch.zeros(1, 1), "b": torch.zeros(1)}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("autograd")
    command_line.run_one("autograd", Autograd(output=folder, samples=40, epochs=30, batch_size=40, lr=0.8))
    return json.loads((folder / "autograd" / "result.json").read_text())


def test_every_provider_gives_the_gradient_of_the_formula(found):
    expected = torch.tensor([[9 * x * x, -2 * y] for x, y in field.POINTS])
    at_points = found["numbers"]["at points"]
    assert at_points.keys() == fn.PROVIDERS.keys()
    for name, rows in at_points.items():
        assert_close(torch.tensor(rows), expected, TOLERANCES[name])
        assert found["numbers"]["largest error on the grid"][name] < 13 * TOLERANCES[name]


def test_the_slope_of_x_cubed_at_2_is_12(found):
    for name, slope in found["numbers"]["slope of x^3 at 2"].items():
        assert slope == pytest.approx(12, rel=TOLERANCES[name])
    assert "The slope of $x^3$ at 2 is 12 by autograd" in found["observations"][0]


def test_each_row_of_the_field_belongs_to_its_own_point():
    points = normal(5, 2)
    whole, alone = field.gradients(points), field.gradients(points[3:4])
    for name in fn.PROVIDERS:
        assert_close(whole[name][3:4], alone[name], 1e-12)


def test_the_line_of_least_squares_is_that_of_linear_algebra():
    x, y = normal(30, 1), normal(30, 1, seed=1)
    w, b = torch.linalg.lstsq(torch.cat([x, torch.ones(30, 1)], 1), y).solution.flatten()
    best = line.least_squares((x, y))
    assert_close(best, {"w": w.reshape(1, 1), "b": b.reshape(1)}, 1e-12)
    gradient = fn.explicit(line.OBJECTIVE)(best, (x, y))[1]
    assert fn.tree.max_difference(gradient, NO_SLOPE) < 1e-14


def test_gradient_descent_finds_the_line_with_every_provider(found):
    best, lines = torch.tensor(found["numbers"]["least squares"]), found["numbers"]["line"]
    assert lines.keys() == fn.PROVIDERS.keys()
    for params in lines.values():  # with all the data in each batch the descent converges to least squares
        assert (torch.tensor(params) - best).abs().max() < 1e-5
    losses = found["numbers"]["loss"]["explicit"]
    assert len(losses) == 31 and losses[-1] < 0.1 * losses[0]


def test_no_grad_switches_off_the_tape_and_no_provider(found):
    mode = found["numbers"]["under no_grad"]
    assert mode["loss.requires_grad"] == ["True", "False"]
    assert mode["loss.grad_fn"][0].endswith("Backward0") and mode["loss.grad_fn"][1] == "None"
    usual, inside = (int(told.split()[0]) for told in mode["kept for the way back"])
    assert usual >= 40 * 8 and inside == 0
    assert mode["loss.backward()"][0] == "done" and "does not require grad" in mode["loss.backward()"][1]
    in_place = mode["w.sub_(lr * g), in place"]
    assert "in-place" in in_place[0] and in_place[1] == "done"
    assert found["numbers"]["moved by no_grad"] == dict.fromkeys(fn.PROVIDERS, 0)


def test_looking_at_the_tape_leaves_the_parameters_as_they_were():
    data, params = (normal(4, 1), normal(4, 1, seed=1)), {"w": normal(1, 1), "b": normal(1)}
    before = fn.tree.clone(params)
    tape.compare(line.OBJECTIVE, params, data)
    assert fn.tree.max_difference(params, before) == 0
    assert not any(leaf.requires_grad or leaf.grad is not None for leaf in params.values())


def test_a_line_that_is_not_found_is_reported_as_diverged():
    options = Autograd(lr=100, epochs=2, samples=40)
    data = line.points(40, options)
    best, runs = line.least_squares(data), line.fit(data, options)
    assert line.told(runs, best).startswith("No line is found: explicit diverged at step 1. func_grad diverged at step 1.")
    drawing, _ = line.draw(data, best, runs)
    assert not any("gradient descent" in text.get_text() for text in drawing.axes[0].get_legend().get_texts())


@pytest.mark.parametrize(("flag", "bad"), [("--samples", "0"), ("--lr", "-1"), ("--epochs", "0")])
def test_bad_options_get_one_line_and_exit_code_2(capsys, flag, bad):
    assert command_line.main(["autograd", flag, bad]) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1 and flag.strip("-") in complaint


def test_what_a_provider_is_worth_shows_in_its_error(found):
    errors = found["numbers"]["largest error on the grid"]
    assert max(errors[name] for name in ("explicit", "func_grad", "autograd", "complex_step")) < 100 * EPS
    assert errors["central_difference"] < 1e-2 * errors["forward_difference"]
