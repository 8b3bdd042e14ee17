import math

import numpy as np
import pytest
import torch
from helpers import EPS, assert_close, classifier

import funcnn as fn

# Martins, Sturdza & Alonso (2003): the function on which difference schemes are compared, and its derivative at 1.5.
DERIVATIVE = 4.0534278938986206577
ORDERS = {"forward": 1, "backward": 1, "central": 2}

every_scheme = pytest.mark.parametrize("scheme", ORDERS)


def martins(x, batch):
    return x.exp() / (x.sin() ** 3 + x.cos() ** 3).sqrt()


def relative_error(scheme, step):
    grad = fn.finite_difference(fn.Objective(martins), scheme, step=step)(torch.tensor(1.5), torch.zeros(1))[1]
    return abs(grad.item() / DERIVATIVE - 1)


@every_scheme
def test_the_error_falls_with_the_order_of_the_scheme(scheme):
    steps = [10**-exponent for exponent in (2, 2.5, 3, 3.5)]
    errors = [relative_error(scheme, step) for step in steps]
    slope, _ = np.polyfit(np.log(steps), np.log(errors), 1)
    assert abs(slope - ORDERS[scheme]) < 0.03


# The published relative errors at each step.
PUBLISHED = {
    ("forward", 1e-1): 1.31e-1,
    ("forward", 1e-2): 1.18e-2,
    ("forward", 1e-4): 1.17e-4,
    ("backward", 1e-1): 1.04e-1,
    ("backward", 1e-2): 1.15e-2,
    ("backward", 1e-4): 1.17e-4,
    ("central", 1e-1): 1.34e-2,
    ("central", 1e-2): 1.32e-4,
    ("central", 1e-4): 1.32e-8,
}


@pytest.mark.parametrize(("scheme", "step"), PUBLISHED)
def test_the_error_is_the_published_one(scheme, step):
    assert math.isclose(relative_error(scheme, step), PUBLISHED[scheme, step], rel_tol=0.01)


# About five times the best that the dtype allows: eps^(1/2) for one-sided schemes, eps^(2/3) for central ones.
REACHABLE = {
    ("forward", torch.float64): 5e-7,
    ("backward", torch.float64): 5e-7,
    ("central", torch.float64): 5e-9,
    ("forward", torch.float32): 1e-2,
    ("backward", torch.float32): 1e-2,
    ("central", torch.float32): 2e-3,
}


@pytest.mark.parametrize(("scheme", "dtype"), REACHABLE)
def test_the_default_step_suits_the_dtype(scheme, dtype):
    objective, params, (inputs, targets) = classifier((10, 8, 5), fn.tanh)
    truth = fn.func_grad(objective)(params, (inputs, targets))[1]
    params, inputs = fn.tree.map(lambda leaf: leaf.to(dtype), params), inputs.to(dtype)
    grads = fn.tree.map(torch.Tensor.double, fn.finite_difference(objective, scheme)(params, (inputs, targets))[1])
    error = fn.tree.add_scaled(grads, -1.0, truth)
    assert (fn.tree.dot(error, error) / fn.tree.dot(truth, truth)).sqrt() < REACHABLE[scheme, dtype]


@pytest.mark.parametrize(("scheme", "dtype"), REACHABLE)
@pytest.mark.parametrize("size", [1.0, 1e3, 1e6])
def test_the_step_grows_with_the_parameter(scheme, dtype, size):
    w = size * torch.tensor([0.7, -1.3], dtype=dtype)
    objective = fn.Objective(lambda w, batch: (w / size).sin().sum())
    grad = fn.finite_difference(objective, scheme)(w, torch.zeros(1))[1]
    assert torch.allclose(size * grad, (w / size).cos(), rtol=0, atol=REACHABLE[scheme, dtype])


def test_parameters_near_zero_take_a_step_of_ordinary_size():
    objective = fn.Objective(lambda w, batch: (w + 1).square().sum())
    grad = fn.finite_difference(objective)(torch.tensor([0.0, 1e-12]), torch.zeros(1))[1]
    assert torch.allclose(grad, torch.full((2,), 2.0), rtol=0, atol=1e-9)


@every_scheme
def test_the_step_that_was_really_taken_divides(scheme):
    # On a line there is no truncation, so nothing is left of the error but that of a quotient with the wrong step.
    objective = fn.Objective(lambda w, batch: w.sum())
    grad = fn.finite_difference(objective, scheme, step=1e-10)(torch.tensor([1000.3]), torch.zeros(1))[1]
    assert grad == 1


@pytest.mark.parametrize("chunk_size", [7, 10**9])
@every_scheme
def test_the_chunk_size_does_not_change_the_gradient(scheme, chunk_size):
    objective, params, batch = classifier()
    whole, chunked = (fn.finite_difference(objective, scheme, chunk_size=size) for size in (None, chunk_size))
    rounding = 10 * EPS / EPS ** (1 / (1 + ORDERS[scheme]))  # of the values, over the step
    assert_close(chunked(params, batch)[1], whole(params, batch)[1], rounding)


@pytest.mark.parametrize("chunk_size", [1, 7, 10**9])
def test_no_more_than_the_chunk_is_moved_at_once(chunk_size):
    seen = []

    def value(w, batch):
        seen.append(1)
        return w.square().sum()

    fn.finite_difference(fn.Objective(value), chunk_size=chunk_size)(torch.ones(21), torch.zeros(1))
    assert len(seen) == 1 + math.ceil(21 / chunk_size)  # both points of an entry in one call


def test_relu_at_its_kink_is_one_half_for_central_differences():
    objective = fn.Objective(lambda w, batch: torch.relu(w).sum())
    at_zero = {
        scheme: fn.finite_difference(objective, scheme)(torch.zeros(1), torch.zeros(1))[1].item() for scheme in ORDERS
    }
    assert at_zero == {"forward": 1.0, "backward": 0.0, "central": 0.5}


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        ({"scheme": "sideways"}, "scheme"),
        ({"scheme": "Central"}, "scheme"),
        ({"step": 0.0}, "step"),
        ({"step": -1e-3}, "step"),
        ({"step": math.nan}, "step"),
        ({"step": math.inf}, "step"),
        ({"chunk_size": 0}, "chunk_size"),
        ({"chunk_size": -3}, "chunk_size"),
    ],
    ids=str,
)
def test_what_is_no_scheme_no_step_and_no_size_is_refused_at_once(arguments, place):
    with pytest.raises(fn.InputError, match=f"^{place}: got"):
        fn.finite_difference(fn.Objective(martins), **arguments)
