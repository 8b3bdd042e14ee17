import pytest
import torch
from helpers import assert_close, labels, normal, seeded

import funcnn as fn

X, T = normal(5, 4), labels(5, 3)


def doubled(tree):
    return fn.tree.map(lambda leaf: 2 * leaf, tree)


def replaced(place):
    """An objective one of whose rules is replaced by a wrong one: twice the right gradient."""
    layer, loss = fn.mlp([4, 6, 3], fn.tanh), fn.softmax_cross_entropy()
    if place == "the layer":
        pullback = layer.backward
        layer = layer._replace(backward=lambda residuals, dy: doubled(pullback(residuals, dy)))
    if place == "the loss":
        slope = loss.backward
        loss = loss._replace(backward=lambda residuals: 2 * slope(residuals))
    objective = fn.supervised(layer, loss)
    if place == "the objective":
        right = objective.value_and_grad
        objective = objective._replace(value_and_grad=lambda *at: (right(*at)[0], doubled(right(*at)[1])))
    return objective, layer.init(seeded())


@pytest.mark.parametrize("place", ["the layer", "the loss", "the objective"])
def test_a_replaced_rule_is_used_everywhere_and_no_shortcut_hides_it(place):
    objective, params = replaced(place)
    truth, step_fn = fn.func_grad(objective), fn.explicit(objective)
    assert_close(step_fn(params, (X, T))[1], doubled(truth(params, (X, T))[1]), 1e-14)
    assert_close(fn.per_sample(step_fn)(params, (X, T))[1], doubled(fn.per_sample(truth)(params, (X, T))[1]), 1e-14)
    assert_close(fn.per_sample_norms(step_fn)(params, (X, T)), 2 * fn.per_sample_norms(truth)(params, (X, T)), 1e-14)
    assert_close(fn.finite_difference(objective)(params, (X, T))[1], truth(params, (X, T))[1], 1e-8)


@pytest.mark.parametrize("place", ["forward", "terms"])
def test_a_replaced_forward_is_what_finite_differences_see(place):
    layer, loss = fn.mlp([4, 6, 3]), fn.softmax_cross_entropy()
    right = loss.forward
    if place == "forward":
        shifted = loss._replace(forward=lambda z, t: (3 * right(z, t)[0], right(z, t)[1]))
    else:
        terms = right.terms
        shifted = loss._replace(forward=right._replace(terms=lambda z, t: (3 * terms(z, t)[0], terms(z, t)[1]), whole=None))
    objective, params = fn.supervised(layer, shifted), layer.init(seeded())
    expected = fn.func_grad(objective)(params, (X, T))[1]
    assert_close(
        expected, fn.tree.map(lambda leaf: 3 * leaf, fn.func_grad(fn.supervised(layer, loss))(params, (X, T))[1]), 1e-14
    )
    assert_close(fn.finite_difference(objective)(params, (X, T))[1], expected, 1e-8)


def test_a_replaced_update_is_what_train_applies():
    objective, params = replaced("nothing")
    still = fn.sgd(0.5)._replace(update=lambda grads, state, params: (fn.tree.zeros_like(grads), state))
    (step,) = fn.train(fn.explicit(objective), still, params, [(X, T)])
    assert all(map(torch.equal, fn.tree.leaves(step.params), fn.tree.leaves(params)))


def test_what_an_optimizer_is_handed_is_the_step_function_at_one_batch_and_prints_so():
    objective, params = replaced("nothing")
    step_fn, batch = fn.explicit(objective), {"inputs": (X, T)}["inputs"]
    at = fn.At(step_fn, batch)
    assert_close(at(params), step_fn(params, batch), 0.0)
    assert_close(at.value_and_grad(params), step_fn(params, batch), 0.0)
    assert torch.equal(at.value(params), step_fn.value(params, batch))
    assert repr(at) == f"At({step_fn!r}, batch=((5, 4), (5,)))"
    assert "explicit(supervised(serial(dense(4, 6), tanh(), dense(6, 3)), softmax_cross_entropy()))" in repr(at)
    assert repr(fn.At(step_fn, {"x": [X]})).endswith("batch={'x': ((5, 4))})")
