import math

import pytest
import torch
from helpers import labels, says, seeded
from planting import BATCH, OBJECTIVE, PARAMS, only

import funcnn as fn


def test_a_function_that_is_not_deterministic_is_told_before_anything_else():
    generator = seeded()

    def noisy(params, batch):
        value, grads = fn.explicit(OBJECTIVE)(params, batch)
        return value, fn.tree.map(lambda g: g * (1 + 0.01 * torch.randn((), generator=generator)), grads)

    report = fn.check(fn.StepFn(OBJECTIVE.value, noisy), PARAMS, BATCH)
    assert report.trials["repeated call"].cause == "nondeterministic"
    assert 1e-4 < report.trials["repeated call"].error < 0.1
    assert {finding.verdict for finding in report.leaves.values()} == {"unreliable"}


def test_residuals_kept_from_another_point_are_found():
    kept = []

    def value_and_grad(params, batch):
        result = fn.explicit(OBJECTIVE)(params, batch)
        kept.append(result[1])
        return result[0], kept[0]

    assert not fn.check(fn.StepFn(OBJECTIVE.value, value_and_grad), PARAMS, BATCH).ok


def test_writing_into_the_parameters_is_told():
    def writes(params, batch):
        result = fn.explicit(OBJECTIVE)(params, batch)
        params[0]["w"].mul_(1.0 + 1e-9)
        return result

    report = fn.check(fn.StepFn(OBJECTIVE.value, writes), fn.tree.clone(PARAMS), BATCH)
    assert report.trials["untouched inputs"].cause == "mutation" and "params[0]['w']" in str(report)


def test_a_value_that_is_another_functions_is_told():
    other = fn.StepFn(lambda params, batch: 1.01 * OBJECTIVE.value(params, batch), fn.explicit(OBJECTIVE).value_and_grad)
    report = fn.check(other, PARAMS, BATCH, reference=fn.func_grad(OBJECTIVE))
    assert report.trials["value"].cause == "value" and not report.ok


def test_a_value_that_is_not_finite_leaves_nothing_to_compare():
    objective = fn.Objective(lambda w, batch: w.log().sum(), lambda w, batch: (w.log().sum(), 1 / w))
    report = fn.check(fn.explicit(objective), torch.tensor([-1.0, 2.0]))
    assert report.trials["value"].cause == "not finite" and report.leaves["params"].verdict == "unreliable"


STEP_FN, GOOD = fn.explicit(OBJECTIVE), (PARAMS, BATCH)
INFINITE = tuple(own and own | {"w": only((0, 1), lambda w: w / 0)(own["w"])} for own in PARAMS)


def missing(params, batch):
    value, grads = STEP_FN(params, batch)
    return value, (*grads[:2], {"w": grads[2]["w"]})


def extra(params, batch):
    value, grads = STEP_FN(params, batch)
    return value, (*grads[:2], grads[2] | {"scale": torch.ones(1)})


def only_single(params, batch):
    return OBJECTIVE.value(fn.tree.map(torch.Tensor.float, params), (batch[0].float(), batch[1]))


# name: (the call, the place, what was found, what is needed)
BAD = {
    "nothing to check": (lambda: fn.check(STEP_FN, (), BATCH), "params", "no numbers", "nothing to check"),
    "empty leaves": (lambda: fn.check(STEP_FN, torch.ones(0)), "params", "no numbers", "nothing to check"),
    "infinite parameters": (lambda: fn.check(STEP_FN, INFINITE, BATCH), "params[0]['w']", "at [0, 1]", "finite"),
    "NaN in the data": (
        lambda: fn.check(STEP_FN, PARAMS, (BATCH[0] * math.nan, BATCH[1])),
        "batch[0]",
        "nan at [0, 0]",
        "finite numbers",
    ),
    "an objective": (lambda: fn.check(OBJECTIVE, *GOOD), "step_fn", "Objective", "StepFn"),
    "no function": (lambda: fn.check(3, *GOOD), "step_fn", "3", "StepFn or a callable"),
    "a reference that is none": (
        lambda: fn.check(STEP_FN, *GOOD, reference="func_grad"),
        "reference",
        "'func_grad'",
        "StepFn",
    ),
    "a leaf missing": (lambda: fn.check(missing, *GOOD), "step_fn: grads[2]['b']", "no such leaf", "parameters"),
    "a leaf too many": (
        lambda: fn.check(extra, *GOOD),
        "step_fn: grads[2]['scale']",
        "a leaf that params has not",
        "parameters",
    ),
    "no pair": (lambda: fn.check(lambda p, b: p, *GOOD), "step_fn(params, batch)", "tuple of 3", "(value, grads)"),
    "a vector value": (
        lambda: fn.check(lambda p, b: (torch.ones(2), p), *GOOD),
        "step_fn(params, batch)[0]",
        "(2,)",
        "scalar",
    ),
    "a negative tolerance": (lambda: fn.check(STEP_FN, *GOOD, tolerance=-1.0), "tolerance", "-1.0", "at least 0"),
    "a seed that is none": (lambda: fn.check(STEP_FN, *GOOD, seed="0"), "seed", "'0'", "an integer"),
    "a batch of unequal lengths": (
        lambda: fn.check(STEP_FN, PARAMS, (BATCH[0], labels(3, 3))),
        "batch[1]",
        "(3,)",
        "8",
    ),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told_clearly(name):
    call, *message = BAD[name]
    with pytest.raises(fn.InputError) as caught:
        call()
    assert says(caught.value, *message)
