from collections import Counter
from functools import cache
from math import log

import pytest
import torch

from experiments import __main__ as command_line
from experiments.bigram import Bigram, counted, run

NAMES = ["anna", "ann", "ana", "hanna", "hannah", "nana", "bab", "ab", "ba", "banana", "a", "naab"]


@cache
def result(path):
    return run(Bigram(names=path, steps=30, lr=5.0))


@pytest.fixture
def path(tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "few-names"
    path.write_text("\n".join(NAMES))
    return path


def pairs():
    return Counter(pair for name in NAMES for pair in zip(f".{name}", f"{name}.", strict=True))


def test_the_minimum_is_that_of_counting():
    before, after = zip(*(map(".abhn".index, pair) for pair in pairs().elements()), strict=True)
    shares, minimum = counted(torch.tensor(before), torch.tensor(after), 5)
    rows = {i: sum(n for (a, _), n in pairs().items() if a == i) for i in ".abhn"}
    assert minimum == pytest.approx(-sum(n * log(n / rows[i]) for (i, _), n in pairs().items()) / len(before), abs=1e-14)
    for i, letter in enumerate(".abhn"):
        for j, following in enumerate(".abhn"):
            assert shares[i, j].item() == pytest.approx(pairs()[letter, following] / rows[letter], abs=1e-15)


def test_bfgs_reaches_the_minimum_and_gradient_descent_does_not_in_as_many_gradients(path):
    (spent, quick), (_, slow) = result(path).numbers["above it"].values()
    assert 0 < quick[-1] <= 1e-7 and quick == sorted(quick, reverse=True)
    assert min(gap for gap in slow[: spent[-1]]) > 1e-4


def test_explicit_classic_and_other_providers_walk_the_same_path(path):
    numbers = result(path).numbers
    assert len(numbers["difference from classic"]) == 30 and max(numbers["difference from classic"]) < 1e-13
    assert numbers["providers"]["func_grad"] < 1e-14 and numbers["providers"]["central_difference"] < 1e-8
    assert all(numbers["providers"].values())


def test_the_observations_are_of_the_numbers(path):
    found = result(path)
    assert f"{found.numbers['minimum']:.9f}" in found.observations[0]
    letters = len(set(pairs()))
    assert f"{25 - letters} of them" in found.observations[1]


@pytest.mark.parametrize("flags", [["--lr", "0"], ["--steps", "0"], ["--names", "no-such-file"]])
def test_bad_options_get_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys, flags):
    monkeypatch.chdir(tmp_path)
    assert command_line.main(["bigram", *flags]) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1 and flags[0 if flags[0] != "--names" else 1].strip("-") in complaint
