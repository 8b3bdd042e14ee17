import json

import pytest
import torch
from helpers import labels, seeded

import funcnn as fn
from experiments import __main__ as command_line
from experiments.addition.sums import ANSWER, LENGTH, answers, every_sum, exercises, last, numbers_of, of_answers

LAYER = fn.serial(fn.transformer(10, LENGTH, 8, 2, 1), last(ANSWER))
PARAMS = LAYER.init(seeded(), dtype=torch.float64)


@pytest.mark.parametrize(("reverse", "digits"), [(False, [8, 5, 5, 0, 1, 3, 5]), (True, [8, 5, 5, 0, 5, 3, 1])])
def test_every_sum_is_there_once_and_right(reverse, digits):
    sums = every_sum(reverse)
    assert sums[8550].tolist() == digits
    found = numbers_of(sums, reverse)
    assert len({*found}) == 10_000 and all(answer == a + b for a, b, answer in found)


def test_the_last_places_are_all_that_is_claimed_of_them():
    x = torch.randn(5, 6, 3, generator=seeded(), dtype=torch.float64)
    assert torch.equal(last(2)((), x), x[:, 4:]) and fn.laws(last(2), (), x)


def test_the_loss_is_that_of_the_answer_alone():
    x, t = exercises(every_sum(True)[4000:4005])
    assert x.shape == (5, LENGTH) and t.shape == (5, ANSWER)
    value, grads = fn.explicit(fn.supervised(LAYER, fn.softmax_cross_entropy()))(PARAMS, (x, t))
    logits = fn.transformer(10, LENGTH, 8, 2, 1)(PARAMS[0], x)
    ignoring = torch.cat([torch.full((5, LENGTH - ANSWER), -100), t], 1)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ignoring.flatten())
    assert value == pytest.approx(expected.item()) == pytest.approx(of_answers(logits, t).item())
    assert fn.check(fn.explicit(fn.supervised(LAYER, fn.softmax_cross_entropy())), PARAMS, (x, t))
    assert fn.tree.dot(grads, grads) > 0


def test_each_digit_is_said_after_those_before_it():
    following = LAYER._replace(forward=lambda params, x: (torch.nn.functional.one_hot((x + 1) % 10, 10).double(), ()))
    given = labels(14, 10).reshape(2, 7)
    assert torch.equal(answers(following, (), given), (given[:, 3:4] + torch.arange(1, 4)) % 10)


def test_it_trains_and_says_how_many_are_right(tmp_path):
    flags = ["--steps", "3", "--batch-size", "8", "--features", "8", "--heads", "2", "--depth", "1", "--compared", "2"]
    assert command_line.main(["addition", "--output", str(tmp_path), *flags]) == 0
    numbers = json.loads((tmp_path / "addition" / "result.json").read_text())["numbers"]
    assert [steps for steps, _ in numbers["right after steps"]] == [0, 1, 2, 3]
    assert len(numbers["mistakes"]) == 1000 - numbers["right after steps"][-1][1]
    assert all(answer != a + b for a, b, answer in numbers["mistakes"])
    assert max(numbers["largest difference per step"]) < 1e-8
    assert max(numbers["largest difference of providers"].values()) < 1e-8


def test_heads_that_do_not_divide_the_features_are_refused(capsys):
    assert command_line.main(["addition", "--heads", "3"]) == 2
    assert "needs a divisor of the features" in capsys.readouterr().err
