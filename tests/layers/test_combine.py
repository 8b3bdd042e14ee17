import weakref

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


# name: a network of three layers
NETWORKS = {
    "in series": lambda a, b, c: fn.serial(a, b, c),
    "nested": lambda a, b, c: fn.serial(a, fn.serial(b, fn.serial(c))),
    "around and beside": lambda a, b, c: fn.serial(fn.residual(a), fn.residual(fn.serial(b)), fn.rematerialised(c)),
    "run again": lambda a, b, c: fn.rematerialised(fn.serial(a, b, c)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_pass_back_of_a_gradient_lets_go_of_the_residuals_that_it_has_passed(name):
    held, seen = [], []

    def forward(params, x):
        kept = x.clone()
        held.append(weakref.ref(kept))
        return 2 * x, (kept,)

    def backward(residuals, dy):
        seen.append([kept() is residuals[0] for kept in held if kept() is not None])
        return (), 2 * dy

    layer = NETWORKS[name](*[fn.Layer(fn.relu().init, fn.Forward(forward), backward)] * 3)
    objective = fn.supervised(fn.serial(fn.dense(2, 2), layer), fn.half_squared_error())
    params, batch = objective_start = fn.serial(fn.dense(2, 2), layer).init(seeded()), (normal(4, 2), normal(4, 2, seed=1))
    value, grads = fn.explicit(objective)(params, batch)
    assert [len(alive) for alive in seen] == [3, 2, 1] and all(alive[-1] for alive in seen)
    assert same_bits((params, batch), objective_start)
    assert_close(grads, fn.func_grad(objective)(params, batch)[1], 1e-14)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("container", [tuple, list])
def test_a_backward_that_is_called_twice_finds_its_residuals_as_they_were(name, container):
    layer = NETWORKS[name](fn.tanh(), fn.dense(3, 3), fn.sigmoid())
    residuals = layer.forward(layer.init(seeded()), normal(4, 3))[1]
    residuals, dy = container(residuals), normal(4, 3, seed=1)
    assert same_bits(layer.backward(residuals, dy), layer.backward(residuals, dy))
