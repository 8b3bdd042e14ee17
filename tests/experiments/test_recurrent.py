from functools import cache

import pytest
import torch

import funcnn as fn
from experiments import __main__ as command_line
from experiments.recurrent import Recurrent, distance, networks, run

DOUBLE = {"dtype": torch.float64}


def generator():
    return torch.Generator().manual_seed(0)


@cache
def result():
    return run(Recurrent(steps=6, compared=3, length=8, batch_size=2, distance=5))


def reader(kind):
    if kind == "rnn":
        return distance.simple(0.8, 5, 7, generator(), DOUBLE)
    layers = fn.embedding(5, 3), fn.lstm(3, 7), fn.dense(7, 5)
    return distance.Reader("lstm", *fn.serial(*layers).init(generator(), **DOUBLE))


def test_both_networks_have_about_as_many_parameters():
    counts = [sum(leaf.numel() for leaf in fn.tree.leaves(pair[0].init(generator()))) for pair in networks(103, 64).values()]
    assert max(counts) <= 1.02 * min(counts)


@pytest.mark.parametrize("network", ["lstm", "transformer"])
def test_explicit_classic_and_other_providers_walk_the_same_path(network):
    numbers = result().numbers["training"][network]
    assert len(numbers["losses"]) == 6 and len(numbers["differences"]) == 3
    assert numbers["losses"][-1] < numbers["losses"][0] and numbers["validation"][-1] < numbers["validation"][0]
    assert 0 < max(numbers["differences"]) < 1e-11 and all(0 <= apart < 1e-11 for apart in numbers["providers"].values())


@pytest.mark.parametrize("kind", ["rnn", "lstm"])
def test_gradients_through_time_are_those_of_autograd(kind):
    x = torch.randint(5, (4, 9), generator=generator())
    ours, theirs = (way(reader(kind), x, x.flip(0)) for way in (distance.through_time, distance.through_time_by_autograd))
    assert ours.shape == (4, 9, 7) and torch.allclose(ours, theirs, rtol=1e-11, atol=1e-15) and ours.norm(dim=2).min() > 0


@pytest.mark.parametrize("radius", [0.5, 1.0, 1.5])
def test_near_zero_an_orthogonal_matrix_multiplies_by_its_radius(radius):
    still = distance.simple(radius, 5, 7, generator(), DOUBLE)
    still = still._replace(embedding={"w": 1e-9 * still.embedding["w"]})
    x = torch.randint(5, (2, 11), generator=generator())
    shares = distance.against_distance(distance.through_time(still, x, x))
    assert shares == pytest.approx([radius**t for t in range(11)], rel=1e-6)
    assert distance.per_token(shares) == pytest.approx(radius, rel=1e-6)


def test_a_forget_gate_that_stays_open_keeps_the_gradient():
    x = torch.randint(5, (4, 41), generator=generator())
    ends = {
        bias: distance.against_distance(distance.through_time(distance.with_forget_bias(reader("lstm"), bias), x, x))[-1]
        for bias in (-2.0, 0.0, 4.0)
    }
    assert ends[-2.0] < 1e-6 * ends[0.0] < 1e-10 * ends[4.0]


@pytest.mark.parametrize("flags", [["--distance", "1"], ["--steps", "0"], ["--text", "no-such-file"]])
def test_bad_options_get_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys, flags):
    monkeypatch.chdir(tmp_path)
    assert command_line.main(["recurrent", *flags]) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1 and (flags[0].strip("-") in complaint or flags[1] in complaint)
