"""A run ends at the first number that is not finite, with the last finite parameters, and says where it was."""

import math

import pytest
import torch
from helpers import normal, same_bits, seeded

import funcnn as fn

pytestmark = pytest.mark.usefixtures("as_users_run_it")

PARAMS = {"a": torch.ones(2, dtype=torch.float64), "b": torch.ones(3, dtype=torch.float64)}
DATA = torch.arange(12, dtype=torch.float64)[:, None]


def going_wrong(at, value=1.0, a=0.0, b=0.0):
    """A step function whose value and gradient are these from that sample on, in data that come in their order."""

    def step_fn(params, batch):
        wrong = batch.max() >= at
        grads = {"a": torch.full((2,), a if wrong else 0.1), "b": torch.full((3,), b if wrong else 0.1)}
        return torch.tensor(value if wrong else 1.0), grads

    return step_fn


def fitted(step_fn, optimizer=None, data=DATA, **options):
    """Batches of three in an order of the generator's."""
    options = {"epochs": 2, "batch_size": 3, "generator": seeded(), **options}
    return fn.fit(step_fn, optimizer or fn.adam(0.1), PARAMS, data, **options)


# name: (what goes wrong in the batch with the last sample, the optimizer, the place)
WRONG = {
    "a gradient": (going_wrong(11, b=math.nan), fn.adam(0.1), "grads['b']"),
    "an infinite gradient": (going_wrong(11, a=-math.inf), fn.sgd(0.1), "grads['a']"),
    "all of it": (going_wrong(11, math.nan, math.nan, math.nan), fn.momentum(0.1), "grads['a']"),
    "the value alone": (going_wrong(11, math.inf), fn.sgd(0.1), "value"),
    "a step out of range": (going_wrong(11, a=1e200), fn.sgd(1e200), "params['a']"),
    "a square out of range": (going_wrong(11, b=1e200), fn.rmsprop(0.1), "state['b']"),
}


@pytest.mark.parametrize("name", WRONG)
def test_it_ends_at_the_first_and_keeps_what_was_finite(name):
    step_fn, optimizer, place = WRONG[name]
    order = torch.cat(list(fn.minibatches(DATA, 3, generator=seeded())))
    number = int((order[:, 0] == 11).nonzero()[0]) // 3
    assert 0 < number < 4
    with pytest.warns(RuntimeWarning, match=f"step {number}, counted from 0: .* is not finite"):
        result = fitted(step_fn, optimizer)
    divergence = result.history.divergence
    assert divergence[:2] == (number, place) and len(result.history.losses) == number and result.history.epoch_ends == []
    *_, before = fn.train(going_wrong(math.inf), optimizer, PARAMS, list(order.split(3))[:number])
    assert same_bits((result.params, result.state), tuple(before[:2]))


def test_train_yields_as_ever():
    steps = list(fn.train(going_wrong(0, b=math.nan), fn.sgd(0.1), PARAMS, [DATA] * 3))
    assert len(steps) == 3 and steps[-1].params["b"].isnan().all()


def test_data_that_are_not_finite_are_named():
    with pytest.warns(RuntimeWarning, match="batch is not finite"):
        result = fn.fit(
            lambda w, x: ((w - x).square().mean(), 2 * (w - x).mean(0)),
            fn.sgd(0.1),
            torch.zeros(1),
            DATA.masked_fill(DATA == 5, math.nan),
            epochs=1,
            batch_size=12,
            generator=seeded(),
        )
    assert result.history.divergence.place == "batch" and torch.equal(result.params, torch.zeros(1))


def test_large_numbers_whose_sum_is_not_finite_are_finite():
    large = fn.Optimizer(lambda p: (), lambda at, p, s: fn.Step({"a": torch.full((2,), 1e308), "b": p["b"]}, s, at(p)[0]))
    assert fitted(going_wrong(math.inf), large).history.divergence is None


def test_a_state_that_never_was_finite_ends_nothing():
    unbounded = fn.Optimizer(lambda p: torch.tensor(math.inf), lambda at, p, s: fn.Step(p, s, at(p)[0]))
    assert fitted(going_wrong(math.inf), unbounded).history.divergence is None


def test_what_diverged_is_kept_in_the_checkpoint_and_returned_again(tmp_path):
    results = []
    for _ in range(2):
        with pytest.warns(RuntimeWarning, match="is not finite"):
            results.append(fitted(going_wrong(11, b=math.nan), checkpoint=tmp_path / "run"))
    assert same_bits(*(result[:2] for result in results))
    assert results[1].history.divergence == fn.load(tmp_path / "run")["trained"].history.divergence
    assert math.isfinite(results[0].history.divergence.value)


def test_a_history_of_no_step_can_be_drawn(tmp_path):
    with pytest.warns(RuntimeWarning, match="step 0"):
        history = fitted(going_wrong(0, b=math.nan)).history
    history.plot().savefig(tmp_path / "history.png")
    assert len(history.losses) == 0


def test_a_real_run_that_diverges_is_told_by_its_gradient():
    network = fn.mlp([3, 8, 2], fn.relu)
    objective = fn.supervised(network, fn.half_squared_error())
    params = network.init(seeded(), dtype=torch.float32)
    data = normal(16, 3, dtype=torch.float32), normal(16, 2, dtype=torch.float32)
    with pytest.warns(RuntimeWarning, match="is not finite"):
        result = fn.fit(fn.explicit(objective), fn.sgd(1e3), params, data, epochs=50, batch_size=8, generator=seeded())
    assert all(torch.isfinite(leaf).all() for leaf in fn.tree.leaves(result.params))
    assert torch.isfinite(result.history.losses).all() and len(result.history.losses) < 100
