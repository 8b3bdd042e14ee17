"""How many digits a value has left, and what becomes of a gradient where it has few, or where steps meet kinks and waves."""

import pytest
import torch
from helpers import seeded

import funcnn as fn
from funcnn.checking.digits import LEFT_OUT, Shortened, rounding

D = torch.float64
LOST = {  # values, a place, and the rounding of the value there: what is to be found, but for a factor of 10
    "log of 1 - s": (lambda x: torch.log(1 - torch.sigmoid(x)), 25.0, 2.0**-53 / 1.4e-11),
    "wave": (lambda x: torch.sin(1e10 * x), 0.3, 1e10 * 0.3 * 2.0**-53),
    "difference": (lambda x: (1e6 + x) ** 2 - 1e12, 0.3, 1e12 * 2.0**-53),
}


@pytest.mark.parametrize("name", LOST)
def test_the_rounding_of_a_value_is_seen_from_shorter_numbers(name):
    values, x, expected = LOST[name]
    x = x + torch.linspace(0, 1e-3, 20, dtype=D)
    found = rounding(values, x, values(x)).median().item()
    assert expected / 10 < found < expected * 10


EXACT = {
    "masks, ties and copies": lambda x: (x.clone() == x.amax()).double(),
    "whole numbers": lambda x: (3 * torch.ones_like(x)).long().double() + x.argmax(),
    "moved": lambda x: torch.cat([x, x]).flip(0).relu().sign(),
    "stairs": lambda x: torch.round(x, decimals=2),
}


@pytest.mark.parametrize("name", EXACT)
def test_what_is_whole_moved_or_compared_is_not_rounded(name):
    x = torch.tensor([0.1234, -0.4321, 0.7777], dtype=D)
    assert not rounding(EXACT[name], x, EXACT[name](x)).any()


@pytest.mark.parametrize("bits", LEFT_OUT)
def test_nothing_outside_is_touched_not_even_where_the_function_writes(bits):
    x, kept = torch.rand(3, dtype=D, generator=seeded()), torch.rand(3, dtype=D, generator=seeded(1))
    before, after = x.clone(), kept.clone()
    with Shortened(bits):
        y = torch.zeros_like(x).add_(kept).mul_(x.view(3))
    assert torch.equal(x, before) and torch.equal(kept, after)
    assert (y - x * kept).abs().max() < 2.0 ** (bits - 50)


def confident(logit, seed):
    """A logistic regression, its parameters and a batch with one logit that is certain of the wrong class."""
    generator = seeded(seed)
    net = fn.serial(fn.dense(3, 1), fn.sigmoid())
    params = net.init(generator, dtype=D)
    x, t = torch.randn(8, 3, generator=generator, dtype=D), (torch.rand(8, 1, generator=generator) > 0.5).to(D)
    w = params[0]["w"][:, 0]
    x[0], t[0] = logit * w / w.square().sum(), 0.0
    return fn.explicit(fn.supervised(net, fn.binary_cross_entropy())), params, (x, t)


def tiny(scale, seed):
    """A network of ReLUs whose weights are so small that kinks are closer than any step."""
    generator = seeded(seed)
    net = fn.mlp([4, 6, 5, 3], fn.relu)
    params = fn.tree.map(lambda w: w * scale, net.init(generator, dtype=D))
    batch = torch.randn(8, 4, generator=generator, dtype=D), torch.randint(3, (8,), generator=generator)
    return fn.explicit(fn.supervised(net, fn.softmax_cross_entropy())), params, batch


def of(f, g, x):
    """A function of one leaf with a gradient."""
    return fn.explicit(fn.Objective(lambda w, b: f(w), lambda w, b: (f(w), g(w)))), x, ()


RIGHT = {
    **{f"a logit of {logit}": confident(logit, seed) for seed, logit in enumerate((25.2, 28.2, 31.8, 35.4))},
    **{f"weights of {scale}": tiny(scale, seed) for seed, scale in enumerate((1e-3, 1e-8, 1e-10))},
    "a wave": of(
        lambda w: torch.sin(1e10 * w).sum(), lambda w: 1e10 * torch.cos(1e10 * w), torch.rand(3, dtype=D, generator=seeded())
    ),
    "kinks at every 1e-9": of(
        lambda w: ((1e9 * w).frac() - 0.5).abs().sum(),
        lambda w: 1e9 * ((1e9 * w).frac() - 0.5).sign(),
        torch.tensor([0.3123456789123, 0.7123456789321], dtype=D),
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_where_digits_are_lost_or_kinks_are_close_a_right_gradient_is_right(name):
    report = fn.check(*RIGHT[name])
    assert {finding.verdict for finding in report.leaves.values()} == {"ok"}, report


WRONG = {
    "half of it, in a wave": of(
        lambda w: torch.sin(1e10 * w).sum(), lambda w: 5e9 * torch.cos(1e10 * w), torch.rand(3, dtype=D, generator=seeded())
    ),
    "0 beside a large value": of(lambda w: 1e11 + w.sum(), torch.zeros_like, torch.rand(1, dtype=D, generator=seeded())),
    "twice it, in a steep place": of(
        lambda w: torch.tanh(1e4 * w[0] * w[1]),
        lambda w: 2e4 * (1 - torch.tanh(1e4 * w[0] * w[1]) ** 2) * w.flip(0),
        torch.tensor([0.0, 0.5], dtype=D),
    ),
    "a path that is cut": of(
        lambda w: (w * w.detach()).sum(), lambda w: w.clone(), torch.rand(3, dtype=D, generator=seeded())
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_there_is_not_excused(name):
    assert {finding.verdict for finding in fn.check(*WRONG[name]).leaves.values()} == {"wrong"}


def test_0_is_not_right_where_small_steps_move_nothing():
    x = torch.tensor([30.0], dtype=D)
    assert not fn.check(*of(lambda w: -torch.log1p(-torch.sigmoid(w)).sum(), torch.zeros_like, x))


def test_on_a_staircase_the_gradient_is_0():
    x = torch.tensor([0.1234, -0.4321], dtype=D)
    assert fn.check(*of(lambda w: torch.round(w, decimals=3).sum(), torch.zeros_like, x)).leaves["params"].verdict == "ok"


def test_a_gradient_that_is_nothing_but_rounding_is_right_for_every_cotangent():
    x, w = torch.rand(5, 1, dtype=D, generator=seeded()), torch.rand(1, dtype=D, generator=seeded(1))
    report = fn.check_vjp(lambda x, w: torch.nn.functional.layer_norm(x, (1,), w), (x, w))
    assert report, report
