import json

import pytest
import torch
from helpers import normal, seeded

import funcnn as fn
from experiments import __main__ as command_line
from experiments.core.memory import in_units
from experiments.jacobian import Jacobian, small, sweep


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jacobian")
    command_line.run_one("jacobian", Jacobian(output=folder, batch=16, width=48))
    return json.loads((folder / "jacobian" / "result.json").read_text())


def scene(backward=None):
    layer = fn.dense(5, 3)
    return layer._replace(backward=backward or layer.backward), layer.init(seeded()), normal(4, 5), normal(4, 3, seed=1)


def test_every_derivative_has_its_shape_its_zeros_and_three_ways_that_agree(found):
    cases = found["numbers"]["cases"]
    assert {name: case["shape"] for name, case in cases.items()} == {
        "dL/dY": [4, 3],
        "dp/dz": [3, 3],
        "dY/dX": [4, 3, 4, 5],
        "dY/dW": [4, 3, 5, 3],
        "dY/db": [4, 3, 3],
    }
    zeros = {name: case["zeros"] for name, case in cases.items()}
    assert zeros == pytest.approx({"dL/dY": 0, "dp/dz": 0, "dY/dX": 1 - 1 / 4, "dY/dW": 1 - 1 / 3, "dY/db": 1 - 1 / 3})
    assert max(case["difference"] for case in cases.values()) < 1e-15


def test_the_products_are_the_contractions_and_the_blocks_stand_alone(found):
    products = found["numbers"]["products"]
    assert list(products) == ["dX = dY W^T", "dW = X^T dY", "db = 1^T dY"] and max(products.values()) < 1e-14
    assert found["numbers"]["blocks"] == {"elsewhere": 0, "on the diagonal": 0}


def test_the_measured_memory_is_what_the_formulas_say(found):
    for point in found["numbers"]["bytes"]:
        n, d = 16, point["width"]
        products = 4 * (n * d + d * d + d)
        assert point["jacobian"] == 4 * n * d * n * d
        assert products <= point["products"] < 1.1 * products + 500  # torch rounds allocations up
        assert 2 * point["jacobian"] <= point["formed"] < 2.1 * point["jacobian"]  # the Jacobian, and the unit dY
    assert [point["width"] for point in found["numbers"]["bytes"]] == [16, 32, 48]


def test_the_jacobian_of_the_issue_takes_256_gib():
    assert in_units(4 * (64 * 4096) ** 2) == "256 GiB"
    assert [in_units(size) for size in (0, 308, 1024, 1.5 * 2**20)] == ["0 bytes", "308 bytes", "1 KiB", "1.5 MiB"]


def test_a_jacobian_that_would_be_too_large_is_not_formed(monkeypatch):
    monkeypatch.setattr(sweep, "FORMED", 4 * 64**2)
    assert sweep.footprint(2, 32).formed is not None
    assert sweep.footprint(2, 33).formed is None
    assert sweep.widths(8) == [8] and sweep.widths(64) == [16, 32, 64]


def test_a_wrong_rule_does_not_pass_for_a_contraction():
    def halved(residuals, dy):
        grads, dx = right.backward(residuals, dy)
        return grads, dx / 2

    right, *rest = scene()
    wrong, *_ = scene(halved)
    cases = small.cases(right, *rest[:2])
    assert max(small.products(right, *rest, cases).values()) < 1e-14
    products = small.products(wrong, *rest, cases)
    assert products["dX = dY W^T"] > 0.1 and products["dW = X^T dY"] < 1e-14


def test_a_sample_that_depends_on_another_shows_in_the_blocks():
    of_x = torch.zeros(2, 1, 2, 1)
    of_x[0, 0, 1, 0] = -3.0
    assert small.blocks(of_x, torch.full((1, 1), 2.0)) == {"elsewhere": 3.0, "on the diagonal": 2.0}


@pytest.mark.parametrize("flags", [["--width", "0"], ["--batch", "-1"], ["--width", "20000"]])
def test_bad_options_get_one_line_and_exit_code_2(capsys, flags):
    assert command_line.main(["jacobian", *flags]) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1 and flags[0].strip("-") in complaint


def test_the_observations_give_the_numbers(found):
    *_, contracted, memory = found["observations"]
    assert "dW = X^T dY" in contracted and "D = M = 48" in memory and "2.25 MiB" in memory
