"""What is left out where parameters are frozen, and that what is left is what it was."""

from itertools import product

import pytest
import torch
from helpers import assert_close, labels, normal, seeded
from tables import LAYERS, layer_scene

import funcnn as fn
from funcnn.objectives import of_some


def choices(count):
    """Each leaf alone, all but each, none; every choice where there are few."""
    if count <= 4:
        return [list(each) for each in product([True, False], repeat=count)]
    alone = [[index == own for index in range(count)] for own in range(count)]
    return [*alone, *([not own for own in each] for each in alone), [False] * count]


def agree(objective, params, batch):
    step_fn = fn.explicit(objective)
    value, grads = step_fn(params, batch)
    for trained in choices(len(fn.tree.leaves(params))):
        found, some = of_some(step_fn.value_and_grad, params, batch, trained)
        assert torch.equal(found, value)
        assert_close(some, fn.tree.parted(fn.tree.leaves(grads), trained)[0], 1e-13)


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_has_the_same_gradients_of_some_parameters(name):
    layer, params, *batch = layer_scene(name)
    agree(fn.supervised(layer, fn.half_squared_error()), params, tuple(batch))


DENSE, TANH = fn.dense(4, 4), fn.tanh()
BLOCK = fn.serial(DENSE, TANH)
PLAIN = fn.serial(DENSE, fn.layer_norm(4))
NETWORKS = {
    "in series": fn.serial(DENSE, TANH, DENSE, TANH, DENSE),
    "nested": fn.serial(BLOCK, fn.serial(BLOCK, DENSE)),
    "around": fn.serial(DENSE, fn.residual(fn.serial(DENSE, TANH, DENSE)), DENSE),
    "side by side": fn.serial(fn.parallel(fn.serial(DENSE, TANH), DENSE), fn.dense(8, 4)),
    "run again": fn.serial(DENSE, fn.rematerialised(fn.serial(DENSE, fn.layer_norm(4))), DENSE),
    "a pullback of one's own": fn.serial(DENSE, PLAIN._replace(backward=lambda kept, dy: PLAIN.backward(kept, dy)), DENSE),
    "mixing samples": fn.serial(DENSE, fn.batch_norm(4), DENSE),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_has_the_same_gradients_of_some_parameters(name):
    layer = NETWORKS[name]
    agree(fn.supervised(layer, fn.softmax_cross_entropy()), layer.init(seeded()), (normal(6, 4), labels(6, 4)))


def test_a_transformer_has_the_same_gradients_of_some_parameters():
    layer = fn.transformer(vocabulary=5, length=3, features=4, heads=2, depth=1)
    tokens = labels(12, 5).reshape(3, 4)
    agree(fn.supervised(layer, fn.softmax_cross_entropy()), layer.init(seeded()), (tokens[:, :-1], tokens[:, 1:]))


def test_a_network_that_drops_has_the_same_gradients_of_some_parameters():
    layer = fn.with_dropout(fn.serial(DENSE, fn.dropout(0.5), DENSE))
    batch = (normal(6, 4), torch.arange(6)), labels(6, 4)
    agree(fn.supervised(layer, fn.softmax_cross_entropy()), layer.init(seeded()), batch)


def counting(layer, calls, name):
    """The same layer, which notes what of its pullback is asked for."""

    def noted(part):
        rule = getattr(layer.backward, part)

        def call(residuals, dy):
            calls.append(f"{part} of {name}")
            return rule(residuals, dy)

        return call

    return layer._replace(backward=layer.backward._replace(summands=noted("summands"), inputs=noted("inputs")))


# trained layers of three, and of each what the pass back asks for
ASKED = {
    (): [],
    (2,): ["summands of 2"],
    (1,): ["inputs of 2", "summands of 1"],
    (0,): ["inputs of 2", "inputs of 1", "summands of 0"],
    (0, 2): ["summands of 2", "inputs of 2", "inputs of 1", "summands of 0"],
    (0, 1, 2): ["summands of 2", "inputs of 2", "summands of 1", "inputs of 1", "summands of 0"],
}


@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
@pytest.mark.parametrize("trained", ASKED)
def test_nothing_is_computed_that_no_trained_parameter_needs(trained, nested):
    calls = []
    first, second, third = (counting(DENSE, calls, index) for index in range(3))
    layer = fn.serial(first, fn.serial(second, fn.serial(third))) if nested else fn.serial(first, second, third)
    params = layer.init(seeded())
    which = [index in trained for index in range(3) for _ in ("b", "w")]
    step_fn = fn.explicit(fn.supervised(layer, fn.half_squared_error()))
    of_some(step_fn.value_and_grad, params, (normal(6, 4), normal(6, 4)), which)
    assert calls == ASKED[trained]


def test_the_product_for_weights_that_are_frozen_is_not_multiplied_out(monkeypatch):
    totals = []
    monkeypatch.setattr(fn.Outer, "total", lambda self: totals.append("w") or self.x.mT @ self.dy)
    layer = fn.serial(DENSE, TANH, DENSE)
    params, step_fn = layer.init(seeded()), fn.explicit(fn.supervised(layer, fn.half_squared_error()))
    for which, products in ([True] * 4, 2), ([True, False, True, True], 1), ([True, False] * 2, 0):
        totals.clear()
        of_some(step_fn.value_and_grad, params, (normal(6, 4), normal(6, 4)), which)
        assert len(totals) == products


def test_parameters_that_do_not_fit_are_refused_as_ever():
    layer = fn.serial(DENSE, TANH, DENSE)
    params, step_fn = layer.init(seeded()), fn.explicit(fn.supervised(layer, fn.half_squared_error()))
    batch = normal(6, 4), normal(6, 4)
    with pytest.raises(fn.InputError, match=r"^params\[2\]\['w'\]: got shape \(3, 4\)"):
        of_some(step_fn.value_and_grad, (*params[:2], {**params[2], "w": normal(3, 4)}), batch, [False] * 3 + [True])
    careless = DENSE._replace(backward=lambda residuals, dy: ({"w": DENSE.backward(residuals, dy)[0]["w"]}, dy))
    layer = fn.serial(careless, TANH, careless)
    with pytest.raises(fn.InputError, match="^grads"):
        step_fn = fn.explicit(fn.supervised(layer, fn.half_squared_error()))
        of_some(step_fn.value_and_grad, params, batch, [False, False, True, True])
