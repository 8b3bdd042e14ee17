from functools import partial
from inspect import unwrap

import pytest
import torch
from helpers import normal, seeded
from hypothesis import given
from hypothesis import strategies as st

from funcnn.checking import diagnosis
from funcnn.checking.directions import miss_probability
from funcnn.checking.evidence import Evidence, careful

diagnose = partial(diagnosis.diagnose, hypotheses=diagnosis.HYPOTHESES)
N, R, B = 8, normal(4, 4), normal(5)

# name: (g, r, the cause)
CASES = {
    "sign": (-R, R, "sign"),
    "twice": (2 * R, R, "factor 2"),
    "minus half": (-R / 2, R, "factor 2"),
    "N times": (N * R, R, "factor N"),
    "an Nth": (R / N, R, "factor N"),
    "minus N times": (-N * R, R, "factor N"),
    "an Nth of a bias": (B / N, B, "bias reduction"),
    "transposed": (R.T, R, "transposed"),
    "rows mirrored": (R.flip(0), R, "permuted"),
    "rolled": (B.roll(2), B, "permuted"),
    "zero": (0 * R, R, "zero"),
    "one entry": (torch.where(torch.arange(16).reshape(4, 4) == 6, 2 * R, R), R, "single entry"),
    "one row": (torch.where(torch.arange(4)[:, None] == 2, R + 1, R), R, "single row"),
    "one column": (torch.where(torch.arange(4) == 1, 3 * R, R), R, "single column"),
    "not a number": (R / 0 * 0, R, "not finite"),
    "three times": (3 * R, R, ""),
    "something else": (normal(4, 4, seed=9), R, ""),
    "where it should be 0": (R, 0 * R, ""),
    "a scalar of another sign": (normal(), -normal(), "sign"),
    "a scalar, just wrong": (1.3 * normal(), normal(), ""),
    "transposed by shape": (normal(3, 2).T.clone(), normal(3, 2), "transposed"),
    "of another shape": (normal(3), normal(3, 2), "shape"),
}


@pytest.mark.parametrize("noise", [0.0, 1e-9])
@pytest.mark.parametrize("name", CASES)
def test_each_hypothesis_knows_its_mistake_and_no_other(name, noise):
    g, r, cause = CASES[name]
    g = g + noise * g.norm() * normal(*g.shape, seed=5)
    found, sentence = diagnose(Evidence(g, r, 1e-7, counts=(N,), alone=True))
    assert found == cause and sentence


@given(st.integers(2, 1000), st.sampled_from(["N", "1/N"]))
def test_the_factor_is_that_of_the_batch_at_hand(count, which):
    factor = count if which == "N" else 1 / count
    cause, sentence = diagnose(Evidence(factor * R, R, 1e-7, counts=(3, count)))
    assert cause == ("factor 2" if count == 2 else "factor N") and str(count) in sentence


@pytest.mark.parametrize("factor", [0.0137, 0.371, 1.07, 5.9, 17.3, 93.1])  # of no sizes, roots or constants
def test_a_factor_that_no_hypothesis_has_is_told_as_it_is(factor):
    cause, sentence = diagnose(Evidence(factor * R, R, 1e-9, counts=(N,)))
    assert cause == "" and f"{factor:.6g} times" in sentence


def test_a_row_is_diagnosed_by_itself():
    g = R.clone()
    g[3] *= -1
    assert diagnose(Evidence(g, R, 1e-7))[1] == "only row 3 is wrong: there it is the negative of the reference: a sign"


def test_in_low_precision_a_mistake_is_named_within_the_noise():
    g = (-R).bfloat16().double()
    assert diagnose(Evidence(g, R, 0.05, counts=(N,)))[0] == "sign"


@pytest.mark.parametrize("times", [2, 10])
def test_errors_are_missed_as_often_as_is_said(times):
    # The mean square of 4 normal numbers, times^2 as large as the threshold's, is below 1.
    probes = torch.randn(200_000, 4, generator=seeded(), dtype=torch.float64)
    missed = ((times * probes).square().mean(1) < 1).double().mean().item()
    assert missed == pytest.approx(miss_probability(times), rel=0.35)


def test_what_8_probes_pass_is_right_beyond_doubt():
    # An error of c times the threshold gives a mean square of 8 probes below it with probability P(chi^2_8 < 8 / c^2).
    missed = [torch.special.gammainc(torch.tensor(4.0), torch.tensor(4 / c**2)).item() for c in (10, 100)]
    assert missed[0] < 1.1e-7 and missed[1] < 1.1e-15


def test_a_hypothesis_that_an_operation_refuses_says_nothing_more():
    def refused(e):
        yield "some name", "what it says first"
        raise RuntimeError("no inverse")

    assert list(careful(refused)(Evidence(torch.ones(3), torch.zeros(3), 1e-7))) == [("some name", "what it says first")]
    assert all(unwrap(hypothesis) is not hypothesis for hypothesis in diagnosis.HYPOTHESES)
