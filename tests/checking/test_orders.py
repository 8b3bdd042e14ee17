import math

import pytest
import torch
from helpers import EPS, seeded
from hypothesis import given
from hypothesis import strategies as st

from funcnn.checking.orders import derivative, judge


def at(function, x=0.3):
    return lambda h: function(x + h)


SMOOTH = {
    "sine": (torch.sin, math.cos(0.3)),
    "exponential": (torch.exp, math.exp(0.3)),
    "cube": (lambda x: x**3, 3 * 0.3**2),
    "logistic": (torch.sigmoid, math.exp(-0.3) / (1 + math.exp(-0.3)) ** 2),
}


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("error", [1e-7, 1e-3, 1.0])
def test_on_smooth_functions_a_wrong_slope_leaves_order_1_and_a_right_one_is_seen(name, error):
    function, slope = SMOOTH[name]
    wrong = judge(at(function), 1.0, slope + error, slope)
    assert wrong.says == "wrong" and wrong.odd == pytest.approx(1, abs=0.1) and wrong.even > 1.5
    assert wrong.left == pytest.approx(-error, rel=0.1)
    right = judge(at(function), 1.0, slope, slope + error)
    assert right.says == "right" and right.odd > 2 and right.even > 1.5


@pytest.mark.parametrize("error", [0.5, -0.5, 3.0])
def test_at_a_kink_the_even_part_has_order_1_whatever_the_slope(error):
    judgement = judge(torch.relu, 1.0, 0.5 + error, 0.5)
    assert judgement.says == "kink" and judgement.even == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("distance", [1e-7, 1e-5, 1e-3])
def test_a_kink_beside_the_point_is_none(distance):
    # Central differences at 6e-6 see the first two, and their slope is wrong; closer steps do not.
    other = (torch.relu(torch.tensor(distance + 6e-6)) - torch.relu(torch.tensor(distance - 6e-6))).item() / 1.2e-5
    assert judge(at(torch.relu, distance), 1.0, 1.0, min(other, 0.999)).says == "right"


def test_what_rounding_covers_at_every_step_is_hidden():
    assert judge(lambda h: 1 + 1e-16 * torch.sin(h), 1.0, 2e-16, 1e-16).says == "hidden"


def test_noise_of_the_function_itself_is_seen_and_hides_what_is_below_it():
    generator = seeded()

    def noisy(h):
        return torch.sin(h) + 1e-6 * torch.randn(h.shape, generator=generator, dtype=torch.float64)

    assert judge(noisy, 1.0, 1 + 1e-5, 1.0).says == "hidden"
    assert judge(noisy, 1.0, 2.0, 1.0).says == "wrong"


@given(st.floats(-2, 2), st.sampled_from([torch.sin, torch.exp, torch.tanh, torch.sigmoid]))
def test_the_derivative_is_within_its_uncertainty_which_is_small(x, function):
    point = torch.tensor(x, requires_grad=True)
    (exact,) = torch.autograd.grad(function(point), point)
    slope, uncertainty, h = derivative(at(function, x), 1.0)
    assert abs(slope - exact.item()) <= 3 * uncertainty
    assert uncertainty < 1e-9 and EPS < h < 0.1
