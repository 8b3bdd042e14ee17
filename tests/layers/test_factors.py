import pytest
import torch
from helpers import assert_close, normal

import funcnn as fn

N, ROUNDING = 6, 1e-13

# name: (summands, the matrices that they stand for)
FACTORS = {
    "no tokens": (normal(N, 4), normal(N, 3, seed=1)),
    "few tokens, whose Gram matrices are the smaller": (normal(N, 2, 9), normal(N, 2, 8, seed=1)),
    "many tokens, whose product is the smaller": (normal(N, 12, 3), normal(N, 12, 2, seed=1)),
    "tokens on two axes": (normal(N, 2, 3, 4), normal(N, 2, 3, 5, seed=1)),
    "one token": (normal(N, 1, 4), normal(N, 1, 3, seed=1)),
}


def written_out(x, dy):
    x, dy = (leaf.reshape(N, -1, leaf.shape[-1]) for leaf in (x, dy))
    return torch.stack([sum(torch.outer(*pair) for pair in zip(*sample, strict=True)) for sample in zip(x, dy, strict=True)])


SUMMANDS = {name: (fn.Outer(*pair), written_out(*pair)) for name, pair in FACTORS.items()}
SUMMANDS |= {f"rows of {rows.ndim} axes": (fn.Rows(rows), rows) for rows in (normal(N), normal(N, 3), normal(N, 2, 4))}


@pytest.mark.parametrize("name", SUMMANDS)
def test_factors_are_the_matrices_that_they_stand_for(name):
    summand, each = SUMMANDS[name]
    weights = normal(N, seed=2)
    assert summand.shape == tuple(each.shape[1:])
    assert_close(summand.each(), each, ROUNDING)
    assert_close(summand.total(), each.sum(0), ROUNDING)
    assert_close(summand.norms(torch.float64), each.reshape(N, -1).square().sum(1).sqrt(), ROUNDING)
    assert_close(summand.weighted(weights), sum(c * g for c, g in zip(weights, each, strict=True)), ROUNDING)


@pytest.mark.parametrize("name", FACTORS)
def test_norms_of_half_precision_are_computed_in_a_larger_one(name):
    x, dy = (1e3 * leaf.half() for leaf in FACTORS[name])
    expected = written_out(x.double(), dy.double()).reshape(N, -1).norm(dim=1)
    assert torch.allclose(fn.Outer(x, dy).norms(torch.float64), expected, rtol=1e-3)
