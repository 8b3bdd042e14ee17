import pytest
import torch
from helpers import assert_close, labels, normal, one_by_one, same_bits, says, seeded

import funcnn as fn

N, D = 6, 4
X, SEEDS = fn.with_seeds(normal(N, D), seeded(3))
NETWORK = fn.serial(
    fn.dense(D, 5), fn.tanh(), fn.dropout(0.4), fn.residual(fn.serial(fn.dropout(0.2), fn.dense(5, 5))), fn.dense(5, 3)
)
REMADE = fn.serial(*NETWORK.forward.layers[:3], fn.rematerialised(NETWORK.forward.layers[3]), NETWORK.forward.layers[4])
OBJECTIVE = fn.supervised(fn.with_dropout(NETWORK), fn.softmax_cross_entropy())
PARAMS, BATCH = NETWORK.init(seeded(), dtype=torch.float64), ((X, SEEDS), labels(N, 3))


def masks(rate, seeds, width):
    """What dropout does to ones."""
    return fn.with_dropout(fn.dropout(rate))((), (torch.ones(len(seeds), width, dtype=torch.float64), seeds))


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_a_share_of_the_entries_is_dropped_and_the_others_make_up_for_it(rate):
    seeds = fn.with_seeds(torch.zeros(400, 1), seeded())[1]
    y = masks(rate, seeds, 500)
    spread = 4 * (rate * (1 - rate) / y.numel()) ** 0.5
    assert abs((y == 0).double().mean() - rate) <= spread
    assert torch.equal(y[y != 0].unique(), torch.tensor([1 / (1 - rate)], dtype=torch.float64))
    for of_each in ((y == 0).double().mean(0), (y == 0).double().mean(1)):  # every unit, every sample
        assert (of_each - rate).abs().max() <= 6 * (rate * (1 - rate) / 400) ** 0.5


def test_masks_of_neighbouring_seeds_units_and_layers_do_not_know_of_one_another():
    y = masks(0.5, torch.arange(500), 400) - 1  # +-1
    assert ((y.mT @ y) / 500 - torch.eye(400)).abs().max() < 6 / 500**0.5
    assert ((y @ y.mT) / 400 - torch.eye(500)).abs().max() < 6 / 400**0.5
    twice = fn.with_dropout(fn.serial(fn.dropout(0.5), fn.dropout(0.5)))
    both = twice(((), ()), (torch.ones(500, 400, dtype=torch.float64), torch.arange(500)))
    assert abs((both != 0).double().mean() - 0.25) < 4 * (0.25 * 0.75 / both.numel()) ** 0.5


def test_the_network_itself_drops_nothing():
    layers = [layer for layer in NETWORK.forward.layers if "dropout" not in repr(layer)]
    x = fn.serial(*layers[:2])(PARAMS[:2], X)
    x = x + fn.dense(5, 5)(PARAMS[3][1], x)
    assert_close(NETWORK(PARAMS, X), fn.dense(5, 3)(PARAMS[4], x), 1e-14)
    assert not torch.equal(fn.with_dropout(NETWORK)(PARAMS, BATCH[0]), NETWORK(PARAMS, X))


@pytest.mark.parametrize("provider", [fn.func_grad, fn.autograd, fn.finite_difference, fn.complex_step])
def test_every_provider_sees_the_masks_of_the_batch(provider):
    value, grads = fn.explicit(OBJECTIVE)(PARAMS, BATCH)
    found = provider(OBJECTIVE)(PARAMS, BATCH)
    assert_close(found, (value, grads), 1e-8 if provider is fn.finite_difference else 1e-13)
    other = (fn.with_seeds(X, seeded(4)), BATCH[1])
    assert fn.explicit(OBJECTIVE)(PARAMS, other)[0] != value


def test_a_sample_has_the_same_mask_alone_as_in_the_batch():
    step_fn = fn.explicit(OBJECTIVE)
    alone = one_by_one(lambda batch: step_fn(PARAMS, batch), BATCH)
    assert_close(fn.per_sample(step_fn)(PARAMS, BATCH), alone, 1e-13)
    assert_close(fn.per_sample(fn.func_grad(OBJECTIVE))(PARAMS, BATCH), alone, 1e-13)


def test_what_runs_forward_again_drops_the_same():
    objective = fn.supervised(fn.with_dropout(REMADE), fn.softmax_cross_entropy())
    assert same_bits(fn.explicit(objective)(PARAMS, BATCH), fn.explicit(OBJECTIVE)(PARAMS, BATCH))


def test_the_check_is_content_and_finds_a_mask_that_backward_forgets():
    assert fn.check(fn.explicit(OBJECTIVE), PARAMS, BATCH)
    network = fn.serial(fn.dense(D, 3), fn.dropout(0.4))
    training, params = fn.with_dropout(network), network.init(seeded(), dtype=torch.float64)
    forgetful = training._replace(backward=lambda residuals, dy: network.backward(network.forward(params, X)[1], dy))
    report = fn.check(fn.explicit(fn.supervised(forgetful, fn.softmax_cross_entropy())), params, BATCH)
    assert not report and report.leaves["params[0]['w']"].verdict == "wrong"


def test_a_compiled_step_drops_the_same():
    batches = [(fn.with_seeds(X, seeded(seed)), BATCH[1]) for seed in range(3)]
    runs = [
        [*fn.train(fn.explicit(OBJECTIVE), optimizer, PARAMS, batches)][-1].params
        for optimizer in (fn.sgd(0.1), fn.compiled(fn.sgd(0.1)))
    ]
    assert_close(*runs, 1e-13)


@pytest.mark.usefixtures("as_users_run_it")
def test_what_cannot_be_dropped_is_refused():
    training = fn.with_dropout(NETWORK)
    for call, message in (
        (lambda: fn.dropout(1.0), ("rate", "1.0", "below 1")),
        (lambda: fn.dropout(-0.1), ("rate", "-0.1", "at least 0")),
        (lambda: fn.with_dropout(fn.tanh()), ("with_dropout(layer)", "tanh()", "dropout(rate)")),
        (lambda: fn.with_dropout(fn.tanh), ("with_dropout(layer)", "function", "a Layer")),
        (lambda: training(PARAMS, X), ("inputs of with_dropout", "(6, 4)", "(x, seeds)")),
        (lambda: training(PARAMS, (None, SEEDS)), ("inputs of with_dropout[0]", "None", "a dense tensor")),
        (lambda: training(PARAMS, (X, SEEDS[:2])), ("inputs of with_dropout[1]", "(2,)", "(6,)")),
        (lambda: training(PARAMS, (X, SEEDS.double())), ("inputs of with_dropout[1]", "float64", "int64")),
        (lambda: fn.with_seeds(X, 3), ("generator", "3", "Generator")),
        (lambda: fn.with_seeds(torch.tensor(1.0), seeded()), ("x", "()", "leading axis")),
    ):
        with pytest.raises(fn.InputError) as caught:
            call()
        assert says(caught.value, *message)
