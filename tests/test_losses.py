import math

import pytest
import torch
from helpers import assert_close, labels, normal, numerical_gradient, seeded
from hypothesis import given
from hypothesis import strategies as st

import funcnn as fn


def reals(n, h, seed, dtype):
    return normal(n, h, seed=seed, dtype=dtype), normal(n, h, seed=seed + 1, dtype=dtype)


def probabilities(n, h, seed, dtype):
    p, y = (0.05 + 0.9 * torch.rand(2, n, h, generator=seeded(seed), dtype=torch.float64)).to(dtype)
    return p, y


def classes(n, h, seed, dtype):
    return 3 * normal(n, h, seed=seed, dtype=dtype), labels(n, h, seed=seed + 1)


# name: (loss, outputs and targets that suit it, the same in torch.nn)
LOSSES = {
    "half squared error": (
        fn.half_squared_error(),
        reals,
        lambda out, y: torch.nn.MSELoss(reduction="sum")(out, y) / 2 / len(out),
    ),
    "mean squared error": (fn.mean_squared_error(), reals, torch.nn.MSELoss()),
    "scaled squared error": (fn.mean_squared_error(scale=2.5), reals, lambda out, y: 2.5 * torch.nn.MSELoss()(out, y)),
    "binary cross entropy": (fn.binary_cross_entropy(), probabilities, torch.nn.BCELoss()),
    "softmax cross entropy": (fn.softmax_cross_entropy(), classes, torch.nn.CrossEntropyLoss()),
}
ROUNDING = {torch.float64: 1e-13, torch.float32: 2e-5}
DIFFERENCES = {torch.float64: 1e-7, torch.float32: 2e-2}

every_loss = pytest.mark.parametrize("name", LOSSES)
everything = given(
    n=st.integers(1, 5), h=st.integers(1, 4), seed=st.integers(0, 10**6), dtype=st.sampled_from(list(ROUNDING))
)


@every_loss
@everything
def test_the_value_is_that_of_torch(name, n, h, seed, dtype):
    loss, draw, expected = LOSSES[name]
    outputs, targets = draw(n, h, seed, dtype)
    assert_close(loss.forward(outputs, targets)[0], expected(outputs, targets), ROUNDING[dtype])


@every_loss
@everything
def test_the_gradient_is_that_of_the_value(name, n, h, seed, dtype):
    loss, draw, _ = LOSSES[name]
    outputs, targets = draw(n, h, seed, dtype)
    grad = loss.backward(loss.forward(outputs, targets)[1])

    def value(outputs):
        return loss.forward(outputs, targets)[0]

    assert_close(grad, torch.func.grad(value)(outputs), ROUNDING[dtype])
    assert_close(grad, numerical_gradient(value, outputs), DIFFERENCES[dtype])


def test_the_half_squared_error_of_a_sample_has_gradient_prediction_minus_target():
    value, residuals = fn.half_squared_error().forward(torch.tensor([[3.0, 1.0]]), torch.tensor([[1.0, 2.0]]))
    assert value == 0.5 * (4 + 1)
    assert torch.equal(fn.half_squared_error().backward(residuals), torch.tensor([[2.0, -1.0]]))


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 10.0])
def test_the_scale_multiplies_the_mean_squared_error_and_its_gradient(scale):
    outputs, targets = reals(4, 3, 0, torch.float64)
    value, residuals = fn.mean_squared_error().forward(outputs, targets)
    scaled, scaled_residuals = fn.mean_squared_error(scale).forward(outputs, targets)
    assert_close(scaled, scale * value, 1e-15)
    grad, expected = fn.mean_squared_error(scale).backward(scaled_residuals), fn.mean_squared_error().backward(residuals)
    assert_close(grad, scale * expected, 1e-15)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("y", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("p", [0.0, 1.0, 0.5, "tiny", "next to 1"])
def test_binary_cross_entropy_is_finite_everywhere_and_its_gradient_its_own(p, y, dtype):
    numbers = torch.finfo(dtype)
    p = {"tiny": numbers.tiny, "next to 1": 1 - numbers.eps}.get(p, p)
    outputs, targets = torch.tensor([[p]], dtype=dtype), torch.tensor([[y]], dtype=dtype)
    loss = fn.binary_cross_entropy()
    value, residuals = loss.forward(outputs, targets)
    grad = loss.backward(residuals)
    limit = -math.log(numbers.tiny)
    expected = -(y * max(math.log(p or numbers.tiny), -limit) + (1 - y) * max(math.log((1 - p) or numbers.tiny), -limit))
    assert torch.isfinite(grad).all()
    assert math.isclose(value.item(), expected, rel_tol=1e-6 if dtype == torch.float32 else 1e-14)
    own = torch.func.grad(lambda outputs: loss.forward(outputs, targets)[0])(outputs)
    assert torch.allclose(grad, own, rtol=4 * numbers.eps, atol=0)


@pytest.mark.parametrize("y", [0.0, 1.0])
def test_a_certain_and_right_prediction_costs_nothing(y):
    value, _ = fn.binary_cross_entropy().forward(torch.tensor([[y]]), torch.tensor([[y]]))
    assert value == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_softmax_cross_entropy_is_finite_for_enormous_logits(dtype):
    logits = torch.tensor([[1e4, -1e4, 0.0], [1e4, -1e4, 0.0]], dtype=dtype)
    value, residuals = fn.softmax_cross_entropy().forward(logits, torch.tensor([0, 1]))
    assert value == 1e4
    grad = fn.softmax_cross_entropy().backward(residuals)
    assert torch.equal(grad, torch.tensor([[0, 0, 0], [0.5, -0.5, 0]], dtype=dtype))


@pytest.mark.parametrize(("count", "expected"), [(2, 0.693147), (10, 2.302585), (100, 4.605170)])
@pytest.mark.parametrize("logit", [0.0, 3.0, -1e4])
def test_equal_logits_cost_the_logarithm_of_the_number_of_classes(count, expected, logit):
    value, _ = fn.softmax_cross_entropy().forward(torch.full((5, count), logit), labels(5, count))
    assert abs(value - expected) < 1e-6


@pytest.mark.parametrize("clip", [0.0, 0.01, 0.1, 10.0])
def test_clip_limits_the_gradient_and_leaves_the_value(clip):
    outputs, targets = classes(4, 3, 0, torch.float64)
    plain, clipped = fn.softmax_cross_entropy(), fn.softmax_cross_entropy(clip=clip)
    value, residuals = clipped.forward(outputs, targets)
    assert torch.equal(value, plain.forward(outputs, targets)[0])
    unlimited = plain.backward(plain.forward(outputs, targets)[1])
    assert torch.equal(clipped.backward(residuals), unlimited.clamp(-clip, clip))
    assert clip == 10.0 or not torch.equal(clipped.backward(residuals), unlimited)


@every_loss
def test_the_loss_of_a_batch_is_the_mean_of_the_losses_of_its_samples(name):
    loss, draw, _ = LOSSES[name]
    outputs, targets = draw(6, 3, 0, torch.float64)
    each = [loss.forward(outputs[i : i + 1], targets[i : i + 1])[0] for i in range(6)]
    assert_close(loss.forward(outputs, targets)[0], torch.stack(each).mean(), 1e-14)
