import pytest
import torch
from helpers import assert_close, labels, normal, seeded

import funcnn as fn

ACTIVATIONS = {"sigmoid": (fn.sigmoid, torch.nn.Sigmoid), "tanh": (fn.tanh, torch.nn.Tanh), "relu": (fn.relu, torch.nn.ReLU)}
SIZES = [[4, 3], [4, 5, 3], [4, 5, 6, 5, 4, 3]]

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
    assert_close(layer(params, inputs), outputs.detach(), 1e-14)
    value, grads = fn.explicit(fn.supervised(layer, loss))(params, (inputs, targets))
    assert_close(value, torch_loss(outputs, targets).detach(), 1e-14)
    assert_close(grads, gradients(network, params), 1e-14)


@every_depth
@every_activation
def test_an_mlp_is_the_sequential_of_torch(sizes, activation):
    ours, theirs = ACTIVATIONS[activation]
    compare(fn.mlp(sizes, ours), fn.softmax_cross_entropy(), torch.nn.CrossEntropyLoss(), theirs, normal(7, 4), labels(7, 3))


def test_a_perceptron_is_a_linear_unit_and_a_sigmoid():
    loss, targets = torch.nn.BCELoss(), labels(9, 2)[:, None].double()
    compare(fn.perceptron(5), fn.binary_cross_entropy(), loss, torch.nn.Sigmoid, normal(9, 5), targets)


def test_an_autoencoder_is_two_mlps_one_the_mirror_of_the_other():
    x = normal(6, 5)
    compare(fn.autoencoder([5, 4, 2], fn.relu), fn.mean_squared_error(), torch.nn.MSELoss(), torch.nn.ReLU, x, x)
    encoder, decoder = fn.autoencoder([5, 4, 2]).init(seeded())
    assert [encoder[0]["w"].shape, encoder[2]["w"].shape] == [(5, 4), (4, 2)]
    assert [decoder[0]["w"].shape, decoder[2]["w"].shape] == [(2, 4), (4, 5)]


def test_the_code_of_an_autoencoder_is_the_output_of_its_encoder():
    layer, x = fn.autoencoder([5, 3, 2]), normal(6, 5)
    encoder, decoder = layer.init(seeded())
    code = fn.mlp([5, 3, 2])(encoder, x)
    assert code.shape == (6, 2)
    assert torch.equal(fn.mlp([2, 3, 5])(decoder, code), layer((encoder, decoder), x))


def test_a_transformer_starts_as_gpt_2_does():
    depth, params = 4, fn.transformer(65, 64, 128, 4, 4).init(seeded())
    assert sum(leaf.numel() for leaf in fn.tree.leaves(params)) == 818_241
    end = 0.02 / (2 * depth) ** 0.5
    for path, leaf in zip(fn.tree.paths(params), fn.tree.leaves(params), strict=True):
        if leaf.ndim == 2:
            deviation = end if "'out'" in path or leaf.shape[0] == 512 else 0.02
            assert abs(leaf.std() / deviation - 1) < 5 / (2 * leaf.numel()) ** 0.5
        else:
            assert torch.equal(leaf, torch.ones_like(leaf) if path.endswith("['w']") else torch.zeros_like(leaf))
