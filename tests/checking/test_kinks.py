import pytest
import torch
from helpers import normal, seeded
from planting import BATCH, OBJECTIVE, PARAMS, leaf, planted

import funcnn as fn

ZERO_ROW = torch.cat([torch.zeros(1, 4), normal(7, 4)]), BATCH[1]
NO_BIAS = tuple(own and own | {"b": torch.zeros_like(own["b"])} for own in PARAMS)


@pytest.mark.parametrize(
    ("at_zero", "verdict"), [(0.0, "kink"), (0.5, "ok"), (1.0, "kink"), (0.3, "kink"), (1.5, "wrong"), (-0.5, "wrong")]
)
def test_at_a_kink_what_lies_between_both_sides_is_excused(at_zero, verdict):
    # With x = 0 and b = 0 the whole first layer of one sample stands at ReLU's kink. Differences see 1/2 there.
    relu = fn.relu()._replace(
        forward=lambda params, x: (torch.relu(x), x),
        backward=lambda x, dy: ((), torch.where(x == 0, at_zero * dy, torch.where(x > 0, dy, 0))),
    )
    objective = fn.supervised(fn.serial(fn.dense(4, 5), relu, fn.dense(5, 3)), fn.softmax_cross_entropy())
    report = fn.check(fn.explicit(objective), NO_BIAS, ZERO_ROW)
    assert report.leaves["params[0]['b']"].verdict == verdict, report
    assert report.leaves["params[0]['w']"].verdict == "ok" == report.leaves["params[2]['w']"].verdict
    assert report.ok == (verdict != "wrong")


def test_a_mistake_beside_a_kink_is_not_excused():
    objective = fn.supervised(fn.mlp((4, 5, 3), fn.relu), fn.softmax_cross_entropy())
    report = fn.check(planted(leaf(0, "b", lambda g: 1.01 * g), objective), NO_BIAS, ZERO_ROW)
    assert report.leaves["params[0]['b']"].verdict == "wrong"


def test_samples_with_kinks_in_opposite_directions_are_excused():
    # |w x| at w = 0: sample by sample the derivative lies in [-|x|, |x|], the one-sided ones of the batch are +-mean |x|.
    objective = fn.Objective(lambda w, x: (torch.relu(w * x)).mean())
    x = torch.tensor([1.0, -1.0, 2.0])
    for g, verdict in ((0.0, "kink"), (1.0, "kink"), (-1 / 3, "kink"), (1.1, "wrong"), (-0.4, "wrong")):
        step_fn = fn.StepFn(objective.value, lambda w, x, g=g: (objective.value(w, x), torch.tensor(g)))
        assert fn.check(step_fn, torch.tensor(0.0), x).leaves["params"].verdict == verdict, g


def test_where_rounding_hides_everything_the_reference_is_called_unreliable():
    # The slope of relu is 1e-12 beside a value of 1: differences see nothing, and complex steps refuse relu.
    objective = fn.Objective(lambda w, batch: 1 + 1e-18 * torch.relu(w).sum())
    step_fn = fn.StepFn(objective.value, lambda w, batch: (objective.value(w, batch), torch.full_like(w, 3e-18)))
    report = fn.check(step_fn, torch.ones(3))
    assert report.leaves["params"].verdict == "unreliable" and "rounding" in report.leaves["params"].diagnosis
    assert not report.ok


def test_an_analytic_function_is_seen_through_its_rounding():
    objective = fn.Objective(lambda w, batch: 1 + 1e-18 * torch.sin(w).sum())
    right, wrong = (
        fn.StepFn(objective.value, lambda w, batch, c=c: (objective.value(w, batch), c * 1e-18 * torch.cos(w)))
        for c in (1, 1.01)
    )
    assert fn.check(right, torch.ones(3)).ok
    assert not fn.check(wrong, torch.ones(3)).ok


def test_a_wrong_reference_is_not_believed():
    report = fn.check(fn.explicit(OBJECTIVE), PARAMS, BATCH, reference=planted(leaf(0, "w", torch.neg)))
    found = report.leaves["params[0]['w']"]
    assert found.verdict == "unreliable" and "side with this gradient" in found.diagnosis and not report.ok


def whole(*shape, seed):
    """-1, 0 or 1: weights and inputs that put many units on their kinks at once."""
    return torch.randint(-1, 2, shape, generator=seeded(seed)).double()


@pytest.mark.parametrize("sizes", [(2, 2, 1), (2, 2, 2, 1), (3, 3, 3, 1), (4, 6, 6, 2)])
@pytest.mark.parametrize("samples", [1, 4])
def test_networks_on_many_kinks_at_once_are_never_called_wrong(sizes, samples):
    network = fn.mlp(sizes, fn.relu)
    for seed in range(6):
        start = network.init(seeded(), dtype=torch.float64)
        params = fn.tree.map(lambda leaf, s=seed: whole(*leaf.shape, seed=s), start)
        batch = whole(samples, sizes[0], seed=seed + 100), whole(samples, sizes[-1], seed=seed + 200)
        report = fn.check(fn.explicit(fn.supervised(network, fn.half_squared_error())), params, batch)
        assert report.ok, report


def test_a_wrong_sign_on_many_kinks_is_still_wrong():
    network = fn.mlp((3, 3, 3, 1), fn.relu)
    params = fn.tree.map(lambda leaf: whole(*leaf.shape, seed=3), network.init(seeded(), dtype=torch.float64))
    batch, objective = (whole(4, 3, seed=103), whole(4, 1, seed=203)), fn.supervised(network, fn.half_squared_error())
    assert not fn.check(planted(leaf(2, "w", torch.neg), objective), params, batch).ok


@pytest.mark.parametrize("activation", [fn.tanh, fn.relu])
def test_at_an_exact_minimum_zero_is_right_and_its_noise_is_no_gradient(activation):
    network = fn.mlp((4, 5, 3), activation)
    objective, outputs = fn.supervised(network, fn.half_squared_error()), fn.apply(network, PARAMS, BATCH[0])
    report = fn.check(fn.explicit(objective), PARAMS, (BATCH[0], outputs))
    assert report.ok, report


def test_entries_that_are_possible_alone_but_not_together_are_wrong():
    # The larger of two equal numbers: either may have the derivative 1, but not both.
    x = torch.tensor([[1.0, 3.0, 3.0], [2.0, 0.0, 1.0]])
    for shares, ok in ((torch.nn.functional.one_hot(x.argmax(1), 3), True), (x == x.amax(1, keepdim=True), False)):
        report = fn.check_vjp(lambda x: (x.amax(1), x), (x,), backward=lambda x, dy, shares=shares: dy[:, None] * shares)
        assert report.ok == ok


def test_a_gradient_of_zero_far_below_the_value_is_not_taken_for_right():
    objective = fn.Objective(lambda w, batch: 1e4 + (1e-7 * w.abs()).sum())
    found = fn.check(lambda w, batch: (objective.value(w, batch), torch.zeros_like(w)), torch.ones(3)).leaves["params"]
    assert found.verdict == "wrong" and found.cause == "zero"
