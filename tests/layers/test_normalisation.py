import pytest
import torch
import torch.nn.functional as F
from helpers import assert_close, normal, says, seeded

import funcnn as fn

# name: (a layer, its inputs without the samples, torch's operation of (params, x))
TORCH = {
    "layer norm": (fn.layer_norm(7), (7,), lambda p, x: F.layer_norm(x, (7,), p["w"], p["b"])),
    "layer norm on tokens": (fn.layer_norm(7, 0.1), (3, 7), lambda p, x: F.layer_norm(x, (7,), p["w"], p["b"], 0.1)),
    "rms norm": (fn.rms_norm(7), (7,), lambda p, x: F.rms_norm(x, (7,), p["w"], 1e-6)),
    "rms norm on tokens": (fn.rms_norm(7, 0.1), (2, 3, 7), lambda p, x: F.rms_norm(x, (7,), p["w"], 0.1)),
    "group norm": (fn.group_norm(2, 8), (8,), lambda p, x: F.group_norm(x, 2, p["w"], p["b"])),
    "group norm of sequences": (fn.group_norm(1, 4), (4, 5), lambda p, x: F.group_norm(x, 1, p["w"], p["b"])),
    "group norm of images": (fn.group_norm(3, 6, 0.1), (6, 3, 4), lambda p, x: F.group_norm(x, 3, p["w"], p["b"], 0.1)),
    "batch norm": (fn.batch_norm(4), (4,), lambda p, x: F.batch_norm(x, None, None, p["w"], p["b"], True)),
    "batch norm of sequences": (fn.batch_norm(4), (4, 5), lambda p, x: F.batch_norm(x, None, None, p["w"], p["b"], True)),
    "batch norm of images": (
        fn.batch_norm(4, 0.1),
        (4, 3, 2),
        lambda p, x: F.batch_norm(x, None, None, p["w"], p["b"], True, 0.1, 0.1),
    ),
}
every_norm = pytest.mark.parametrize("name", TORCH)


def drawn(layer, seed=3, dtype=torch.float64):
    """Parameters that are not 1 and 0."""
    params = layer.init(seeded(), dtype=dtype)
    return {
        key: leaf + normal(*leaf.shape, seed=seed + place, dtype=dtype) for place, (key, leaf) in enumerate(params.items())
    }


def scene(name, samples=9, seed=0, dtype=torch.float64):
    layer, shape, operation = TORCH[name]
    x, dy = (normal(samples, *shape, seed=seed + more, dtype=dtype) for more in (1, 2))
    return layer, operation, drawn(layer, seed + 3, dtype), x, dy


@pytest.mark.parametrize("samples", [2, 3, 9])
@every_norm
def test_it_is_torchs_own_operation_and_its_gradient(name, samples):
    for seed in range(5):
        layer, operation, params, x, dy = scene(name, samples, 10 * seed)
        y, residuals = layer.forward(params, x)
        expected, pullback = torch.func.vjp(operation, params, x)
        assert_close(y, expected, 1e-10)
        assert_close(layer.backward(residuals, dy), pullback(dy), 1e-10)


@every_norm
def test_the_fused_pullback_is_the_plain_one(name):
    layer, _, params, x, dy = scene(name)
    residuals = layer.forward(params, x)[1]
    plain = layer.backward(residuals, dy.clone().requires_grad_())  # on a tape it is made of plain operations
    assert_close(layer.backward(residuals, dy), fn.tree.map(torch.Tensor.detach, plain), 1e-13)


@every_norm
def test_its_pullback_has_derivatives_of_its_own(name):
    layer, operation, params, x, dy = scene(name)
    way, tangent = (params, x, dy), (params, dy, x)

    def pulled(params, x, dy):
        return layer.backward(layer.forward(params, x)[1], dy)

    def by_torch(params, x, dy):
        return torch.func.vjp(operation, params, x)[1](dy)

    assert_close(torch.func.jvp(pulled, way, tangent), torch.func.jvp(by_torch, way, tangent), 1e-10)
    ours, theirs = (torch.func.grad(lambda x, f=f: f(params, x, dy)[1].sin().sum())(x) for f in (pulled, by_torch))
    assert_close(ours, theirs, 1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@every_norm
def test_low_precision_is_double_precision_rounded(name, dtype):
    layer, operation, params, x, dy = scene(name, 16, dtype=dtype)
    y, residuals = layer.forward(params, x)
    doubled = fn.tree.map(torch.Tensor.double, (params, x, dy))
    expected, pullback = torch.func.vjp(operation, *doubled[:2])
    found = fn.tree.map(torch.Tensor.double, (y, layer.backward(residuals, dy)))
    assert {leaf.dtype for leaf in fn.tree.leaves((y, layer.backward(residuals, dy)))} == {dtype}
    assert_close(found, (expected, pullback(doubled[2])), 30 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [0.0, 1e-3, 1.0, 1e3])
@every_norm
def test_equal_numbers_give_the_shift_and_no_gradient_that_is_no_number(name, size, dtype):
    layer, _, params, x, dy = scene(name, dtype=dtype)
    x = torch.full_like(x, size)
    y, residuals = layer.forward(params, x)
    dparams, dx = layer.backward(residuals, dy)
    assert all(leaf.isfinite().all() for leaf in fn.tree.leaves((y, dparams, dx)))
    if "b" in params:
        shift = params["b"] if "layer" in name else params["b"].reshape(-1, *[1] * (x.ndim - 2))
        assert_close(y, shift.expand_as(y), 400 * max(size, 1) * torch.finfo(dtype).eps)


@pytest.mark.parametrize("layer", [fn.layer_norm(1), fn.group_norm(4, 4)], ids=repr)
def test_of_a_single_number_nothing_is_left_but_the_shift(layer):
    params, x = drawn(layer), normal(5, len(drawn(layer)["w"]))
    y, residuals = layer.forward(params, x)
    assert_close(y, params["b"].expand_as(x), 1e-12)
    dparams, dx = layer.backward(residuals, torch.ones_like(x))
    assert_close(dx, torch.zeros_like(x), 1e-10)  # r = 1 / sqrt(eps) times what rounding leaves
    assert_close(dparams["w"], torch.zeros_like(params["w"]), 1e-12)


@pytest.mark.parametrize("name", ["layer norm", "group norm of images", "batch norm of images"])
def test_a_mean_far_from_0_costs_no_digits_beyond_those_of_x(name):
    layer, operation, params, x, dy = scene(name, dtype=torch.float32)
    x = 1000 + x
    y, residuals = layer.forward(params, x)
    doubled = fn.tree.map(torch.Tensor.double, (params, x))
    expected, pullback = torch.func.vjp(operation, *doubled)
    found = fn.tree.map(torch.Tensor.double, (y, layer.backward(residuals, dy)))
    assert_close(found, (expected, pullback(dy.double())), 1e-3)


# the call: (a function without arguments, the place, what was found, what is needed)
BAD = {
    "no features": (lambda: fn.layer_norm(0), "features", "0", "positive integer"),
    "half a feature": (lambda: fn.rms_norm(2.5), "features", "2.5", "positive integer"),
    "eps of 0": (lambda: fn.layer_norm(4, 0.0), "eps", "0.0", "at least"),
    "eps of less than float32 has": (lambda: fn.batch_norm(4, 1e-50), "eps", "1e-50", "at least"),
    "eps by name": (lambda: fn.rms_norm(4, "small"), "eps", "'small'", "a number"),
    "groups that do not divide": (lambda: fn.group_norm(3, 4), "groups", "3", "divisor of the 4 channels"),
    "no groups": (lambda: fn.group_norm(0, 4), "groups", "0", "positive integer"),
    "layer norm, too wide": (
        lambda: fn.layer_norm(4).forward(drawn(fn.layer_norm(4)), normal(2, 5)),
        "inputs of params",
        "(2, 5)",
        "(N, ..., 4)",
    ),
    "rms norm, a shift": (
        lambda: fn.rms_norm(4).forward(drawn(fn.layer_norm(4)), normal(2, 4)),
        "params",
        "'b'",
        "['w']",
    ),
    "group norm, channels last": (
        lambda: fn.group_norm(2, 4).forward(drawn(fn.group_norm(2, 4)), normal(2, 3, 4)),
        "inputs of group_norm(2, 4)",
        "(2, 3, 4)",
        "(N, 4, ...)",
    ),
    "batch norm, no channels": (
        lambda: fn.batch_norm(4).forward(drawn(fn.batch_norm(4)), normal(4)),
        "inputs of batch_norm(4)",
        "(4,)",
        "(N, 4, ...)",
    ),
    "batch norm, another scale": (
        lambda: fn.batch_norm(4).forward(drawn(fn.batch_norm(3)), normal(2, 4)),
        "params['b']",
        "(3,)",
        "(4,)",
    ),
    "a gradient of another shape": (
        lambda: fn.batch_norm(4).backward(fn.batch_norm(4).forward(drawn(fn.batch_norm(4)), normal(2, 4))[1], normal(3, 4)),
        "dy",
        "(3, 4)",
        "(2, 4)",
    ),
}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_refused(name):
    call, *message = BAD[name]
    with pytest.raises(fn.InputError) as caught:
        call()
    assert says(caught.value, *message)


def test_a_network_starts_with_scales_of_1_and_shifts_of_0():
    for layer, *_ in TORCH.values():
        params = layer.init(seeded())
        assert params["w"].eq(1).all() and ("b" not in params or params["b"].eq(0).all())
