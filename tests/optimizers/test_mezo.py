"""Descent by two values: the steps of sgd by Gaussian differences, without their memory."""

import pytest
import torch
from helpers import assert_close, labels, normal, same_bits, seeded
from planting import BATCH, OBJECTIVE, PARAMS

import funcnn as fn
from experiments.core.memory import peak


def test_its_steps_are_those_of_differences_along_one_direction():
    differences = fn.forward_gradient(OBJECTIVE, seeded(), by="differences")
    expected = fn.train(differences, fn.sgd(0.05), PARAMS, [BATCH] * 5)
    steps = fn.train(fn.explicit(OBJECTIVE), fn.mezo(seeded(), 0.05), PARAMS, [BATCH] * 5)
    for step, other in zip(steps, expected, strict=True):
        assert_close(step.params, other.params, 1e-9)
        assert_close(step.value, other.value, 1e-8)  # the mean of two values at a distance c


def test_what_is_frozen_does_not_move():
    optimizer = fn.masked(fn.mezo(seeded(), 0.05), (True, (), False))
    *_, last = fn.train(fn.explicit(OBJECTIVE), optimizer, PARAMS, [BATCH] * 3)
    assert same_bits(last.params[2], PARAMS[2]) and not same_bits(last.params[0], PARAMS[0])


def test_it_asks_for_values_alone_and_for_two_a_step():
    asked = []

    def value(params, batch):
        asked.append(fn.tree.clone(params))
        return OBJECTIVE.value(params, batch)

    def never(params, batch):
        raise AssertionError("a gradient was asked for")

    list(fn.train(fn.StepFn(value, never), fn.mezo(seeded(), 0.05, step=0.25), PARAMS, [BATCH] * 3))
    assert len(asked) == 6
    middle = fn.tree.map(lambda up, down: (up + down) / 2, asked[0], asked[1])
    assert_close(middle, PARAMS, 1e-15)


def test_its_loss_falls():
    steps = list(fn.train(fn.explicit(OBJECTIVE), fn.mezo(seeded(), 0.1), PARAMS, [BATCH] * 200))
    assert steps[-1].value < 0.8 * steps[0].value


def test_the_rate_may_follow_the_step():
    (first, second) = fn.train(fn.explicit(OBJECTIVE), fn.mezo(seeded(), lambda k: 0.1 * (k < 1)), PARAMS, [BATCH] * 2)
    assert not same_bits(first.params, PARAMS) and same_bits(second.params, first.params)


def test_it_goes_on_from_a_checkpoint_bit_for_bit(tmp_path):
    def trained(epochs, name):
        generator = seeded()
        how = {"epochs": epochs, "batch_size": 3, "generator": generator, "checkpoint": tmp_path / name}
        return fn.fit(fn.explicit(OBJECTIVE), fn.mezo(generator, 0.05), PARAMS, BATCH, **how, checkpoint_every=1)

    trained(1, "part")
    assert same_bits(trained(3, "part"), trained(3, "whole"))


def test_a_generator_of_its_own_is_refused_with_a_checkpoint(tmp_path):
    how = {"epochs": 1, "batch_size": 3, "generator": seeded(), "checkpoint": tmp_path / "run"}
    for step_fn, optimizer in (
        (fn.explicit(OBJECTIVE), fn.mezo(seeded(), 0.05)),
        (fn.spsa(OBJECTIVE, seeded()), fn.sgd(0.05)),
    ):
        with pytest.raises(fn.InputError, match="a generator of its own, needs the one of fit, whose state a checkpoint"):
            fn.fit(step_fn, optimizer, PARAMS, BATCH, **how)


def test_it_is_not_compiled():
    with pytest.raises(fn.InputError, match="generator: got a draw under torch.func.vmap, or in a step that is traced"):
        list(fn.train(fn.explicit(OBJECTIVE), fn.compiled(fn.mezo(seeded(), 0.1)), PARAMS, [BATCH]))


@pytest.mark.parametrize("count", [8, 2048])
def test_its_memory_is_that_of_a_value_and_of_one_copy_of_the_parameters(count):
    network = fn.mlp([32, 64, 4], fn.tanh)
    objective, params = fn.supervised(network, fn.softmax_cross_entropy()), network.init(seeded(), dtype=torch.float32)
    batch = normal(count, 32, dtype=torch.float32), labels(count, 4)
    at, optimizer = fn.At(fn.explicit(objective), batch), fn.mezo(seeded(), 0.1)
    with torch.no_grad():
        forward = peak(lambda: objective.value(params, batch))
        step = peak(lambda: optimizer.step(at, params, ()))
    copy = sum(leaf.nbytes for leaf in fn.tree.leaves(params))
    assert step <= 1.01 * (forward + copy)
    if count == 2048:
        assert step + copy <= 1.05 * (forward + copy)
