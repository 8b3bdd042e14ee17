import pytest
import torch
from helpers import assert_close, normal, same_bits, seeded

import funcnn as fn
from funcnn.layers.pullbacks import gradient, parts


def test_nested_serials_compute_what_the_flat_one_does():
    a, b, c, d = fn.dense(4, 5), fn.tanh(), fn.dense(5, 3), fn.softmax()
    flat, nested = fn.serial(a, b, c, d), fn.serial(fn.serial(a), fn.serial(b, fn.serial(c, d)))
    params, x, dy = flat.init(seeded()), normal(6, 4), normal(6, 3, seed=1)
    pa, pb, pc, pd = params
    (y, residuals), (z, nested_residuals) = flat.forward(params, x), nested.forward(((pa,), (pb, (pc, pd))), x)
    assert torch.equal(y, z)
    (ga, gb, gc, gd), dx = flat.backward(residuals, dy)
    assert same_bits(nested.backward(nested_residuals, dy), (((ga,), (gb, (gc, gd))), dx))


def test_a_nested_serial_draws_the_same_initial_values_as_the_flat_one():
    flat, nested = fn.serial(fn.dense(4, 5), fn.dense(5, 3)), fn.serial(fn.serial(fn.dense(4, 5)), fn.dense(5, 3))
    (first, second), ((inner,), outer) = flat.init(seeded()), nested.init(seeded())
    assert same_bits((first, second), (inner, outer))


def test_a_single_layer_in_serial_keeps_its_meaning():
    layer, x = fn.serial(fn.sigmoid()), normal(3, 2)
    assert layer.init(seeded()) == ((),)
    assert torch.equal(layer(((),), x), torch.sigmoid(x))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_training_never_asks_the_first_layer_for_the_gradient_of_its_inputs(depth):
    def refuse(residuals, dy):
        raise AssertionError("the gradient of the data was computed")

    dense = fn.dense(4, 3)
    layer = fn.serial(dense._replace(backward=dense.backward._replace(inputs=refuse)), fn.tanh(), fn.dense(3, 2))
    for _ in range(depth - 1):
        layer = fn.serial(layer, fn.tanh())
    objective = fn.supervised(layer, fn.half_squared_error())
    params, batch = layer.init(seeded()), (normal(5, 4), normal(5, 2, seed=1))
    step_fn, truth = fn.explicit(objective), fn.func_grad(objective)
    assert_close(step_fn(params, batch)[1], truth(params, batch)[1], 1e-14)
    assert_close(fn.per_sample(step_fn)(params, batch)[1], fn.per_sample(truth)(params, batch)[1], 1e-14)


def test_the_gradient_of_the_parameters_alone_is_the_first_part_of_backward():
    layer, x = fn.mlp([4, 5, 3]), normal(6, 4)
    residuals, dy = layer.forward(layer.init(seeded()), x)[1], normal(6, 3, seed=1)
    assert same_bits(gradient(layer.backward, residuals, dy, False)[0], layer.backward(residuals, dy)[0])
    assert torch.equal(parts(layer.backward, residuals, dy)[1], layer.backward(residuals, dy)[1])
