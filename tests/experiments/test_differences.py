import math

import pytest
import torch

import funcnn as fn
from experiments import __main__ as command_line
from experiments.differences import Differences, evaluations, martins, run, sine_times_exponential, sweep

EPS = {"torch.float64": 2.2e-16, "torch.float32": 1.2e-7, "torch.bfloat16": 7.8e-3}
SCHEMES = ("forward", "backward", "central")


@pytest.fixture(scope="module")
def result():
    return run(Differences(points=25, per_decade=2))


def test_the_derivative_of_the_function_is_the_analytic_one():
    x = torch.linspace(-3, 3, 7)
    (value, slope), twin = (
        sine_times_exponential().value_and_grad(x, ()),
        torch.func.grad(lambda x: (x.sin() * x.exp()).sum()),
    )
    assert torch.equal(value, x.sin() * x.exp()) and torch.allclose(slope, twin(x), rtol=1e-14)


# provider: the largest rms error, on a derivative of size 5, that its scheme may have at its default step in float64
BOUNDS = {
    "explicit": 0,
    "func_grad": 1e-14,
    "autograd": 1e-14,
    "complex_step": 1e-14,
    "central_difference": 1e-8,
    "forward_difference": 1e-6,
    "backward_difference": 1e-6,
}


def test_every_provider_comes_as_close_as_its_scheme_allows(result):
    rms = result.numbers["rms error"]
    assert rms.keys() == BOUNDS.keys() == fn.PROVIDERS.keys()
    assert all(rms[name] <= bound for name, bound in BOUNDS.items())
    assert rms["complex_step"] < 1e-4 * rms["central_difference"] < 1e-4 * 0.1 * rms["forward_difference"]


@pytest.mark.parametrize(("scheme", "slope"), sweep.SCHEMES.items())
def test_errors_fall_with_the_order_of_the_scheme_and_with_the_constant_of_theory(result, scheme, slope):
    pairs = result.numbers["sweep"]["torch.float64"][scheme]
    assert sweep.order(pairs, 1e-4, 1e-2) == pytest.approx(slope, abs=0.02)
    h, error = min(pairs, key=lambda pair: abs(math.log(pair[0] / 1e-3)))
    factor = sweep.theory(torch.linspace(-3, 3, 25))[slope]
    assert error == pytest.approx(factor * h**slope, rel=0.01)


@pytest.mark.parametrize("dtype", EPS)
def test_the_best_step_is_near_the_rule_and_the_error_there_of_its_size(result, dtype):
    for scheme in SCHEMES:
        h, error = sweep.best(result.numbers["sweep"][dtype][scheme])
        order = 2 if scheme == "central" else 1
        assert EPS[dtype] ** (1 / (order + 1)) / 6 < h < 6 * EPS[dtype] ** (1 / (order + 1))
        assert 0.05 < error / EPS[dtype] ** (order / (order + 1)) < 5


@pytest.mark.parametrize("dtype", EPS)
def test_below_its_best_step_a_difference_is_lost_in_rounding_and_the_complex_step_is_not(result, dtype):
    found = result.numbers["sweep"][dtype]
    for scheme in SCHEMES:
        moving = [(h, error) for h, error in found[scheme] if error == error]
        assert moving[0][1] > 2 * sweep.best(found[scheme])[1]
        assert 0.01 * EPS[dtype] < moving[0][0] < 10 * EPS[dtype]  # smaller ones move nothing
    assert all(error < EPS[dtype] for h, error in found["complex step"] if h < 0.1 * EPS[dtype] ** 0.5)


def test_the_costs_are_those_of_the_schemes():
    for size in (1, 7):
        assert [evaluations(name, size) for name in ("explicit", "func_grad", "autograd")] == [1, 1, 1]
        assert evaluations("forward_difference", size) == evaluations("backward_difference", size) == 1 + size
        assert evaluations("central_difference", size) == 1 + 2 * size and evaluations("complex_step", size) == 1 + size


def test_the_published_table_is_reproduced_outside_the_noise(result):
    found = result.numbers["Martins"]
    for scheme in martins.SCHEMES:
        lowest = {"central": 1e-4, "complex step": 1e-20}.get(scheme, 1e-6)
        for h, (measured, published) in found[scheme].items():
            if h >= lowest:
                assert martins.reproduced(measured, published), (scheme, h)
    assert all(math.isnan(found[scheme][1e-20][0]) for scheme in SCHEMES)
    (_, table) = result.tables
    assert table.rows[-1][1::2] == ["refused"] * 3 + [f"{found['complex step'][1e-20][0]:.2e}"]


def test_the_observations_say_so(result):
    said = " ".join(result.observations)
    assert "1.00 (forward; theory 1)" in said and "2.00 (complex step; theory 2)" in said
    assert "101 evaluations by forward differences, 201 by central ones" in said
    assert "in bfloat16" in said and "32 errors of Martins et al. 21 are reproduced" in said


@pytest.mark.parametrize("flags", [["--points", "0"], ["--per-decade", "-1"], ["--points", "2.5"]], ids=str)
def test_a_bad_option_gets_one_line_and_exit_code_2(tmp_path, capsys, flags):
    assert command_line.main(["differences", "--output", str(tmp_path), *flags]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_it_runs_from_the_command_line_in_single_precision(tmp_path):
    flags = ["--dtype", "float32", "--points", "5", "--per-decade", "1", "--output", str(tmp_path)]
    assert command_line.main(["differences", *flags]) == 0
    assert (tmp_path / "differences" / "steps.png").exists()
