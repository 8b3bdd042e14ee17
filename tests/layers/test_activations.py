import math

import pytest
import torch
from helpers import assert_close

import funcnn as fn


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float64, 1e-13), (torch.float32, 2e-5)])
def test_softmax_survives_enormous_logits(dtype, rounding):
    logits = torch.tensor([[1e4, -1e4, 0.0], [1e4, 1e4, 1e4], [-1e4, -1e4, -1e4 + 1]], dtype=dtype)
    y, residuals = fn.softmax().forward((), logits)
    third, e = 1 / 3, math.e
    expected = [[1, 0, 0], [third, third, third], [1 / (2 + e), 1 / (2 + e), e / (2 + e)]]
    assert_close(y, torch.tensor(expected, dtype=dtype), rounding)
    dx = fn.softmax().backward(residuals, torch.ones_like(y))[1]
    assert_close(dx, torch.zeros_like(dx), rounding)


@pytest.mark.parametrize("layer", [fn.sigmoid(), fn.tanh()], ids=repr)
def test_saturated_units_have_gradient_zero_and_not_nan(layer):
    _, residuals = layer.forward((), torch.tensor([-1e4, 1e4]))
    assert torch.equal(layer.backward(residuals, torch.ones(2))[1], torch.zeros(2))


def test_relu_has_derivative_zero_at_zero():
    y, residuals = fn.relu().forward((), torch.tensor([-1.0, -0.0, 0.0, 1.0]))
    assert torch.equal(y, torch.tensor([0.0, 0.0, 0.0, 1.0]))
    assert torch.equal(fn.relu().backward(residuals, torch.full((4,), 3.0))[1], torch.tensor([0.0, 0.0, 0.0, 3.0]))


@pytest.mark.parametrize("layer", [fn.relu(), fn.sigmoid(), fn.tanh(), fn.softmax()], ids=repr)
def test_what_is_no_number_goes_through_and_back_as_in_torch(layer):
    x, dy = torch.tensor([[math.nan, 1.0], [2.0, -1.0]]), torch.tensor([[3.0, 2.0], [1.0, 4.0]])
    function = {"relu()": torch.relu, "sigmoid()": torch.sigmoid, "tanh()": torch.tanh}.get(repr(layer))
    y, pullback = torch.func.vjp(function or (lambda x: torch.softmax(x, -1)), x)
    found, residuals = layer.forward((), x)
    assert torch.allclose(found, y, equal_nan=True)
    assert torch.allclose(layer.backward(residuals, dy)[1], pullback(dy)[0], equal_nan=True)


def test_relu_hands_on_the_gradient_of_what_is_no_number():
    _, residuals = fn.relu().forward((), torch.tensor([math.nan]))
    assert fn.relu().backward(residuals, torch.tensor([3.0]))[1] == 3
