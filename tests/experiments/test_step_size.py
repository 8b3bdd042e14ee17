from functools import cache

import pytest

from experiments.core.options import BadOption
from experiments.core.training import Run
from experiments.step_size import StepSize, run
from experiments.step_size.presentation import reached

K, STEPS = 7.0, 25


@cache
def result():
    return run(StepSize(condition=K, steps=STEPS, hidden=4))


def losses(place, kind):
    (name,) = (name for name in result().numbers[place] if name.startswith(kind))
    return result().numbers[place][name]["loss"]


@pytest.mark.parametrize("kind", ["optimal", "exact"])
def test_the_optimal_fixed_step_and_the_exact_search_shrink_the_loss_by_the_factor_of_the_theory(kind):
    found = losses("quadratic", kind)
    for before, after in zip(found[:20], found[1:21], strict=True):
        assert after / before == pytest.approx(((K - 1) / (K + 1)) ** 2, rel=1e-5)


@pytest.mark.parametrize(("kind", "lr"), [("too small", 0.1 / K), ("good", 1 / K), ("optimal", 2 / (K + 1))])
def test_every_fixed_step_multiplies_each_coordinate_by_one_minus_lr_curvature(kind, lr):
    ours = [0.5 * ((K * (1 - lr) ** t) ** 2 + K * (1 - lr * K) ** (2 * t)) for t in range(STEPS + 1)]
    assert losses("quadratic", kind) == pytest.approx(ours, rel=1e-9)


def test_a_step_above_two_over_l_diverges_when_the_formula_says():
    first = next(
        t for t in range(99) if 0.5 * ((K * (1 - 2.2 / K) ** t) ** 2 + K * 1.2 ** (2 * t)) > 100 * 0.5 * (K * K + K)
    )
    assert f"diverged at step {first}" in result().observations[1]
    assert len(losses("quadratic", "too large")) == first


def test_on_the_network_the_optimal_step_is_the_best_of_the_sweep_and_a_larger_one_diverges_or_is_worse():
    ends = {lr: float(end) for lr, end in result().numbers["sweep"].items() if "diverged" not in end}
    best = min(ends, key=ends.get)
    assert losses("network", "optimal")[-1] == pytest.approx(ends[best], rel=1e-2)
    assert losses("network", "good")[-1] < losses("network", "too small")[-1]
    assert f"{best:g} ends lowest" in result().observations[2]


def test_line_searches_need_more_evaluations_than_steps_and_exact_ones_many():
    spent = {name: result().numbers["network"][name]["evaluations"] for name in ("backtracking", "exact search")}
    assert all(evaluations[-1] >= 2 * STEPS for evaluations in spent.values())
    assert spent["exact search"][-1] > 5 * spent["backtracking"][-1]
    assert losses("network", "exact")[5] < losses("network", "backtracking")[5]


def test_what_it_took_to_a_share_of_the_first_loss():
    run = Run({"loss": [8.0, 4.0, 2.0, 1.0], "evaluations": [0, 3, 9, 10]}, None, 1, ())
    assert reached(run, 0.5) == (1, 3) and reached(run, 0.2) == (3, 10) and reached(run, 0.1) is None


def test_a_condition_number_of_one_is_refused():
    with pytest.raises(BadOption, match="condition: got 1.0, needs a number above 1"):
        StepSize(condition=1.0)
