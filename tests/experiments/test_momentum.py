from functools import cache

import pytest
import torch

import funcnn as fn
from experiments.momentum import Momentum, run

# Lessard, Recht & Packard 2016, as in the references of the project
PUBLISHED = {
    ("plain", 10): 0.81818,
    ("momentum", 10): 0.51949,
    ("Nesterov", 10): 0.68377,
    ("plain", 100): 0.98020,
    ("momentum", 100): 0.81818,
    ("Nesterov", 100): 0.90000,
    ("plain", 1000): 0.99800,
    ("momentum", 1000): 0.93869,
    ("Nesterov", 1000): 0.96838,
}


@cache
def result():
    return run(Momentum(epochs=2, batch_size=128, hidden=8, steps=500))


@pytest.mark.parametrize("case", PUBLISHED)
def test_the_measured_rate_is_the_published_one_to_three_digits(case):
    (found,) = (row for row in result().numbers["rates"] if tuple(row[:2]) == case)
    _, _, exact, measured = found
    assert abs(exact - PUBLISHED[case]) < 5e-6
    assert abs(measured - exact) < 5e-4


def test_the_table_shows_measured_beside_exact():
    table = result().tables[1]
    assert table.columns == ["method", "condition number", "exact", "measured"] and len(table.rows) == len(PUBLISHED)
    for name, k, exact, measured in table.rows:
        assert exact == f"{PUBLISHED[name, k]:.5f}" and abs(float(measured) - float(exact)) < 5e-4


def test_momentum_helps_on_the_network():
    ends = {name: curves["loss"][-1] for name, curves in result().numbers["network"].items()}
    assert ends.keys() == {"plain", "momentum", "Nesterov", "RMSProp", "Adam"}
    assert max(ends, key=ends.get) == "plain"
    assert all(0.1 < curves["loss"][-1] < curves["loss"][0] for curves in result().numbers["network"].values())


def test_adam_does_not_see_the_condition_number():
    paths = [torch.tensor(distances["Adam"][:100]) for distances in result().numbers["distances"].values()]
    assert torch.allclose(paths[0], paths[1], rtol=1e-3) and torch.allclose(paths[0], paths[2], rtol=1e-3)


def test_the_networks_gradient_is_that_of_torch_autograd_grad(monkeypatch):
    calls, grad = [], torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *args, **kw: calls.append(1) or grad(*args, **kw))
    run(Momentum(epochs=1, batch_size=500, hidden=2, steps=2))
    assert len(calls) == 5 * 3  # optimizers, batches


def test_divergence_is_told_by_its_step():
    found = run(Momentum(lr=1e200, epochs=1, hidden=2, steps=20))
    assert "diverged at step 1 (plain)" in found.observations[0]


def test_a_momentum_of_one_is_refused():
    with pytest.raises(fn.InputError, match="beta"):
        run(Momentum(beta=1.0))
