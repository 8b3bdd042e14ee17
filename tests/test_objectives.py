import pytest
import torch
from helpers import assert_close, classifier, labels, normal, seeded

import funcnn as fn


def test_a_supervised_objective_is_the_loss_of_the_outputs_of_the_layer():
    layer, loss, inputs, targets = fn.mlp([3, 4, 2]), fn.softmax_cross_entropy(), normal(6, 3), labels(6, 2)
    params = layer.init(seeded())
    expected = loss.forward(fn.apply(layer, params, inputs), targets)[0]
    objective = fn.supervised(layer, loss)
    assert torch.equal(objective.value(params, (inputs, targets)), expected)
    assert torch.equal(objective.value_and_grad(params, (inputs, targets))[0], expected)


def test_its_gradient_is_the_chain_rule_of_loss_and_layer():
    layer, loss, inputs, targets = fn.mlp([3, 4, 2]), fn.softmax_cross_entropy(), normal(6, 3), labels(6, 2)
    params = layer.init(seeded())
    outputs, residuals = layer.forward(params, inputs)
    expected = layer.backward(residuals, loss.backward(loss.forward(outputs, targets)[1]))[0]
    assert_close(fn.supervised(layer, loss).value_and_grad(params, (inputs, targets))[1], expected, 0.0)


def test_a_batch_may_be_a_list():
    objective, params, batch = classifier()
    assert torch.equal(objective.value(params, list(batch)), objective.value(params, batch))


def test_a_clipped_loss_changes_the_explicit_gradient_only():
    layer, batch = fn.mlp([3, 2]), (normal(6, 3), labels(6, 2))
    params = layer.init(seeded())
    clipped, plain = (fn.supervised(layer, fn.softmax_cross_entropy(clip=clip)) for clip in (0.01, None))
    assert_close(fn.func_grad(clipped)(params, batch)[1], fn.explicit(plain)(params, batch)[1], 1e-14)
    assert fn.tree.max_difference(fn.explicit(clipped)(params, batch)[1], fn.explicit(plain)(params, batch)[1]) > 1e-3


# name: (outputs, targets, the share that is right)
PREDICTIONS = {
    "logits": ([[2.0, 1.0], [0.0, 1.0], [3.0, 4.0], [1.0, 0.0]], torch.tensor([0, 1, 0, 0]), 0.75),
    "one probability, targets (N, 1)": ([[0.9], [0.2], [0.6]], torch.tensor([[1.0], [0.0], [0.0]]), 2 / 3),
    "one probability, targets (N,)": ([[0.9], [0.2], [0.6]], torch.tensor([1, 0, 1]), 1.0),
}


@pytest.mark.parametrize("name", PREDICTIONS)
def test_accuracy_is_the_share_of_right_answers(name):
    outputs, targets, expected = PREDICTIONS[name]
    layer = fn.dense(len(outputs[0]), len(outputs[0]), bias=False)
    identity = {"w": torch.eye(len(outputs[0]))}
    share = fn.accuracy(layer, identity, (torch.tensor(outputs), targets))
    assert share.shape == () and torch.isclose(share, torch.tensor(expected))


LAYER = fn.perceptron(4)


@pytest.mark.parametrize(
    ("layer", "targets", "place"),
    [
        (LAYER, torch.ones(1), "batch"),
        (LAYER, torch.ones(5, 2), "targets"),
        (fn.mlp([4, 3]), torch.ones(5), "targets"),
        (fn.mlp([4, 3]), torch.ones(5, 1, dtype=torch.int64), "targets"),
        (fn.mlp([4, 3]), torch.ones(4, dtype=torch.int64), "batch"),
    ],
)
def test_accuracy_counts_only_what_can_be_compared(layer, targets, place):
    with pytest.raises(fn.InputError, match=place):
        fn.accuracy(layer, layer.init(seeded()), (normal(5, 4), targets))


@pytest.mark.parametrize(
    "call",
    [
        lambda: fn.supervised(fn.mlp([4, 3]), fn.softmax_cross_entropy),
        lambda: fn.supervised(fn.softmax_cross_entropy(), fn.mlp([4, 3])),
        lambda: fn.serial(fn.dense(4, 3), fn.relu),
        lambda: fn.serial([fn.relu()]),
        lambda: fn.mlp([4, 3, 2], activation=fn.relu()),
        lambda: fn.explicit(lambda params, batch: params),
        lambda: fn.func_grad(lambda params, batch: params),
        lambda: fn.per_sample(3),
        lambda: fn.per_sample_norms(None),
    ],
)
def test_a_forgotten_or_a_needless_pair_of_parentheses_is_named(as_users_run_it, call):
    with pytest.raises(fn.InputError, match="needs an? "):
        call()
