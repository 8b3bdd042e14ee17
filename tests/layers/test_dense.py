import math

import pytest
import torch
from helpers import seeded

import funcnn as fn


@pytest.mark.parametrize(("features", "seed"), [(1, 0), (2, 1), (7, 2), (50, 3)])
def test_initial_values_fill_the_interval_of_half_width_one_over_the_root_of_the_fan_in(features, seed):
    params = fn.dense(features, 200).init(seeded(seed))
    bound = 1 / math.sqrt(features)
    assert params["w"].shape == (features, 200) and params["b"].shape == (200,)
    for leaf in params.values():
        assert leaf.abs().max() <= bound
        assert leaf.max() > 0.8 * bound and leaf.min() < -0.8 * bound
        assert abs(leaf.mean()) < 0.25 * bound


def test_without_bias_there_is_no_b():
    assert fn.dense(2, 3, bias=False).init(seeded()).keys() == {"w"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_goes_forward_and_back(dtype):
    layer, x = fn.mlp([4, 3, 2]), torch.ones(5, 4, dtype=dtype)
    params = layer.init(seeded(), dtype=dtype)
    y, residuals = layer.forward(params, x)
    dparams, dx = layer.backward(residuals, y)
    assert {leaf.dtype for leaf in fn.tree.leaves((y, dparams, dx))} == {dtype}
    assert torch.allclose(y.double(), layer(fn.tree.map(torch.Tensor.double, params), x.double()), rtol=0.05, atol=0.05)
