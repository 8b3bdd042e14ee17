import pytest
import torch
from helpers import EPS, assert_close, normal, numerical_gradient, one_by_one, same_bits, seeded
from tables import LAYERS, layer_scene

import funcnn as fn

ROUNDING = {torch.float64: 1e-13, torch.float32: 5e-5}

every_layer = pytest.mark.parametrize("name", LAYERS)
every_dtype = pytest.mark.parametrize("dtype", ROUNDING)


def least(name):
    """The samples of the smallest batch that a layer takes."""
    return 2 if LAYERS[name].mixes else 1


@every_dtype
@every_layer
def test_forward_is_the_formula(name, dtype):
    layer, params, x, _ = layer_scene(name, dtype)
    for inputs in (x, x[: least(name)]):
        assert_close(layer(params, inputs), LAYERS[name].formula(params, inputs), ROUNDING[dtype])


@every_dtype
@every_layer
def test_backward_is_the_vector_jacobian_product_of_the_formula(name, dtype):
    layer, params, x, dy = layer_scene(name, dtype)
    found = layer.backward(layer.forward(params, x)[1], dy)
    if not x.is_floating_point():
        assert found[1] == ()
        expected = (*torch.func.vjp(lambda params: LAYERS[name].formula(params, x), params)[1](dy), ())
    else:
        expected = torch.func.vjp(LAYERS[name].formula, params, x)[1](dy)
    assert_close(found, expected, ROUNDING[dtype])


@every_layer
def test_backward_is_what_central_differences_see(name):
    layer, params, x, dy = layer_scene(name)
    dparams, dx = layer.backward(layer.forward(params, x)[1], dy)
    leaves, unflatten = fn.tree.flatten(params)
    if x.is_floating_point():
        assert_close(dx, numerical_gradient(lambda x: (dy * layer(params, x)).sum(), x), 1e-8)
    for index, grad in enumerate(fn.tree.leaves(dparams)):

        def moved(leaf, index=index):
            return (dy * layer(unflatten([*leaves[:index], leaf, *leaves[index + 1 :]]), x)).sum()

        assert_close(grad, numerical_gradient(moved, leaves[index]), 1e-8)


@every_layer
def test_the_rows_of_backward_are_the_jacobian_of_the_formula(name):
    layer, params, x, _ = layer_scene(name)
    formula = LAYERS[name].formula
    if x.is_floating_point():
        expected = torch.func.jacrev(formula, argnums=(0, 1))(params, x)
    else:
        expected = torch.func.jacrev(formula)(params, x), ()
    assert_close(fn.jacobian(layer, params, x), expected, 50 * EPS)


@every_dtype
@every_layer
def test_all_that_it_claims_of_itself_is_so(name, dtype):
    layer, params, x, _ = layer_scene(name, dtype)
    report = fn.laws(layer, params, x)
    assert report, report


@every_layer
def test_the_output_alone_is_what_calling_it_gives(name):
    layer, params, x, _ = layer_scene(name)
    y = layer.forward(params, x)[0]
    assert torch.equal(layer(params, x), y) and torch.equal(fn.apply(layer, params, x), y)


@every_layer
def test_residuals_are_tensors_so_that_both_halves_can_be_vmapped(name):
    layer, params, x, dy = layer_scene(name)
    assert all(isinstance(leaf, torch.Tensor) for leaf in fn.tree.leaves(layer.forward(params, x)[1]))

    def both(x, dy):
        y, residuals = layer.forward(params, x)
        return y, layer.backward(residuals, dy)

    x, dy = (torch.stack(rows.split(least(name))[:2]) for rows in (x, dy))
    found = torch.func.vmap(both)(x, dy)
    assert_close(found, one_by_one(lambda pair: both(pair[0][0], pair[1][0]), (x, dy)), 1e-13)
    kept = torch.func.vmap(lambda x: layer.forward(params, x)[1])(x)
    assert_close(torch.func.vmap(layer.backward)(kept, dy), found[1], 1e-13)


@every_layer
def test_its_operands_stay_as_they_were_and_the_same_bits_come_again(name):
    operands = layer, params, x, dy = layer_scene(name)
    before = fn.tree.clone(operands[1:])
    y, residuals = layer.forward(params, x)
    kept = fn.tree.clone((y, residuals))
    pulled = layer.backward(residuals, dy)
    assert same_bits((params, x, dy), before) and same_bits((y, residuals), kept)
    assert same_bits(layer.forward(params, x), kept) and same_bits(layer.backward(residuals, dy), pulled)


def transposed(x):
    return x.mT.contiguous().mT if x.ndim > 1 else sliced(x)


def sliced(x):
    return torch.stack([x, torch.full_like(x, torch.nan if x.is_floating_point() else -1)], -1)[..., 0]


def expanded(x):
    return x[..., :1].expand_as(x) if x.ndim else x


@pytest.mark.parametrize("stride", [transposed, sliced, expanded])
@every_layer
def test_the_strides_of_its_operands_do_not_matter(name, stride):
    layer, *operands = layer_scene(name)
    params, x, dy = fn.tree.map(stride, tuple(operands))
    dense_params, dense_x, dense_dy = fn.tree.map(
        lambda leaf: leaf.clone(memory_format=torch.contiguous_format), (params, x, dy)
    )
    (y, residuals), (expected, kept) = layer.forward(params, x), layer.forward(dense_params, dense_x)
    assert_close(y, expected, 1e-13)
    assert_close(layer.backward(residuals, dy), layer.backward(kept, dense_dy), 1e-13)


@every_layer
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(name):
    layer = LAYERS[name].layer
    assert same_bits(layer.init(seeded(7)), layer.init(seeded(7)))
    if "dense(" in repr(layer):
        assert not same_bits(layer.init(seeded(7)), layer.init(seeded(8)))


@every_layer
def test_every_dtype_starts_at_the_same_point(name):
    layer = LAYERS[name].layer
    double, single = (layer.init(seeded(7), dtype=dtype) for dtype in (torch.float64, torch.float32))
    assert all(leaf.dtype == torch.float32 for leaf in fn.tree.leaves(single))
    assert same_bits(fn.tree.map(torch.Tensor.float, double), single)


@every_layer
def test_no_address_is_printed(name):
    assert "0x" not in repr(LAYERS[name].layer) and repr(LAYERS[name].layer)


def test_all_of_them_in_one_compiled_step_do_what_they_do_one_by_one():
    layer = fn.serial(
        fn.dense(4, 5),
        fn.tanh(),
        fn.serial(LAYERS["a user's"].layer, fn.sigmoid()),
        fn.dense(5, 4, bias=False),
        LAYERS["a newcomer's"].layer,
        fn.relu(),
        fn.softmax(),
        fn.mlp([4, 3]),
    )
    params, x = layer.init(seeded()), normal(6, 2, 4)
    batch = x, normal(6, 2, 3, seed=1)
    step_fn = fn.explicit(fn.supervised(layer, fn.half_squared_error()))
    (expected,) = fn.train(step_fn, fn.sgd(0.5), params, [batch])
    (found,) = fn.train(step_fn, fn.compiled(fn.sgd(0.5)), params, [batch])
    assert_close((found.value, found.params), (expected.value, expected.params), 1e-14)


# name: (a layer, what it prints as)
PRINTED = {
    "dense": (fn.dense(64, 32), "dense(64, 32)"),
    "dense without bias": (fn.dense(64, 32, bias=False), "dense(64, 32, bias=False)"),
    "softmax": (fn.softmax(), "softmax()"),
    "mlp": (fn.mlp([4, 3, 2], fn.tanh), "serial(dense(4, 3), tanh(), dense(3, 2))"),
    "nested": (fn.serial(fn.relu(), fn.serial(fn.dense(2, 2))), "serial(relu(), serial(dense(2, 2)))"),
    "a newcomer's": (LAYERS["a newcomer's"].layer, "scale(4)"),
    "a user's": (LAYERS["a user's"].layer, "tempered(...)"),
}


@pytest.mark.parametrize("name", PRINTED)
def test_a_layer_prints_as_what_made_it(name):
    layer, shown = PRINTED[name]
    assert repr(layer) == str(layer) == shown


def wrong_pullback(residuals, dy):
    return (), 0 * dy


def test_a_replaced_backward_shows():
    assert repr(fn.tanh()._replace(backward=wrong_pullback)) == "Layer(forward=tanh(), backward=wrong_pullback)"
    inner = fn.serial(fn.dense(2, 2), fn.tanh()._replace(backward=wrong_pullback))
    assert "wrong_pullback" in repr(inner)
