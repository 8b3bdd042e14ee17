from functools import cache

import pytest
import torch
from helpers import EPS, labels, normal, same_bits

import funcnn as fn
from experiments.clipped_loss import ClippedLoss, run
from experiments.clipped_loss.rules import classic_difference, summed, transformed_difference
from experiments.core.options import BadOption
from experiments.core.training import digits_task


@cache
def result():
    return run(ClippedLoss(epochs=3, hidden=8, clips=(0.5, 0.1, 0.02)))


def test_no_entry_exceeds_one_over_n_and_a_clip_at_one_changes_no_bit():
    largest = result().numbers["largest entry"]
    assert all(0.5 / count < entry < 1 / count for count, entry in largest.items())
    assert result().numbers["difference at clip 1"] == 0
    confident = 1e4 * torch.nn.functional.one_hot((labels(6, 3) + 1) % 3, 3).double()  # and wrong: the extreme
    loss = fn.softmax_cross_entropy()
    assert loss.backward(loss.forward(confident, labels(6, 3))[1]).abs().max() == 1 / 6


@pytest.mark.parametrize("clip", [1.0, 0.3, 0.01])
def test_a_limit_on_the_sum_is_a_limit_on_the_mean_divided_by_n(clip):
    z, t = normal(8, 3), labels(8, 3)
    value, residuals = summed(clip).forward(z, t)
    loss = fn.softmax_cross_entropy(clip / 8)
    mean, kept = loss.forward(z, t)
    assert value == 8 * mean
    assert same_bits(summed(clip).backward(residuals), 8 * loss.backward(kept))


def test_the_harder_the_clip_the_more_entries_it_reaches_and_the_slower_the_training():
    curves = result().numbers["mean"]
    names = ["c = 0.5", "c = 0.1", "c = 0.02"]
    shares = [curves[name]["clipped"][0] for name in names]
    ends = [curves[name]["loss"][-1] for name in names]
    assert shares == sorted(shares) and 0.05 < shares[0] < 0.2 and shares[-1] > 0.9
    assert curves["not clipped"]["loss"][-1] < ends[0] and ends == sorted(ends) and ends[-1] > 2 * ends[0]


def test_the_sum_trains_as_the_mean_but_for_the_short_batches():
    for clip, curves in result().numbers["sum"].items():
        assert curves["loss"][-1] == pytest.approx(result().numbers["mean"][f"c = {clip:g}"]["loss"][-1], rel=0.05)


def test_the_classic_loop_and_vmap_of_grad_follow_the_clipped_rule():
    task = digits_task(ClippedLoss(hidden=4, batch_size=200), 4)
    assert classic_difference(task, 1e-4) < 100 * EPS and transformed_difference(task, 1e-2) < 10 * EPS
    assert result().numbers["classic loop"] < 100 * EPS and result().numbers["vmap(grad)"] < 10 * EPS


def test_they_would_notice_a_rule_that_does_not_clip(monkeypatch):
    task, real = digits_task(ClippedLoss(hidden=4, batch_size=200), 4), fn.torch_function
    monkeypatch.setattr(fn, "torch_function", lambda loss: real(fn.softmax_cross_entropy()))
    assert classic_difference(task, 1e-4) > 1e-3 and transformed_difference(task, 1e-2) > 0.1


@pytest.mark.parametrize("clip", [0.0, -0.1, float("nan")])
def test_a_threshold_that_is_not_positive_is_refused(clip):
    with pytest.raises(BadOption, match="clips: got .*, needs a positive number"):
        ClippedLoss(clips=(0.5, clip))
