import pytest
import torch
from helpers import classifier
from planting import BATCH, PARAMS, leaf, only, planted, scene

import funcnn as fn


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("activation", [fn.tanh, fn.sigmoid, fn.relu])
def test_low_precision_is_judged_by_its_own_noise(dtype, activation):
    objective, params, batch = classifier((6, 10, 4), activation, count=16)
    low = fn.tree.map(lambda x: x.to(dtype) if x.is_floating_point() else x, (params, batch))
    report = fn.check(fn.explicit(objective), *low)
    assert report.ok, report
    for path, change in (("params[0]['w']", torch.neg), ("params[0]['w']", lambda g: 2 * g)):
        wrong = fn.check(planted(leaf(0, "w", change), objective), *low)
        assert wrong.leaves[path].verdict == "wrong" and not wrong.ok


def test_in_float32_an_error_of_a_thousandth_is_found():
    low = fn.tree.map(lambda x: x.float() if x.is_floating_point() else x, (PARAMS, BATCH))
    assert fn.check(planted(leaf(0, "w", lambda g: 1.001 * g)), *low).leaves["params[0]['w']"].verdict == "wrong"


LARGE, LARGE_PARAMS, LARGE_BATCH = scene((100, 120, 3), fn.tanh, count=4)


def test_a_large_model_is_probed_and_the_guilty_entry_is_found():
    assert fn.check(fn.explicit(LARGE), LARGE_PARAMS, LARGE_BATCH).ok
    report = fn.check(planted(leaf(0, "w", only((17, 93), lambda g: g + 0.01)), LARGE), LARGE_PARAMS, LARGE_BATCH)
    found = report.leaves["params[0]['w']"]
    assert found.verdict == "wrong" and found.worst_index == (17, 93) and found.cause == "single entry"
    assert "only [17, 93] is wrong" in found.diagnosis and "is missed with probability 1e-07" in str(report)


@pytest.mark.parametrize(
    ("change", "cause"), [(torch.neg, "sign"), (lambda g: 2 * g, "factor 2"), (torch.zeros_like, "zero")]
)
def test_a_large_leaf_that_is_wrong_everywhere_is_named(change, cause):
    found = fn.check(planted(leaf(0, "w", change), LARGE), LARGE_PARAMS, LARGE_BATCH).leaves["params[0]['w']"]
    assert found.verdict == "wrong" and found.cause == cause


def test_a_large_model_against_func_grad_is_compared_entry_by_entry():
    step_fn = planted(leaf(0, "w", only((17, 93), lambda g: g * (1 + 1e-3))), LARGE)
    found = fn.check(step_fn, LARGE_PARAMS, LARGE_BATCH, reference=fn.func_grad(LARGE)).leaves["params[0]['w']"]
    assert found.worst_index == (17, 93) and found.cause == "single entry"


def test_the_same_seed_gives_the_same_report():
    step_fn = planted(leaf(0, "w", lambda g: 1.001 * g))
    first, second, third = (fn.check(step_fn, PARAMS, BATCH, seed=seed) for seed in (1, 1, 2))
    assert str(first) == str(second) != str(third)


def test_no_precision_is_so_low_that_any_gradient_passes():
    # Sorting equal numbers: rounding them anew changes which is which, and that is no noise floor.
    def value(w, batch):
        return (w.sort().values * torch.arange(6.0, dtype=w.dtype)).sum()

    w = torch.ones(6, dtype=torch.float32)
    right = fn.autograd(fn.Objective(value))
    wrong = fn.check(lambda w, batch: (value(w, batch), -right(w, batch)[1]), w)
    assert not wrong.ok


@pytest.mark.parametrize("factor", [0.0, 0.5, 2.0])
def test_where_autograd_itself_has_no_digits_nothing_is_called_right(factor):
    w = torch.tensor(1 / 3, dtype=torch.float32)  # near the minimum of (3 w - 1)^2, where float32 sees none
    objective = fn.Objective(lambda w, batch: (3 * w - 1).square())
    report = fn.check(lambda w, batch: (objective.value(w, batch), torch.tensor(1e-3 * factor).to(w)), w)
    assert not report.ok or factor == 0.0
