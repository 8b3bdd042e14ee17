import math

import pytest
import torch

import funcnn as fn
from experiments import __main__ as command_line
from experiments import lecture_notes as notes
from experiments.core.result import save
from experiments.lecture_notes import published


@pytest.fixture(scope="module")
def result():
    return notes.run(notes.LectureNotes())


def verdicts(result, formula, dtype):
    return {row[2]: row[3] for row in result.tables[0].rows if row[:2] == [formula, dtype]}


@pytest.mark.parametrize(("dtype", "edge"), [("float32", 88), ("float64", 709)])
def test_softmax_without_its_maximum_is_right_until_exp_overflows(result, dtype, edge):
    limit = math.log(torch.finfo(notes.DTYPES[dtype]).max)
    assert edge == math.floor(limit)
    said = verdicts(result, "softmax", dtype)
    assert said["largest logit 0"] == said[f"largest logit {edge}"] == "ok"
    assert said[f"largest logit {edge + 1}"] == "wrong"
    errors = dict(result.numbers["sweeps"]["softmax"][dtype])
    assert errors[0] < 1e-6 and errors[edge] < 1e-6 and math.isnan(errors[edge + 1])
    assert f"in {dtype} is NaN where the largest logit is above {edge}" in "".join(result.observations)


def test_far_below_0_its_exponentials_lose_digits_until_none_is_left(result):
    errors = dict(result.numbers["sweeps"]["softmax"]["float32"])
    assert errors[-80] < 1e-6 < errors[-97] < errors[-102] and math.isnan(errors[-110])
    assert verdicts(result, "softmax", "float32")["largest logit -100"] == "unreliable"


def test_the_epsilon_matters_where_the_label_is_about_as_unlikely(result):
    for p, error in result.numbers["sweeps"]["cross entropy"]:
        assert error == pytest.approx(1e-9 / (p + 1e-9), rel=1e-3, abs=1e-12)
    said = verdicts(result, "cross entropy", "float64")
    assert [said[f"p = {p:g}"] for p in notes.PROBABILITIES] == ["ok", "ok", "wrong", "wrong", "wrong", "wrong"]


def test_relu_keeps_its_gradient_at_0_and_writes_into_what_it_is_given(result):
    x, dy = torch.tensor([[1.0, 0.0, -1.0]]), torch.tensor([[2.0, 3.0, 4.0]])
    _, dx = published.relu().backward(x, dy)
    assert torch.equal(dx, torch.tensor([[2.0, 3.0, 0.0]])) and dx is dy
    assert verdicts(result, "ReLU", "float64") == {"x = [1, -1]": "wrong", "x = [1, 0]": "kink"}
    rows = [row for row in result.tables[0].rows if row[0] == "ReLU"]
    assert {row[5] for row in rows if row[2] == "x = [1, -1]"} == {"mutation"}
    share = dict(result.numbers["sweeps"]["ReLU"]["below 0, with a skip connection"])
    assert share[0.5] == pytest.approx(math.sqrt(0.5 / 2.5))  # 1 missing in half, of 2 in the other half and 1 in this
    kept = dict(result.numbers["sweeps"]["ReLU"]["at 0"])
    assert kept[0.5] == pytest.approx(math.sqrt(0.5))


def test_the_formulas_agree_with_ours_where_they_are_right():
    x = torch.tensor([[0.3, -0.2, 1.0], [0.1, 2.0, -1.0]])
    targets = torch.tensor([0, 1])
    torch.testing.assert_close(fn.apply(published.softmax(), (), x), fn.apply(fn.softmax(), (), x))
    value, residuals = published.cross_entropy().forward(x, targets)
    expected, expected_residuals = fn.softmax_cross_entropy().forward(x, targets)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(
        published.cross_entropy().backward(residuals), fn.softmax_cross_entropy().backward(expected_residuals)
    )


def test_the_result_is_kept_with_its_figure(result, tmp_path):
    save("lecture_notes", result, notes.LectureNotes(output=tmp_path))
    assert command_line.EXPERIMENTS["lecture_notes"] == (notes.LectureNotes, notes.run)
    assert (tmp_path / "lecture_notes" / "effects.png").read_bytes().startswith(b"\x89PNG")
