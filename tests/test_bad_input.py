import math

import pytest
import torch
from helpers import classifier, labels, normal, says, seeded

import funcnn as fn

pytestmark = pytest.mark.usefixtures("as_users_run_it")

MLP, ENTROPY = fn.mlp([4, 3, 2]), fn.softmax_cross_entropy()
X, T = normal(5, 4), labels(5, 2)
BY_HAND = fn.supervised(MLP, ENTROPY)


def changed(path, leaf):
    """The parameters of the mlp with one leaf replaced."""
    first, activation, last = MLP.init(seeded(), dtype=torch.float64)
    index, name = path
    entries = [dict(first), activation, dict(last)]
    entries[index][name] = leaf
    return tuple(entries)


def good():
    return MLP.init(seeded(), dtype=torch.float64)


# name: (parameters, the place, what was found, what is needed)
PARAMS = {
    "w of the first layer transposed": (changed((0, "w"), normal(3, 4)), "params[0]['w']", "(3, 4)", "(4, 3)"),
    "w of the last layer too wide": (changed((2, "w"), normal(3, 5)), "params[2]['w']", "(3, 5)", "(3, 2)"),
    "b that would broadcast": (changed((0, "b"), normal(1)), "params[0]['b']", "(1,)", "(3,)"),
    "b with an axis too many": (changed((2, "b"), normal(1, 2)), "params[2]['b']", "(1, 2)", "(2,)"),
    "an integer leaf": (changed((0, "w"), torch.ones(4, 3, dtype=torch.int64)), "params[0]['w']", "int64", "floating"),
    "a boolean leaf": (changed((2, "b"), torch.ones(2, dtype=torch.bool)), "params[2]['b']", "bool", "floating"),
    "a complex leaf": (changed((2, "w"), normal(3, 2) + 0j), "params[2]['w']", "complex128", "floating"),
    "a None leaf": (changed((0, "b"), None), "params[0]['b']", "None", "floating tensor"),
    "a Python number for a leaf": (changed((0, "b"), 1.0), "params[0]['b']", "1.0", "floating tensor"),
    "an extra leaf": (changed((0, "c"), normal(1)), "params[0]", "'c'", "['b', 'w']"),
    "a layer missing": (good()[:2], "params", "tuple of 2", "tuple of 3"),
    "a list for the tuple": (list(good()), "params", "list", "tuple of 3"),
    "None for a tree": (None, "params", "None", "floating tensor"),
}

# name: (batch, the place, what was found, what is needed)
BATCHES = {
    "inputs too narrow": ((normal(5, 3), T), "inputs of params[0]", "(5, 3)", "(N, 4)"),
    "one sample without its axis": ((normal(4), labels(4, 2)), "inputs of params[0]", "(4,)", "(N, 4)"),
    "inputs of another dtype": ((X.float(), T), "inputs of params[0]", "float32", "float64"),
    "integer inputs": ((X.long(), T), "inputs of params[0]", "int64", "float64"),
    "an empty batch": ((X[:0], T[:0]), "batch[0]", "(0, 4)", "at least one sample"),
    "more targets than inputs": ((X, labels(6, 2)), "batch[1]", "(6,)", "5 samples"),
    "a target without an axis": ((X, torch.tensor(1)), "batch[1]", "()", "leading axis"),
    "no targets": ((X, None), "batch[1]", "None", "tensor"),
    "three parts": ((X, T, T), "batch", "tuple", "pair"),
    "inputs alone": (X, "batch", "(5, 4)", "pair"),
    "a label too large": ((X, torch.tensor([0, 1, 2, 0, 0])), "targets", "2", "0 to 1"),
    "a negative label": ((X, torch.tensor([0, 1, -1, 0, 0])), "targets", "-1", "0 to 1"),
    "labels of a floating dtype": ((X, T.double()), "targets", "float64", "int64"),
    "labels of int32": ((X, T.int()), "targets", "int32", "int64"),
    "one-hot targets": ((X, torch.eye(2)[T]), "targets", "(5, 2)", "(5,)"),
    "labels in a column": ((X, T[:, None]), "targets", "(5, 1)", "(5,)"),
}


@pytest.mark.parametrize("provider", fn.PROVIDERS)
@pytest.mark.parametrize("name", [*PARAMS, *BATCHES])
def test_every_provider_refuses_what_does_not_fit(provider, name):
    params, batch = (PARAMS[name][0], (X, T)) if name in PARAMS else (good(), BATCHES[name][0])
    step_fn = fn.PROVIDERS[provider](BY_HAND)
    for call in (step_fn, step_fn.value):
        with pytest.raises(fn.InputError) as caught:
            call(params, batch)
        assert says(caught.value, *(PARAMS | BATCHES)[name][1:])


@pytest.mark.parametrize("provider", fn.PROVIDERS)
@pytest.mark.parametrize("name", [*PARAMS, *BATCHES])
def test_so_does_training(provider, name):
    params, batch = (PARAMS[name][0], (X, T)) if name in PARAMS else (good(), BATCHES[name][0])
    with pytest.raises(fn.InputError) as caught:
        next(fn.train(fn.PROVIDERS[provider](BY_HAND), fn.sgd(0.1), params, [batch]))
    assert says(caught.value, *(PARAMS | BATCHES)[name][1:])


@pytest.mark.parametrize("name", ["an empty batch", "more targets than inputs", "no targets"])
def test_so_does_per_sample(name):
    batch, *message = BATCHES[name]
    with pytest.raises(fn.InputError) as caught:
        fn.per_sample(fn.func_grad(BY_HAND))(good(), batch)
    assert says(caught.value, *message)


LOSSES = {
    "half squared error": fn.half_squared_error(),
    "mean squared error": fn.mean_squared_error(),
    "binary cross entropy": fn.binary_cross_entropy(),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("shape", [(3,), (1, 1), (3, 2), (1, 3)], ids=str)
def test_targets_that_would_broadcast_are_refused(loss, shape):
    with pytest.raises(fn.InputError) as caught:
        loss.forward(torch.full((3, 1), 0.5), torch.full(shape, 0.5))
    assert says(caught.value, "targets", str(shape), "(3, 1)")


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_targets_of_another_dtype_are_refused(loss, dtype):
    with pytest.raises(fn.InputError) as caught:
        loss.forward(torch.full((3, 1), 0.5), torch.ones(3, 1, dtype=dtype))
    assert says(caught.value, "targets", str(dtype), "torch.float64")


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan, math.inf])
def test_binary_cross_entropy_takes_probabilities_only(bad):
    half, wrong = torch.full((2, 1), 0.5), torch.tensor([[0.5], [bad]])
    for place, outputs, targets in (("outputs", wrong, half), ("targets", half, wrong)):
        with pytest.raises(fn.InputError) as caught:
            fn.binary_cross_entropy().forward(outputs, targets)
        assert says(caught.value, place, "values from", "0 to 1")


@pytest.mark.parametrize("layer", [fn.dense(4, 3), fn.mlp([4, 3]), fn.sigmoid(), fn.relu(), fn.softmax()])
def test_backward_refuses_a_gradient_of_another_shape(layer):
    _, residuals = layer.forward(layer.init(seeded()), torch.ones(2, 4))
    with pytest.raises(fn.InputError) as caught:
        layer.backward(residuals, torch.ones(2, 7))
    assert says(caught.value, "dy", "(2, 7)", "shape")


def square(w, x):
    return (w["w"] * w["w"]).sum()


# name: (a derived gradient, the place, what was found, what is needed)
GRADIENTS = {
    "a row for a column": (lambda w: {"w": 2 * w["w"][None]}, "grads['w']", "(1, 3)", "(3,)"),
    "one that would broadcast": (lambda w: {"w": 2 * w["w"][:1]}, "grads['w']", "(1,)", "(3,)"),
    "no tensor": (lambda w: {"w": None}, "grads['w']", "None", "(3,)"),
    "another key": (lambda w: {"v": 2 * w["w"]}, "grads", "'v'", "'w'"),
    "a bare tensor for a dict": (lambda w: 2 * w["w"], "grads", "*", "'w'"),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_a_gradient_by_hand_must_fit_the_parameters(name):
    gradient, *message = GRADIENTS[name]

    def rule(w, x):
        return square(w, x), gradient(w)

    params, batch = {"w": torch.ones(3)}, torch.ones(1)
    for call in (
        lambda: fn.explicit(fn.Objective(square, rule))(params, batch),
        lambda: next(fn.train(rule, fn.sgd(0.1), params, [batch])),
    ):
        with pytest.raises(fn.InputError) as caught:
            call()
        assert says(caught.value, *message)


@pytest.mark.parametrize("provider", fn.PROVIDERS)
def test_an_objective_must_be_a_scalar(provider):
    vector = fn.Objective(lambda w, x: w * x, lambda w, x: (w * x, x))
    step_fn = fn.PROVIDERS[provider](vector)
    for call in (step_fn, step_fn.value):
        with pytest.raises(fn.InputError) as caught:
            call(torch.ones(3), torch.ones(3))
        assert "(3,)" in str(caught.value) and "scalar" in str(caught.value)


def test_so_must_the_value_of_a_plain_callable():
    with pytest.raises(fn.InputError, match=r"got shape \(3,\).*needs a scalar"):
        next(fn.train(lambda w, x: (w * x, x), fn.sgd(0.1), torch.ones(3), [torch.ones(3)]))


class Missized:
    init = staticmethod(fn.tree.zeros_like)

    @staticmethod
    def update(grads, state, *, params):
        return fn.tree.map(lambda g: g.sum(), grads), state


def test_updates_that_would_broadcast_are_refused():
    objective, params, batch = classifier()
    with pytest.raises(fn.InputError) as caught:
        next(fn.train(fn.explicit(objective), Missized(), params, [batch]))
    assert says(caught.value, "updates[0]['b']", "()", "(4,)")
