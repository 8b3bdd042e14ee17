from functools import cache

import pytest
import torch

import funcnn as fn
from experiments import __main__ as command_line
from experiments.names import Names, drawn, drawn_batches, network, run, write

LEAVES = {(0, "w"): 270, (2, "b"): 200, (2, "w"): 6000, (3, "b"): 200, (3, "w"): 200, (5, "b"): 27, (5, "w"): 5400}


@cache
def result():
    return run(Names(steps=60, compared=20))


def test_the_network_is_the_published_one():
    gradients = result().numbers["gradients"]
    assert {name: number for name, (number, _, _) in gradients.items()} == {
        f"params[{i}]['{key}']": number for (i, key), number in LEAVES.items()
    }
    assert "12,297 parameters" in result().about


def test_every_rule_is_classic_pytorchs_and_the_trainings_coincide():
    numbers = result().numbers
    for number, largest, apart in numbers["gradients"].values():
        assert apart <= 1e-14 * max(1, largest) and number
    assert len(numbers["difference from classic"]) == 20 and 0 < max(numbers["difference from classic"]) < 1e-12
    assert 0 < numbers["providers"]["func_grad"] < 1e-13 and numbers["providers"]["central_difference"] < 1e-8


def test_the_loss_falls_on_both_parts_and_is_measured_at_every_mark():
    losses = result().numbers["losses"]
    assert losses["steps"][0] == 0 and 30 in losses["steps"] and losses["steps"][-1] == 60
    for part in ("training", "validation"):
        assert len(losses[part]) == len(losses["steps"]) and losses[part][-1] < losses[part][0] - 0.3
    assert f"{losses['validation'][-1]:.4f}" in result().observations[0]


def test_the_first_half_has_the_rate_and_the_second_a_tenth_of_it():
    generator = torch.Generator().manual_seed(0)
    options = Names(steps=4, compared=2)
    names = options.read()
    train, *_ = (names.contexts(part, 3) for part in names.parts())
    params = drawn(27, generator, options)
    batches = drawn_batches(train, 32, generator)
    step_fn = fn.func_grad(fn.supervised(network(27)[0], fn.softmax_cross_entropy()))
    for lr in (0.1, 0.1, 0.01, 0.01):
        params = fn.tree.map(lambda w, g, lr=lr: w - lr * g, params, step_fn(params, next(batches))[1])
    calibrated = fn.calibrate(network(27)[0], params, train[0])
    loss = fn.supervised(calibrated, fn.softmax_cross_entropy()).value(params, train).item()
    assert run(options).numbers["losses"]["training"][-1] == pytest.approx(loss, abs=1e-10)


def test_what_is_written_follows_the_probabilities_and_ends_at_the_end():
    table = {"\n": "a", "a": "b", "b": "\n"}  # each letter with the one that is sure to follow

    def forward(params, x):
        following = torch.tensor(["\nab".index(table["\nab"[token]]) for token in x[:, -1].tolist()])
        return 1e3 * torch.nn.functional.one_hot(following, 3).double(), ()

    layer = fn.Layer(lambda *_, **__: (), forward, lambda residuals, dy: ((), dy))
    params = {"w": torch.zeros(1)}
    assert write(layer, params, "\nab", torch.Generator().manual_seed(0), 3) == ["ab"] * 3


@pytest.mark.parametrize("flags", [["--steps", "1"], ["--batch-size", "1"], ["--compared", "0"], ["--lr", "-1"]])
def test_bad_options_get_one_line_and_exit_code_2(capsys, flags):
    assert command_line.main(["names", *flags]) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1 and flags[0].strip("-").replace("-", "_") in complaint
