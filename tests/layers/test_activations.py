import math

import pytest
import torch
import torch.nn.functional as F
from helpers import EPS, assert_close, normal, says

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


# name: (a layer, torch's operation)
OF_INPUT = {
    "leaky_relu": (fn.leaky_relu(0.01), F.leaky_relu),
    "a steep leak": (fn.leaky_relu(1.5), lambda x: F.leaky_relu(x, 1.5)),
    "a leak upwards": (fn.leaky_relu(-0.5), lambda x: F.leaky_relu(x, -0.5)),
    "gelu": (fn.gelu(), F.gelu),
    "gelu by tanh": (fn.gelu("tanh"), lambda x: F.gelu(x, approximate="tanh")),
    "silu": (fn.silu(), F.silu),
    "softplus": (fn.softplus(), lambda x: F.softplus(x, threshold=40.0)),
}
EVERYWHERE = torch.tensor(
    [-1e4, -800.0, -100.0, -30.0, -3.3, -1e-9, 0.0, 1e-9, 0.7, 3.3, 19.9, 20.1, 30.0, 100.0, 800.0, 1e4]
)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", OF_INPUT)
def test_an_activation_of_its_input_is_torchs_operation_and_its_gradient_everywhere(name, dtype):
    layer, operation = OF_INPUT[name]
    x, dy = EVERYWHERE.to(dtype), normal(len(EVERYWHERE), dtype=dtype)
    y, residuals = layer.forward((), x)
    expected, pullback = torch.func.vjp(operation, x)
    assert y.dtype == dtype
    assert_close((y, layer.backward(residuals, dy)[1]), (expected, pullback(dy)[0]), max(1e-10, torch.finfo(dtype).eps))


@pytest.mark.parametrize("name", OF_INPUT)
def test_its_pullback_has_derivatives_of_its_own(name):
    layer, operation = OF_INPUT[name]
    x, dy = normal(20), normal(20, seed=1)

    def pulled(x, dy):
        return layer.backward(layer.forward((), x)[1], dy)[1]

    def by_torch(x, dy):
        return torch.func.vjp(operation, x)[1](dy)[0]

    found, expected = (torch.func.jvp(f, (x, dy), (dy, x)) for f in (pulled, by_torch))
    assert_close(found, expected, 1e-10)
    found, expected = (torch.func.grad(lambda x, f=f: f(x, dy).sum())(x) for f in (pulled, by_torch))
    assert_close(found, expected, 1e-10)


@pytest.mark.parametrize("name", OF_INPUT)
def test_what_is_no_number_goes_through_an_activation_of_its_input_as_in_torch(name):
    layer, operation = OF_INPUT[name]
    y, pullback = torch.func.vjp(operation, torch.tensor([math.nan]))
    found, residuals = layer.forward((), torch.tensor([math.nan]))
    assert torch.allclose(found, y, equal_nan=True)
    assert torch.allclose(layer.backward(residuals, torch.ones(1))[1], pullback(torch.ones(1))[0], equal_nan=True)


def test_softplus_is_right_to_rounding_where_torch_by_default_is_linear_already():
    x = torch.linspace(-50, 50, 1001)
    y, residuals = fn.softplus().forward((), x)
    assert_close(y, torch.logaddexp(x, torch.zeros(())), 2 * EPS)
    assert_close(fn.softplus().backward(residuals, torch.ones_like(x))[1], torch.sigmoid(x), 4 * EPS)


# name: (a call without arguments, the place, what was found, what is needed)
BAD = {
    "a slope that is no number": (lambda: fn.leaky_relu(math.nan), "slope", "nan", "a number"),
    "a slope without end": (lambda: fn.leaky_relu(-math.inf), "slope", "-inf", "a number"),
    "another approximation": (lambda: fn.gelu("erf"), "approximate", "'erf'", '"none" or "tanh"'),
    "no approximation": (lambda: fn.gelu(None), "approximate", "None", '"none" or "tanh"'),
    "integers": (lambda: fn.silu().forward((), torch.arange(3)), "inputs of params", "int64", "floating"),
    "a gradient of another shape": (lambda: fn.softplus().backward(torch.ones(3), torch.ones(2)), "dy", "(2,)", "(3,)"),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_refused(name):
    call, *message = BAD[name]
    with pytest.raises(fn.InputError) as caught:
        call()
    assert says(caught.value, *message)
