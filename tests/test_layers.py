import math

import pytest
import torch
from helpers import assert_close, normal, numerical_gradient, same_bits, seeded
from hypothesis import given
from hypothesis import strategies as st

import funcnn as fn

# name: (layer with D inputs and H outputs, the same function in torch's words)
LAYERS = {
    "dense": (lambda d, h: fn.dense(d, h), lambda p, x: torch.nn.functional.linear(x, p["w"].T, p["b"])),
    "dense without bias": (lambda d, h: fn.dense(d, h, bias=False), lambda p, x: torch.einsum("nd,dh->nh", x, p["w"])),
    "sigmoid": (lambda d, h: fn.sigmoid(), lambda p, x: 1 / (1 + (-x).exp())),
    "tanh": (lambda d, h: fn.tanh(), lambda p, x: (x.exp() - (-x).exp()) / (x.exp() + (-x).exp())),
    "relu": (lambda d, h: fn.relu(), lambda p, x: x.clamp(min=0)),
    "softmax": (lambda d, h: fn.softmax(), lambda p, x: x.exp() / x.exp().sum(1, keepdim=True)),
    "perceptron": (
        lambda d, h: fn.perceptron(d),
        lambda p, x: torch.special.expit(x @ p[0]["w"] + p[0]["b"]),
    ),
    "mlp": (
        lambda d, h: fn.mlp([d, 3, h], fn.tanh),
        lambda p, x: torch.tanh(x @ p[0]["w"] + p[0]["b"]) @ p[2]["w"] + p[2]["b"],
    ),
}
ROUNDING = {torch.float64: 1e-13, torch.float32: 2e-5}
DIFFERENCES = {torch.float64: 1e-8, torch.float32: 1e-2}  # the sum of up to 20 terms, each rounded, over 2 cbrt(eps)

every_layer = pytest.mark.parametrize("name", LAYERS)
sizes, seeds, dtypes = st.integers(1, 4), st.integers(0, 10**6), st.sampled_from(list(ROUNDING))


def scene(name, n, d, h, seed, dtype):
    layer = LAYERS[name][0](d, h)
    x = normal(n, d, seed=seed, dtype=dtype)
    x = torch.where(x < 0, x - 0.1, x + 0.1)  # differences must not step over the kink of relu
    params = layer.init(seeded(seed + 1), dtype=dtype)
    return layer, params, x


@every_layer
@given(n=sizes, d=sizes, h=sizes, seed=seeds, dtype=dtypes)
def test_forward_is_the_formula(name, n, d, h, seed, dtype):
    layer, params, x = scene(name, n, d, h, seed, dtype)
    assert_close(fn.apply(layer, params, x), LAYERS[name][1](params, x), ROUNDING[dtype])


@every_layer
@given(n=sizes, d=sizes, h=sizes, seed=seeds, dtype=dtypes)
def test_backward_is_the_vector_jacobian_product_of_forward(name, n, d, h, seed, dtype):
    layer, params, x = scene(name, n, d, h, seed, dtype)
    y, residuals = layer.forward(params, x)
    dy = normal(*y.shape, seed=seed + 2, dtype=dtype)
    dparams, dx = torch.func.vjp(lambda p, x: fn.apply(layer, p, x), params, x)[1](dy)
    assert_close(layer.backward(residuals, dy), (dparams, dx), ROUNDING[dtype])


@every_layer
@given(n=sizes, d=sizes, h=sizes, seed=seeds, dtype=dtypes)
def test_backward_is_what_central_differences_see(name, n, d, h, seed, dtype):
    layer, params, x = scene(name, n, d, h, seed, dtype)
    y, residuals = layer.forward(params, x)
    dy = normal(*y.shape, seed=seed + 2, dtype=dtype)
    dparams, dx = layer.backward(residuals, dy)
    leaves, unflatten = fn.tree.flatten(params)

    def moved(index, leaf):
        return (dy * fn.apply(layer, unflatten([*leaves[:index], leaf, *leaves[index + 1 :]]), x)).sum()

    assert_close(dx, numerical_gradient(lambda x: (dy * fn.apply(layer, params, x)).sum(), x), DIFFERENCES[dtype])
    for index, grad in enumerate(fn.tree.leaves(dparams)):
        numerical = numerical_gradient(lambda leaf, index=index: moved(index, leaf), leaves[index])
        assert_close(grad, numerical, DIFFERENCES[dtype])


@every_layer
def test_backward_params_is_the_first_part_of_backward(name):
    layer, params, x = scene(name, 3, 4, 2, 0, torch.float64)
    y, residuals = layer.forward(params, x)
    dy = normal(*y.shape, seed=1)
    assert same_bits(layer.backward_params(residuals, dy), layer.backward(residuals, dy)[0])


@every_layer
def test_residuals_are_tensors_so_that_both_halves_can_be_vmapped(name):
    layer, params, x = scene(name, 5, 3, 2, 0, torch.float64)
    y, residuals = layer.forward(params, x)
    assert all(isinstance(leaf, torch.Tensor) for leaf in fn.tree.leaves(residuals))
    rows, kept = torch.func.vmap(lambda row: layer.forward(params, row[None]))(x)
    assert_close(rows.squeeze(1), y, 1e-13)
    dparams, dx = torch.func.vmap(layer.backward)(kept, torch.ones_like(rows))
    assert_close(dx.squeeze(1), layer.backward(residuals, torch.ones_like(y))[1], 1e-13)
    summed = fn.tree.map(lambda leaf: leaf.sum(0), dparams)
    assert_close(summed, layer.backward(residuals, torch.ones_like(y))[0], 1e-13)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_softmax_survives_enormous_logits(dtype):
    logits = torch.tensor([[1e4, -1e4, 0.0], [1e4, 1e4, 1e4], [-1e4, -1e4, -1e4 + 1]], dtype=dtype)
    y, residuals = fn.softmax().forward((), logits)
    third, e = 1 / 3, math.e
    expected = [[1, 0, 0], [third, third, third], [1 / (2 + e), 1 / (2 + e), e / (2 + e)]]
    assert_close(y, torch.tensor(expected, dtype=dtype), ROUNDING[dtype])
    dx = fn.softmax().backward(residuals, torch.ones_like(y))[1]
    assert_close(dx, torch.zeros_like(dx), ROUNDING[dtype])


@pytest.mark.parametrize("layer", [fn.sigmoid(), fn.tanh()], ids=["sigmoid", "tanh"])
def test_saturated_units_have_gradient_zero_and_not_nan(layer):
    _, residuals = layer.forward((), torch.tensor([-1e4, 1e4]))
    assert torch.equal(layer.backward(residuals, torch.ones(2))[1], torch.zeros(2))


def test_relu_has_derivative_zero_at_zero():
    y, residuals = fn.relu().forward((), torch.tensor([-1.0, -0.0, 0.0, 1.0]))
    assert torch.equal(y, torch.tensor([0.0, 0.0, 0.0, 1.0]))
    assert torch.equal(fn.relu().backward(residuals, torch.full((4,), 3.0))[1], torch.tensor([0.0, 0.0, 0.0, 3.0]))


@every_layer
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(name):
    layer = LAYERS[name][0](3, 2)
    assert same_bits(layer.init(seeded(7)), layer.init(seeded(7)))
    if fn.tree.leaves(layer.init(seeded(7))):
        assert not same_bits(layer.init(seeded(7)), layer.init(seeded(8)))


@every_layer
def test_every_dtype_starts_at_the_same_point(name):
    layer = LAYERS[name][0](3, 2)
    double, single = (layer.init(seeded(7), dtype=dtype) for dtype in (torch.float64, torch.float32))
    assert all(leaf.dtype == torch.float32 for leaf in fn.tree.leaves(single))
    assert same_bits(fn.tree.map(torch.Tensor.float, double), single)


@given(d=st.integers(1, 50), seed=seeds)
def test_initial_values_fill_the_interval_of_half_width_one_over_the_root_of_the_fan_in(d, seed):
    params = fn.dense(d, 200).init(seeded(seed))
    bound = 1 / math.sqrt(d)
    assert params["w"].shape == (d, 200) and params["b"].shape == (200,)
    for leaf in params.values():
        assert leaf.abs().max() <= bound
        assert leaf.max() > 0.8 * bound and leaf.min() < -0.8 * bound
        assert abs(leaf.mean()) < 0.25 * bound


def test_without_bias_there_is_no_b():
    assert fn.dense(2, 3, bias=False).init(seeded()).keys() == {"w"}
