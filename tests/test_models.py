import pytest
import torch
from helpers import assert_close, labels, normal, same_bits, seeded

import funcnn as fn

ACTIVATIONS = {"sigmoid": (fn.sigmoid, torch.nn.Sigmoid), "tanh": (fn.tanh, torch.nn.Tanh), "relu": (fn.relu, torch.nn.ReLU)}
SIZES = [[4, 3], [4, 5, 3], [4, 5, 6, 3], [4, 5, 6, 5, 3], [4, 5, 6, 5, 4, 3]]

every_depth = pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: f"depth {len(sizes) - 1}")
every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)


def module(params, activation):
    """torch's modules with a copy of the weights of a tree of (dense, activation, dense, ...)."""
    if isinstance(params, dict):
        linear = torch.nn.Linear(*params["w"].shape)
        with torch.no_grad():
            linear.weight.copy_(params["w"].T)
            linear.bias.copy_(params["b"])
        return linear
    return torch.nn.Sequential(*(module(child, activation) for child in params)) if params else activation()


def gradients(network, params):
    """The .grad of such a module, as the tree of funcnn."""
    if isinstance(params, dict):
        return {"w": network.weight.grad.T, "b": network.bias.grad}
    return tuple(gradients(child, entry) for child, entry in zip(network, params, strict=True)) if params else ()


def compare(layer, loss, torch_loss, activation, inputs, targets):
    params = layer.init(seeded())
    network = module(params, activation)
    outputs = network(inputs)
    torch_loss(outputs, targets).backward()
    assert_close(fn.apply(layer, params, inputs), outputs.detach(), 1e-14)
    value, grads = fn.explicit(fn.supervised(layer, loss))(params, (inputs, targets))
    assert_close(value, torch_loss(outputs, targets).detach(), 1e-14)
    assert_close(grads, gradients(network, params), 1e-14)


@every_depth
@every_activation
def test_an_mlp_is_the_sequential_of_torch(sizes, activation):
    ours, theirs = ACTIVATIONS[activation]
    layer = fn.mlp(sizes, ours)
    compare(layer, fn.softmax_cross_entropy(), torch.nn.CrossEntropyLoss(), theirs, normal(7, 4), labels(7, 3))


def test_a_perceptron_is_a_linear_unit_and_a_sigmoid():
    loss, targets = torch.nn.BCELoss(), labels(9, 2)[:, None].double()
    compare(fn.perceptron(5), fn.binary_cross_entropy(), loss, torch.nn.Sigmoid, normal(9, 5), targets)


@every_activation
def test_an_autoencoder_is_two_mlps_one_the_mirror_of_the_other(activation):
    ours, theirs = ACTIVATIONS[activation]
    x = normal(6, 5)
    compare(fn.autoencoder([5, 4, 2], ours), fn.mean_squared_error(), torch.nn.MSELoss(), theirs, x, x)
    encoder, decoder = fn.autoencoder([5, 4, 2], ours).init(seeded())
    assert [encoder[0]["w"].shape, encoder[2]["w"].shape] == [(5, 4), (4, 2)]
    assert [decoder[0]["w"].shape, decoder[2]["w"].shape] == [(2, 4), (4, 5)]


def test_the_code_of_an_autoencoder_is_the_output_of_its_encoder():
    layer, x = fn.autoencoder([5, 3, 2]), normal(6, 5)
    encoder, decoder = layer.init(seeded())
    code = fn.apply(fn.mlp([5, 3, 2]), encoder, x)
    assert code.shape == (6, 2)
    assert torch.equal(fn.apply(fn.mlp([2, 3, 5]), decoder, code), fn.apply(layer, (encoder, decoder), x))


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


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_training_never_asks_the_first_layer_for_the_gradient_of_its_inputs(depth):
    def refuse(residuals, dy):
        raise AssertionError("the gradient of the data was computed")

    dense = fn.dense(4, 3)
    known = fn.Known((dense.forward, refuse), {"backward_params": dense.backward_params})
    guarded = dense._replace(backward=refuse, known=known)
    layer = fn.serial(guarded, fn.tanh(), fn.dense(3, 2))
    for _ in range(depth - 1):
        layer = fn.serial(layer, fn.tanh())
    objective = fn.supervised(layer, fn.half_squared_error())
    params, batch = layer.init(seeded()), (normal(5, 4), normal(5, 2, seed=1))
    assert_close(fn.explicit(objective)(params, batch)[1], fn.func_grad(objective)(params, batch)[1], 1e-14)


def test_a_first_layer_without_backward_params_is_differentiated_in_full():
    plain = fn.Layer(*fn.dense(4, 3)[:3])
    layer, whole = fn.serial(plain, fn.tanh()), fn.serial(fn.dense(4, 3), fn.tanh())
    params, x, dy = layer.init(seeded()), normal(5, 4), normal(5, 3, seed=1)
    residuals = layer.forward(params, x)[1]
    assert same_bits(layer.backward_params(residuals, dy), whole.backward_params(residuals, dy))


def test_a_single_layer_in_serial_keeps_its_meaning():
    layer, x = fn.serial(fn.sigmoid()), normal(3, 2)
    assert layer.init(seeded()) == ((),)
    assert torch.equal(fn.apply(layer, ((),), x), torch.sigmoid(x))
