import pytest
import torch
from helpers import normal, same_bits, says, seeded

import funcnn as fn


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


@pytest.mark.usefixtures("as_users_run_it")
def test_no_layer_no_parameters_and_no_tensor_are_refused():
    params = {"w": normal(2, 2), "b": normal(2)}
    for arguments, message in (
        ((fn.tanh, (), normal(2, 2)), ("layer", "function", "a Layer")),
        ((fn.dense(2, 2), params | {"w": None}, normal(2, 2)), ("params['w']", "None", "floating tensor")),
        ((fn.dense(2, 2), normal(2, 2), params), ("params", "(2, 2)", "a dict")),
        ((fn.dense(2, 2), params, None), ("x", "None", "at least one sample")),
    ):
        with pytest.raises(fn.InputError) as caught:
            fn.jacobian(*arguments)
        assert says(caught.value, *message)


def test_what_it_is_given_stays_as_it_was():
    layer, x = fn.mlp([3, 4, 2], fn.tanh), normal(5, 3)
    params = layer.init(seeded())
    kept = fn.tree.clone((params, x))
    fn.jacobian(layer, params, x)
    assert same_bits((params, x), kept)
