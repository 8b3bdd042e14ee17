from functools import cache
from math import log, sqrt

import pytest

from experiments.core.options import BadOption
from experiments.deep_network import DeepNetwork, run

DEPTH = 5


@cache
def result():
    return run(DeepNetwork(lr=0.1, epochs=2, depth=DEPTH))


def norms(name):
    return [result().numbers[f"{name}, {DEPTH}"][f"layer {index}"][0] for index in range(1, DEPTH + 1)]


def test_dense_relu_dense_learns():
    curves = result().numbers["ReLU, 2"]
    assert curves["loss"][-1] < 0.1 * curves["loss"][0] and curves["accuracy"][-1] > 0.85
    assert f"{curves['loss'][-1]:.3g}" in result().observations[0]


def test_through_sigmoids_the_gradient_vanishes_at_the_rate_of_the_theory():
    # From one hidden layer to the next. The first weight sees other inputs, the last one another width.
    hidden = norms("sigmoid")[1:-1]
    factor = (hidden[0] / hidden[-1]) ** (1 / (len(hidden) - 1))
    assert 0.8 * sqrt(2) / 4 < factor < 1.05 * sqrt(2) / 4


def test_through_relus_it_does_not():
    hidden = norms("ReLU")[1:-1]
    assert 0.8 < (hidden[0] / hidden[-1]) ** (1 / (len(hidden) - 1)) < 1.25
    assert min(norms("ReLU")) > 0.2 * max(norms("ReLU"))


def test_so_deep_sigmoid_networks_do_not_learn_and_deep_relu_networks_do():
    numbers = result().numbers
    assert numbers[f"ReLU, {DEPTH}"]["loss"][-1] < log(10) / 2
    assert abs(numbers[f"sigmoid, {DEPTH}"]["loss"][-1] - log(10)) < 0.05
    assert "with 1, 2, 3, 4, 5 layers" in result().observations[1]


def test_without_hidden_layers_the_two_are_one_network():
    assert result().numbers["ReLU, 1"] == result().numbers["sigmoid, 1"]


def test_divergence_is_told_by_its_step():
    found = run(DeepNetwork(lr=1e200, epochs=1, depth=2, hidden=2))
    assert "diverged at step 1" in found.observations[0]
    assert [row[1:] for row in found.tables[0].rows] == [["diverged at step 1"] * 2] * 4


def test_a_network_without_hidden_layers_is_not_deep():
    with pytest.raises(BadOption, match="depth: got 1, needs at least 2"):
        DeepNetwork(depth=1)
