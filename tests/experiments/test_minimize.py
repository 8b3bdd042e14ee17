import json
import math

import pytest
import torch
from helpers import normal

import funcnn as fn
from experiments import __main__ as command_line
from experiments.minimize import Minimize, contest, grid, presentation
from experiments.minimize.problems import MORE_GARBOW_HILLSTROM, generate_function


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("minimize")
    flags = ["--dimension", "10", "--complexity", "2", "--starts", "32", "--evaluations", "150", "--output", str(folder)]
    assert command_line.main(["minimize", *flags]) == 0
    return json.loads((folder / "minimize" / "result.json").read_text())


def test_the_grid_has_every_dimension_and_complexity(found):
    assert [(cell["dimension"], cell["complexity"]) for cell in found["numbers"]["grid"]] == [
        (n, k) for n in (1, 10) for k in (0, 1, 2)
    ]


@pytest.mark.parametrize(
    ("last", "factor", "numbers"),
    [(1, 10, [1]), (10, 10, [1, 10]), (1000, 10, [1, 10, 100, 1000]), (50, 10, [1, 10, 50]), (8, 2, [1, 2, 4, 8])],
)
def test_a_scale_ends_with_its_last_number(last, factor, numbers):
    assert grid.scale(1, last, factor) == numbers


def test_every_start_reaches_the_minimum_of_a_bowl_and_waves_keep_most_from_it(found):
    for cell in found["numbers"]["grid"]:
        share = sum(value < 1e-6 for value in cell["values"]) / 32
        assert share == 1 if cell["complexity"] == 0 else 0 < share < 0.6
        assert all(value >= 0 for value in cell["values"]) and all(steps > 0 for steps in cell["steps"])


def test_the_share_is_that_of_one_wave_to_the_power_of_their_number():
    def share(k):
        cells = [grid.descend(generate_function(20, k, seed), 2 * normal(100, 20), 2000) for seed in range(8)]
        return sum(cell.share for cell in cells) / 8

    one, two = share(1), share(2)  # of waves of all lengths
    assert 0.3 < one < 0.5
    assert two == pytest.approx(one**2, abs=0.04)  # three standard deviations of 800 starts


@pytest.mark.parametrize("condition", [5.0, 20.0])
def test_on_a_bowl_the_steps_are_those_of_the_linear_rate(condition):
    start = 2 * normal(16, 50)
    cell = grid.descend(generate_function(50, 0, seed=0, condition=condition), start, 2000)
    expected = math.log(0.01 / 1e-6) / -math.log(1 - 1 / condition)  # from a gradient of 0.01 along the flattest axis
    assert 0.8 * expected < cell.median < 1.7 * expected


def test_steps_that_do_not_come_to_rest_are_told_apart():
    cell = grid.descend(generate_function(50, 0, seed=0), 2 * normal(4, 50), 5)
    assert all(map(math.isnan, cell.steps)) and cell.share == 0
    assert presentation.table_of_grid({(50, 0): cell}).rows[0][-2:] == ["none", 4]


@pytest.mark.parametrize("name", contest.BY_RATE)
def test_a_scale_is_a_learning_rate(name):
    problem, made = MORE_GARBOW_HILLSTROM["Rosenbrock"], {"sgd": fn.sgd, "momentum": fn.momentum, "nesterov": fn.nesterov}
    outcome = contest._best_rate(problem, *contest.BY_RATE[name], 60)
    optimizer = made.get(name, fn.adam)(outcome.lr)
    *_, step = fn.train(fn.explicit(problem.objective), optimizer, problem.start, [()] * 60)
    assert problem.objective.value(step.params, ()).item() == pytest.approx(outcome.value, rel=1e-6)


@pytest.mark.parametrize("name", contest.SEARCHING)
def test_every_evaluation_is_counted(name):
    problem, calls = MORE_GARBOW_HILLSTROM["Beale"], 0

    def counted(function):
        def call(x, batch):
            nonlocal calls
            calls += 1
            return function(x, batch)

        return call

    objective = fn.Objective(counted(problem.objective.value), counted(problem.objective.value_and_grad))
    steps = 0
    for step in fn.train(fn.explicit(objective), contest.SEARCHING[name], problem.start, [()] * 12):
        steps += 1 + step.state.evaluations
        assert calls == steps
    assert contest._search(problem, contest.SEARCHING[name], steps - 1).evaluations in (None, steps)


def test_what_counts_as_reached_is_within_1e_9_of_the_published_minimum(found):
    for name, row in found["numbers"]["contest"].items():
        minimum = MORE_GARBOW_HILLSTROM[name].minimum
        for outcome in row.values():
            assert (outcome["evaluations"] is not None) == (outcome["value"] <= minimum + 1e-9)
            assert (outcome["evaluations"] or 0) <= 150


def test_bfgs_reaches_most_minima_where_gradient_descent_reaches_none(found):
    reached = {
        optimizer: [name for name, row in found["numbers"]["contest"].items() if row[optimizer]["evaluations"]]
        for optimizer in ("sgd", "line search", "BFGS")
    }
    assert len(reached["BFGS"]) == 10 and not reached["sgd"] and not reached["line search"]
    assert set(MORE_GARBOW_HILLSTROM) - set(reached["BFGS"]) == {"Powell badly scaled", "Trigonometric"}
    assert found["numbers"]["contest"]["Trigonometric"]["BFGS"]["value"] == pytest.approx(3.94627e-6, rel=1e-4)


def test_every_provider_agrees_on_the_function_of_the_picture(found):
    apart = found["numbers"]["distance from explicit"]
    assert apart.keys() == fn.PROVIDERS.keys()
    assert all(distance < (1e-6 if name.endswith("difference") else 1e-14) for name, distance in apart.items())


def test_the_observations_say_so(found):
    said = " ".join(found["observations"])
    assert "In 10 dimensions the share of starts that reach the minimum is 1.00 to 1.00 with 0" in said
    assert "BFGS reaches 10" in said and "Trigonometric (3.94627e-06)" in said
    assert "Rosenbrock's function: sgd more than 150" in said


def test_one_dimension_alone_has_its_observations_too():
    cells = {(1, k): grid.Cell([1.0], [0.0]) for k in (0, 1)}
    bfgs = {"BFGS": contest.Outcome(0.0, 5)}
    said = presentation.observations(cells, {"explicit": 0.0, "central_difference": 1e-9}, {"Rosenbrock": bfgs}, 10)
    assert "In one dimension" in said[0] and "1.00, 1.00" in said[0]


def test_a_run_that_diverged_is_reported_as_diverged():
    table = presentation.table_of_contest({"Wood": {"sgd": contest.Outcome(math.inf, None)}}, 10)
    assert table.rows == [["Wood", "0", "diverged at every rate"]]


@pytest.mark.parametrize(
    ("flags", "place"),
    [
        (["--dimension", "0"], "dimension"),
        (["--complexity", "-1"], "complexity"),
        (["--condition", "0.5"], "condition"),
        (["--starts", "1.5"], "--starts"),
        (["--evaluations", "0"], "evaluations"),
    ],
    ids=str,
)
def test_a_bad_option_gets_one_line_and_exit_code_2(tmp_path, capsys, flags, place):
    assert command_line.main(["minimize", "--output", str(tmp_path), *flags]) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1 and place in complaint


def test_single_precision_is_drawn_from_the_same_starts():
    single, double = (grid.starts(3, 2, Minimize(dtype=dtype)) for dtype in ("float32", "float64"))
    assert single.dtype == torch.float32 and torch.equal(single, double.float())
