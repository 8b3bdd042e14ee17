"""Planted mistakes are found and named, right estimators are not called wrong, and the bounds are as good as their level."""

import math
import os

import pytest
import torch
from estimators import ASIDE, GRADIENT, PARAMS, PLANTED, REFERENCE, RIGHT, D, plain, record, two_sided
from helpers import classifier, normal, same_bits, seeded
from simulated import SIMULATED

import funcnn as fn
from funcnn.checking.bets import balanced, farthest, variance_bound
from funcnn.checking.estimator import examined
from funcnn.checking.estimator_laws import repeats
from funcnn.checking.estimator_source import estimator
from funcnn.checking.estimator_steps import steps

ALARMS = int(os.environ.get("FUNCNN_ALARMS", "40"))  # runs of each right estimator; 10,000 take an hour
CUBES = fn.Objective(lambda w, batch: (w**3).sum())

pytestmark = pytest.mark.usefixtures("as_users_run_it")


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_is_not_called_wrong(name):
    make, draws = RIGHT[name]
    report = fn.check_estimator(make(seeded()), REFERENCE, PARAMS, draws=draws)
    assert report, report


@pytest.mark.parametrize("name", [*PLANTED, *ASIDE])
def test_a_mistake_is_found_and_named(name):
    make, draws, causes = (PLANTED | ASIDE)[name]
    report = fn.check_estimator(make(seeded()), REFERENCE, PARAMS, draws=draws)
    found = {finding.cause for finding in (report.leaves | report.trials).values() if finding.verdict == "wrong"}
    assert not report and found & {*causes}, report


PROVIDERS = {
    "spsa": fn.spsa,
    "forward_gradient": fn.forward_gradient,
    "by differences": lambda *a, **how: fn.forward_gradient(*a, by="differences", **how),
    "evolution": fn.evolution,
}


@pytest.mark.parametrize("how", [{}, {"samples": 4}, {"samples": 4, "orthogonal": True}], ids=str)
@pytest.mark.parametrize("name", PROVIDERS)
def test_the_providers_are_right(name, how):
    objective, params, batch = classifier()
    params = fn.tree.map(torch.Tensor.double, params)
    report = fn.check_estimator(
        PROVIDERS[name](objective, seeded(), **how), fn.explicit(objective), params, batch, draws=256
    )
    assert report, report


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", PROVIDERS)
def test_the_providers_are_right_in_low_precision(name, dtype):
    w, objective = normal(6, dtype=dtype), fn.Objective(lambda w, batch: (w.sin() * w).sum())
    report = fn.check_estimator(PROVIDERS[name](objective, seeded()), fn.func_grad(objective), w, draws=256)
    assert report, report


def test_where_little_of_the_value_is_slope_rounding_is_no_mistake():
    w, objective = normal(6), fn.Objective(lambda w, batch: 1e6 + 1e-3 * w.sin().sum())
    assert fn.check_estimator(fn.spsa(objective, seeded()), fn.func_grad(objective), w, draws=256)


@pytest.mark.parametrize("name", SIMULATED)
def test_there_are_no_false_alarms(name):
    e, draws, kurtosis = SIMULATED[name]
    alarms = sum(not examined(e, draws, kurtosis, seed=1000 * run) for run in range(ALARMS))
    assert alarms == 0


@pytest.mark.parametrize("name", SIMULATED)
def test_another_level_is_kept_too(name):
    e, draws, kurtosis = SIMULATED[name]
    alarms = sum(not examined(e, draws, kurtosis, seed=1000 * run + 500, level=0.2) for run in range(40))
    assert alarms <= 20  # of at most 8 that are to be expected


def heavy(count, runs):
    """Sums of numbers of mean 0 and variance 1 that are nearly always small: 1 in 400 of them is 20."""
    x = (torch.rand(runs, count, generator=seeded()) < 1 / 400).double()
    return (20 * x - 0.05) / math.sqrt(1 - 0.0025)


@pytest.mark.parametrize("level", [0.3, 0.05, 0.003])
def test_sums_stay_within_their_bound_however_heavy_the_tails(level):
    count, odds = 400, math.log(1 / level)
    for x in (heavy(count, 20_000), normal(20_000, count), normal(20_000, count) ** 2 / 2**0.5 - 0.5**0.5):
        may = farthest(x.square().sum(1), torch.ones((), dtype=torch.float64), count, odds)
        assert (x.sum(1).abs() > may).double().mean() <= level
        signs = 2.0 * torch.randint(2, x.shape, generator=seeded()) - 1
        assert ((x * signs).sum(1).abs() > balanced(x.square().sum(1), odds)).double().mean() <= level
        kurtosis = float((x**4).mean() / x.square().mean() ** 2)
        if 2 * kurtosis * odds < count:
            below = variance_bound(x.square().mean(1), count, kurtosis, odds) < 1
            assert below.double().mean() <= level


def test_the_inequality_beneath_the_bound():
    x = torch.linspace(-40, 40, 800_001, dtype=torch.float64)
    assert (x - x**2 / 6 <= (x + x**2 / 3).log1p() + 1e-12).all()


def test_a_normal_sum_is_bounded_at_little_more_than_its_quantile():
    may = farthest(torch.tensor(1000.0).double(), torch.ones(()).double(), 1000, math.log(1e9)) / math.sqrt(1000)
    quantile = math.sqrt(2) * float(torch.erfinv(torch.tensor(1 - 1e-9).double()))
    assert 1.11 < may / quantile < 1.12


@pytest.mark.parametrize(
    ("make", "times"),
    [(lambda c: fn.spsa(CUBES, seeded(), step=c), 1), (lambda c: fn.evolution(CUBES, seeded(), sigma=c, samples=256), 3)],
    ids=["rademacher", "gaussian"],
)
def test_the_bias_of_a_step_is_that_of_the_third_derivatives(make, times):
    w, c = torch.ones(1, dtype=torch.float64), 0.1
    found = steps(estimator(make(c), fn.func_grad(CUBES), w, ()), 0)
    assert abs(found.bias * 3 / (times * c**2) - 1) < 0.11 and found.law.holds


@pytest.mark.parametrize(
    ("how", "expected"),
    [({"directions": "gaussian"}, D + 2), ({}, D), ({"directions": "orthogonal", "samples": 4}, D / 4)],
    ids=str,
)
def test_the_second_moment_is_told_beside_its_law(how, expected):
    report = fn.check_estimator(record(seeded(), **how), REFERENCE, PARAMS, draws=1000)
    told = report.remarks[0]
    measured = float(told.split()[3])
    assert f"{expected:.4g} by the law of its directions" in told and abs(measured / expected - 1) < 0.25


def test_a_step_that_is_not_small_is_told():
    report = fn.check_estimator(fn.evolution(CUBES, seeded(), sigma=0.3), fn.func_grad(CUBES), normal(6), draws=256)
    assert report and "With its own step its mean is off by" in str(report)


def test_equal_draws_of_few_entries_or_of_equal_seeds_are_no_mistake():
    objective = fn.Objective(lambda w, batch: w.sin().sum())
    assert fn.check_estimator(fn.spsa(objective, seeded()), fn.func_grad(objective), normal(3), draws=400)
    e = SIMULATED["gaussian"][0]
    assert repeats(e, 300, math.log(4e6)) == 2 and repeats(e, 100_000, math.log(4e6)) > 3


def test_a_record_is_asked_with_other_generators_than_its_own():
    generator = seeded(3)
    before, step_fn = generator.get_state(), fn.spsa(CUBES, generator)
    first, again = (fn.check_estimator(step_fn, fn.func_grad(CUBES), normal(6), draws=256) for _ in range(2))
    assert str(first) == str(again) and torch.equal(generator.get_state(), before)
    other = fn.check_estimator(step_fn, fn.func_grad(CUBES), normal(6), draws=256, seed=1)
    assert str(other) != str(first)


def test_what_writes_to_its_arguments_is_found():
    def writing(params, batch):
        params["c"].add_(1)
        return REFERENCE(params, batch)

    params = fn.tree.clone(PARAMS)
    report = fn.check_estimator(writing, REFERENCE, params, draws=4000)
    assert not report and report.trials["untouched inputs"].cause == "mutation" and same_bits(params, PARAMS)


def test_draws_that_are_not_finite_are_found():
    report = fn.check_estimator(plain(seeded(), scale=math.inf), REFERENCE, PARAMS, draws=4000)
    assert not report and report.trials["draws"].cause == "not finite"


def test_the_mistake_of_one_leaf_is_told_of_that_leaf():
    report = fn.check_estimator(
        record(seeded(), 8, vectors=lambda at, u: [u[0], -u[1], u[2]]), REFERENCE, PARAMS, draws=1000
    )
    assert [leaf.verdict for leaf in report.leaves.values()] == ["ok", "wrong", "ok"]
    assert report.leaves["params['b']"].cause == "sign"


def test_more_draws_find_less():
    step_fn = record(seeded(), slope=lambda *a: 1.1 * two_sided(*a))
    allowed = [
        fn.check_estimator(step_fn, REFERENCE, PARAMS, draws=draws).trials["all leaves"].allowed for draws in (256, 4096)
    ]
    assert 3 < allowed[0] / allowed[1] < 5


def test_an_estimator_of_another_gradient_is_told_where():
    wrong = torch.where(torch.arange(D) == 13, GRADIENT + 3.0, GRADIENT)
    report = fn.check_estimator(
        lambda params, batch: (REFERENCE.value(params, batch), fn.tree.ravel(PARAMS)[1](wrong)),
        REFERENCE,
        PARAMS,
        draws=4000,
    )
    assert report.leaves["params['c']"].verdict == "wrong" and report.leaves["params['c']"].worst_index in ((1,), ())
    assert [report.leaves[f"params['{name}']"].verdict for name in "ab"] == ["ok", "ok"]


REFUSED = {
    "few draws": (lambda: fn.check_estimator(plain(seeded()), REFERENCE, PARAMS, draws=100), "draws", "100", "at least"),
    "no draws": (lambda: fn.check_estimator(plain(seeded()), REFERENCE, PARAMS, draws=0), "draws", "0", "positive"),
    "a gradient of 0": (
        lambda: fn.check_estimator(fn.spsa(CUBES, seeded()), fn.func_grad(CUBES), torch.zeros(3), draws=256),
        "reference(params, batch)",
        "a gradient of 0",
        "another",
    ),
    "a kurtosis below 1": (
        lambda: fn.check_estimator(plain(seeded()), REFERENCE, PARAMS, draws=4000, kurtosis=0.5),
        "kurtosis",
        "0.5",
        "at least 1",
    ),
    "no parameters": (lambda: fn.check_estimator(REFERENCE, REFERENCE, (), draws=4000), "params", "no numbers", "gradient"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_checked_is_refused(name):
    call, place, got, needs = REFUSED[name]
    with pytest.raises(fn.InputError) as caught:
        call()
    assert caught.value.place == place and got in str(caught.value.got) and needs in caught.value.needs
