"""A cause is told where the same mistake makes the numbers at other points, too."""

import re

import pytest
import torch
from helpers import normal

import funcnn as fn

X = normal(6, 5)


def clamp_rule(x, u, bound=0.5):
    return u * (x.abs() <= bound)


def opposite(x, u):
    return -u * (x > 0)


def entry(x, u):
    g = u * x.cos()
    g[2, 1] = 0
    return g


def lasting(x, u):
    g = u * x.cos()
    g[:, -2:] = 0
    return g


HIDDEN = X.clamp(-0.4, 0.4)
HIDDEN[1, 2] = 0.8
CASES = {  # forward, rule, inputs, the cause and a word of the sentence
    "one entry beyond the bound": (lambda x: x.clamp(-1, 1), clamp_rule, HIDDEN, "branch", "> "),
    "an entry, everywhere": (torch.sin, entry, X, "single entry", r"\[2, 1\]"),
    "a border, everywhere": (torch.sin, lasting, X, "slab", "last 2"),
    "a sign, and zeros at which there is no derivative": (torch.relu, opposite, X.round(), "sign", "with other inputs"),
    "the identity, of a sum": (lambda x: x.cumsum(1), lambda x, u: u.clone(), X, "path", "terms"),
    "the identity": (torch.sin, lambda x, u: u.clone(), X, "activation derivative", "missing"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_told_holds_elsewhere(name):
    forward, rule, x, cause, word = CASES[name]
    report = fn.check_vjp(lambda x: (forward(x), (x,)), (x,), backward=lambda residuals, u: rule(*residuals, u))
    finding = report.leaves["inputs[0]"]
    assert finding.verdict == "wrong" and finding.cause == cause, str(report)
    assert re.search(word, finding.diagnosis), finding.diagnosis
