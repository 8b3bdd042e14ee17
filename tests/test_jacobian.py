import pytest
import torch
from helpers import EPS, assert_close, normal, same_bits, says, seeded

import funcnn as fn

LAYERS = {
    "dense": fn.dense(3, 2),
    "without bias": fn.dense(3, 2, bias=False),
    "sigmoid": fn.sigmoid(),
    "tanh": fn.tanh(),
    "relu": fn.relu(),
    "softmax": fn.softmax(),
    "mlp": fn.mlp([3, 4, 2], fn.tanh),
    "autoencoder": fn.autoencoder([3, 2]),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_rows_of_backward_are_the_jacobian_of_forward(name):
    layer, x = LAYERS[name], normal(5, 3, seed=1)
    params = layer.init(seeded())
    expected = torch.func.jacrev(lambda params, x: fn.apply(layer, params, x), argnums=(0, 1))(params, x)
    assert_close(fn.jacobian(layer, params, x), expected, 10 * EPS)


def test_its_shape_is_that_of_the_output_then_that_of_the_input():
    layer = fn.dense(3, 2)
    dparams, dx = fn.jacobian(layer, layer.init(seeded()), normal(5, 3))
    assert dx.shape == (5, 2, 5, 3)
    assert dparams["w"].shape == (5, 2, 3, 2) and dparams["b"].shape == (5, 2, 2)


def test_a_wrong_backward_shows():
    layer = fn.tanh()._replace(backward=lambda y, dy: ((), dy * (1 - y)))
    x = normal(2, 2)
    expected = torch.func.jacrev(lambda x: fn.apply(layer, (), x))(x)
    assert (fn.jacobian(layer, (), x)[1] - expected).abs().max() > 0.1


def test_no_layer_and_no_parameters_are_refused(as_users_run_it):
    with pytest.raises(fn.InputError) as caught:
        fn.jacobian(fn.tanh, (), normal(2, 2))
    assert says(caught.value, "layer", "function", "a Layer")
    with pytest.raises(fn.InputError) as caught:
        fn.jacobian(fn.dense(2, 2), {"w": None, "b": normal(2)}, normal(2, 2))
    assert says(caught.value, "params['w']", "None", "floating tensor")


def test_what_it_is_given_stays_as_it_was():
    layer, x = fn.mlp([3, 4, 2], fn.tanh), normal(5, 3)
    params = layer.init(seeded())
    kept = fn.tree.clone((params, x))
    fn.jacobian(layer, params, x)
    assert same_bits((params, x), kept)
