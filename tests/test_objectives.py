import math

import pytest
import torch
from helpers import assert_close, classifier, labels, normal, says, seeded

import funcnn as fn


def test_a_supervised_objective_is_the_loss_of_the_outputs_of_the_layer_and_its_gradient_their_chain_rule():
    layer, loss, inputs, targets = fn.mlp([3, 4, 2]), fn.softmax_cross_entropy(), normal(6, 3), labels(6, 2)
    params = layer.init(seeded())
    outputs, residuals = layer.forward(params, inputs)
    expected, kept = loss.forward(outputs, targets)
    objective = fn.supervised(layer, loss)
    assert torch.equal(objective.value(params, (inputs, targets)), expected)
    value, grads = objective.value_and_grad(params, (inputs, targets))
    assert torch.equal(value, expected)
    assert_close(grads, layer.backward(residuals, loss.backward(kept))[0], 0.0)


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
    "booleans": ([[0.9], [0.2], [0.6]], torch.tensor([True, True, True]), 2 / 3),
    "logits of tokens": ([[[2.0, 1.0], [0.0, 1.0]], [[3.0, 4.0], [1.0, 0.0]]], torch.tensor([[0, 1], [0, 0]]), 0.75),
    "one probability a token": ([[[0.9], [0.2]], [[0.6], [0.1]]], torch.tensor([[1, 0], [0, 0]]), 0.75),
    "infinite logits": ([[math.inf, 1.0], [0.0, -math.inf]], torch.tensor([0, 1]), 0.5),
}


def identity(width):
    """A layer whose outputs are its inputs, and its parameters."""
    return fn.Layer(lambda generator, **where: (), lambda params, x: (x, ()), lambda residuals, dy: ((), dy)), ()


@pytest.mark.parametrize("name", PREDICTIONS)
def test_accuracy_is_the_share_of_right_answers(name):
    outputs, targets, expected = PREDICTIONS[name]
    share = fn.accuracy(*identity(len(outputs[0])), (torch.tensor(outputs), targets))
    assert share.shape == () and torch.isclose(share, torch.tensor(expected))


ONE, THREE = torch.full((5, 1), 0.7), normal(5, 3)
NAN = torch.where(torch.arange(5)[:, None] == 3, math.nan, THREE)
LABELS = torch.tensor([0, 1, 2, 0, 1])

# name: (outputs, targets, the place, what was found, what is needed)
NOT_COUNTED = {
    "fewer targets": (ONE, torch.ones(1), "batch[1]", "(1,)", "5 samples"),
    "more targets": (THREE, torch.ones(6, dtype=torch.int64), "batch[1]", "(6,)", "5 samples"),
    "two targets a sample": (ONE, torch.ones(5, 2), "targets", "(5, 2)", "(5,)"),
    "labels of a floating dtype": (THREE, torch.ones(5), "targets", "float", "int64"),
    "labels in a column": (THREE, LABELS[:, None], "targets", "(5, 1)", "(5,)"),
    "outputs that are no numbers": (NAN, LABELS, "outputs", "NaN", "numbers"),
    "a probability that is no number": (ONE.sqrt().neg().sqrt(), torch.ones(5), "outputs", "NaN", "numbers"),
    "targets -1 and +1": (ONE, torch.tensor([-1.0, 1, 1, -1, 1]), "targets", "", "0 or 1"),
    "a target of NaN": (ONE, torch.tensor([math.nan, 1, 1, 0, 1]), "targets", "", "0 or 1"),
    "a label too large": (THREE, LABELS + 1, "targets", "the label 3", "0 to 2"),
    "a negative label": (THREE, LABELS - 1, "targets", "the label -1", "0 to 2"),
    "outputs of one axis": (torch.ones(5), torch.ones(5), "outputs", "(5,)", "(N, ..., C)"),
    "no outputs": (torch.ones(5, 0), LABELS, "outputs", "(5, 0)", "(N, ..., C)"),
    "a label for a text of two tokens": (normal(5, 2, 3), LABELS, "targets", "(5,)", "(5, 2)"),
    "a token's label too large": (normal(5, 2, 3), LABELS[:, None] + torch.arange(2), "targets", "the label 3", "0 to 2"),
    "no samples": (THREE[:0], LABELS[:0], "batch[0]", "(0, 3)", "at least one sample"),
    "no targets": (THREE, None, "batch[1]", "None", "a tensor"),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("name", NOT_COUNTED)
def test_accuracy_counts_only_what_can_be_compared(name):
    outputs, targets, *message = NOT_COUNTED[name]
    with pytest.raises(fn.InputError) as caught:
        fn.accuracy(*identity(3), (outputs, targets))
    assert says(caught.value, *message)


@pytest.mark.parametrize(
    "call",
    [
        lambda: fn.supervised(fn.mlp([4, 3]), fn.softmax_cross_entropy),
        lambda: fn.supervised(fn.softmax_cross_entropy(), fn.mlp([4, 3])),
        lambda: fn.serial(fn.dense(4, 3), fn.relu),
        lambda: fn.serial([fn.relu()]),
        lambda: fn.serial(),
        lambda: fn.mlp([4, 3, 2], activation=fn.relu()),
        lambda: fn.mlp([4, 3, 2], activation=torch.relu),
        lambda: fn.mlp([4, 3], activation=torch.nn.ReLU),
        lambda: fn.mlp([4, 3, 2], activation=None),
        lambda: fn.autoencoder([4, 3], activation=torch.tanh),
        lambda: fn.mlp("43"),
        lambda: fn.mlp([4]),
        lambda: fn.explicit(lambda params, batch: params),
        lambda: fn.func_grad(lambda params, batch: params),
        lambda: fn.per_sample(3),
        lambda: fn.per_sample_norms(None),
        lambda: fn.per_sample(fn.supervised(fn.mlp([4, 3]), fn.softmax_cross_entropy())),
    ],
)
def test_a_forgotten_or_a_needless_pair_of_parentheses_is_named(as_users_run_it, call):
    with pytest.raises(fn.InputError, match="needs (an? |at least|one of)"):
        call()
