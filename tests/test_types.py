import pytest
import torch
from helpers import assert_close, labels, normal, seeded

import funcnn as fn

X, T = normal(5, 4), labels(5, 3)


def replaced(place):
    """An objective one of whose rules is replaced by a wrong one: twice the right gradient."""
    layer, loss = fn.mlp([4, 6, 3], fn.tanh), fn.softmax_cross_entropy()
    if place == "the layer":
        pullback = layer.backward
        layer = layer._replace(backward=lambda residuals, dy: fn.tree.map(lambda leaf: 2 * leaf, pullback(residuals, dy)))
    if place == "the loss":
        slope = loss.backward
        loss = loss._replace(backward=lambda residuals: 2 * slope(residuals))
    objective = fn.supervised(layer, loss)
    if place == "the objective":
        right = objective.value_and_grad
        objective = objective._replace(
            value_and_grad=lambda *at: (right(*at)[0], fn.tree.map(lambda g: 2 * g, right(*at)[1]))
        )
    return objective, layer.init(seeded())


@pytest.mark.parametrize("place", ["the layer", "the loss", "the objective"])
def test_a_replaced_rule_is_used_everywhere_and_no_shortcut_hides_it(place):
    objective, params = replaced(place)
    truth = fn.func_grad(objective)
    wrong = fn.tree.map(lambda leaf: 2 * leaf, truth(params, (X, T))[1])
    assert_close(fn.explicit(objective)(params, (X, T))[1], wrong, 1e-14)
    each = fn.tree.map(lambda leaf: 2 * leaf, fn.per_sample(truth)(params, (X, T))[1])
    assert_close(fn.per_sample(fn.explicit(objective))(params, (X, T))[1], each, 1e-14)
    assert_close(fn.finite_difference(objective)(params, (X, T))[1], truth(params, (X, T))[1], 1e-8)


def test_a_replaced_forward_is_what_finite_differences_see():
    layer, loss = fn.mlp([4, 6, 3]), fn.softmax_cross_entropy()
    shifted = loss._replace(forward=lambda z, t: (3 * loss.forward(z, t)[0], loss.forward(z, t)[1]))
    objective, params = fn.supervised(layer, shifted), layer.init(seeded())
    expected = fn.func_grad(objective)(params, (X, T))[1]
    assert_close(fn.finite_difference(objective)(params, (X, T))[1], expected, 1e-8)


def test_a_replaced_update_is_what_train_applies():
    objective, params = replaced("nothing")
    still = fn.sgd(0.5)._replace(update=lambda grads, state, *, params: (fn.tree.zeros_like(grads), state))
    (step,) = fn.train(fn.explicit(objective), still, params, [(X, T)])
    assert all(map(torch.equal, fn.tree.leaves(step.params), fn.tree.leaves(params)))
