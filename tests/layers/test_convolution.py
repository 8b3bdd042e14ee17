import pytest
import torch
from helpers import assert_close, normal, same_bits, says, seeded

import funcnn as fn
from funcnn.layers.factors import totals

pytestmark = pytest.mark.usefixtures("as_users_run_it")

N, ROUNDING = 4, 1e-10
CONSTRUCTORS = {1: fn.conv1d, 2: fn.conv2d}
TORCH = {1: torch.nn.functional.conv1d, 2: torch.nn.functional.conv2d}


def drawn(seed):
    """(layer, inputs, torch's arguments) of random sizes."""
    generator = seeded(seed)

    def integer(low, high):
        return int(torch.randint(low, high + 1, (), generator=generator))

    axes, groups = integer(1, 2), integer(1, 3)
    kernel, stride, padding, dilation = (
        tuple(integer(*bounds) for _ in range(axes)) for bounds in ((1, 4), (1, 3), (0, 3), (1, 3))
    )
    channels, kernels = groups * integer(1, 3), groups * integer(1, 3)
    size = [max(1, d * (k - 1) + 1 - 2 * z) + integer(0, 5) for k, z, d in zip(kernel, padding, dilation, strict=True)]
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    layer = CONSTRUCTORS[axes](channels, kernels, kernel, **options, bias=seed % 2 == 0)
    return layer, normal(N, channels, *size, seed=seed), options, axes


def by_torch(axes, options):
    return lambda params, x: TORCH[axes](x, params["w"], params.get("b"), **options)


@pytest.mark.parametrize("seed", range(40))
def test_it_is_torchs_convolution_and_its_autograd(seed):
    layer, x, options, axes = drawn(seed)
    params = layer.init(seeded(), dtype=torch.float64)
    y, pullback = torch.func.vjp(by_torch(axes, options), params, x)
    found, residuals = layer.forward(params, x)
    dy = normal(*y.shape, seed=1)
    assert_close(found, y, ROUNDING)
    assert_close(layer.backward(residuals, dy), pullback(dy), ROUNDING)
    assert fn.laws(layer, params, x)


@pytest.mark.parametrize("seed", range(0, 40, 3))
def test_norms_and_weighted_sums_are_those_of_its_summands(seed):
    layer, x, _, _ = drawn(seed)
    params = layer.init(seeded(), dtype=torch.float64)
    y, residuals = layer.forward(params, x)
    summands, weights = layer.backward.summands(residuals, normal(*y.shape, seed=1)), normal(N, seed=2)
    each = fn.tree.map(lambda summand: summand.each(), summands)
    for key, rows in each.items():
        assert summands[key].shape == rows.shape[1:]
        assert_close(summands[key].norms(torch.float64), rows.flatten(1).norm(dim=1), ROUNDING)
        assert_close(summands[key].weighted(weights), torch.einsum("n,n...->...", weights, rows), ROUNDING)
    assert_close(totals(summands), fn.tree.map(lambda rows: rows.sum(0), each), ROUNDING)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_dtype_of_the_operands_comes_out(dtype):
    layer = fn.conv2d(4, 6, 3, stride=2, padding=1, groups=2)
    params, x = layer.init(seeded(), dtype=dtype), normal(N, 4, 5, 6, dtype=dtype)
    y, residuals = layer.forward(params, x)
    pulled = layer.backward(residuals, torch.ones_like(y))
    assert {leaf.dtype for leaf in fn.tree.leaves((y, pulled))} == {dtype}


def test_all_start_alike_whatever_the_form_of_their_sizes():
    assert same_bits(fn.conv2d(2, 3, 4).init(seeded()), fn.conv2d(2, 3, [4, 4], stride=(1, 1)).init(seeded()))
    bound = max(leaf.abs().max() for leaf in fn.tree.leaves(fn.conv2d(8, 40, 5, groups=4).init(seeded())))
    assert 0.99 < bound * (2 * 5 * 5) ** 0.5 < 1


def test_lenet_has_the_parameters_and_the_gradients_of_its_namesake():
    layer = fn.lenet()
    params, x = layer.init(seeded(), dtype=torch.float64), normal(N, 1, 28, 28)
    assert sum(leaf.numel() for leaf in fn.tree.leaves(params)) == 61_706
    batch, objective = (x, torch.arange(N)), fn.supervised(layer, fn.softmax_cross_entropy())
    assert_close(fn.explicit(objective)(params, batch), fn.func_grad(objective)(params, batch), 1e-12)
    rows = fn.per_sample(fn.explicit(objective))(params, batch)
    assert_close(rows, fn.per_sample(fn.func_grad(objective))(params, batch), 1e-12)


IMAGES = fn.conv2d(2, 4, 3, padding=1)
PLACE = "inputs of conv2d(2, 4, 3, padding=1)"
SEQUENCES = fn.conv1d(2, 4, 5)


def called(layer, x):
    return lambda: layer(layer.init(seeded(), dtype=torch.float64), x)


# name: (a call, the place, what was found, what is needed)
WRONG = {
    "no channels": (lambda: fn.conv2d(0, 4, 3), "in_channels", "0", "positive integer"),
    "half a kernel": (lambda: fn.conv2d(2, 0.5, 3), "out_channels", "0.5", "positive integer"),
    "a kernel of no size": (lambda: fn.conv2d(2, 4, (3, 0)), "kernel_size", "0", "positive integer"),
    "a kernel of three axes": (lambda: fn.conv2d(2, 4, (3, 3, 3)), "kernel_size", "(3, 3, 3)", "each of 2 axes"),
    "two strides on one axis": (lambda: fn.conv1d(2, 4, 3, stride=(1, 1)), "stride", "(1, 1)", "one integer"),
    "a stride of 0": (lambda: fn.conv2d(2, 4, 3, stride=0), "stride", "0", "positive integer"),
    "a padding by name": (lambda: fn.conv2d(2, 4, 3, padding="same"), "padding", "'same'", "at least 0"),
    "a negative padding": (lambda: fn.conv2d(2, 4, 3, padding=-1), "padding", "-1", "at least 0"),
    "a dilation of 0": (lambda: fn.conv2d(2, 4, 3, dilation=0), "dilation", "0", "positive integer"),
    "groups of no size": (lambda: fn.conv2d(2, 4, 3, groups=0), "groups", "0", "positive integer"),
    "groups that do not divide the channels": (lambda: fn.conv2d(2, 6, 3, groups=3), "groups", "3", "divisor of 2"),
    "groups that do not divide the kernels": (lambda: fn.conv2d(4, 6, 3, groups=4), "groups", "4", "6 kernels"),
    "an image without its axis": (
        called(IMAGES, normal(2, 5, 5)),
        PLACE,
        "(2, 5, 5)",
        "(N, 2, H, W)",
    ),
    "channels last": (called(IMAGES, normal(N, 5, 5, 2)), PLACE, "(4, 5, 5, 2)", "(N, 2, H, W)"),
    "an image for a sequence": (
        called(SEQUENCES, normal(N, 2, 5, 5)),
        "inputs of conv1d(2, 4, 5)",
        "(4, 2, 5, 5)",
        "(N, 2, L)",
    ),
    "a sequence shorter than the kernel": (
        called(SEQUENCES, normal(N, 2, 4)),
        "inputs of conv1d(2, 4, 5)",
        "(4, 2, 4)",
        "5",
    ),
    "a kernel larger than its padded input": (
        called(fn.conv2d(2, 4, 5, padding=1, dilation=2), normal(N, 2, 7, 6)),
        "inputs of conv2d(2, 4, 5, padding=1, dilation=2)",
        "9 x 8 with its padding",
        "9 x 9, the extent of the kernel",
    ),
    "integers": (called(IMAGES, torch.ones(N, 2, 5, 5).long()), "inputs of params", "int64", "float64"),
    "weights of another kernel": (
        lambda: IMAGES(fn.conv2d(2, 4, 5).init(seeded()), normal(N, 2, 5, 5)),
        "params['w']",
        "(4, 2, 5, 5)",
        "(4, 2, 3, 3)",
    ),
    "a gradient of another image": (
        lambda: IMAGES.backward(IMAGES.forward(IMAGES.init(seeded()), torch.ones(N, 2, 5, 5))[1], torch.ones(N, 4, 4, 5)),
        "dy",
        "(4, 4, 4, 5)",
        "(4, 4, 5, 5)",
    ),
    "pooling with half a window of padding and more": (lambda: fn.max_pool2d(3, padding=2), "padding", "2", "at most half"),
    "pooling without a window": (lambda: fn.avg_pool2d(0), "kernel_size", "0", "positive integer"),
    "pooling without a step": (lambda: fn.max_pool2d(2, stride=0), "stride", "0", "positive integer"),
    "pooling of a matrix": (called(fn.avg_pool2d(2), normal(N, 3)), "inputs of avg_pool2d(2)", "(4, 3)", "(N, C, H, W)"),
    "a window larger than the image": (
        called(fn.max_pool2d(4, padding=1), normal(N, 1, 1, 9)),
        "inputs of max_pool2d(4, padding=1)",
        "3 x 11 with its padding",
        "4 x 4",
    ),
    "numbers without features": (called(fn.flatten(), normal(N)), "inputs of flatten()", "(4,)", "two axes"),
}


@pytest.mark.parametrize("name", WRONG)
def test_the_error_names_the_place_what_it_got_and_what_it_needs(name):
    call, *message = WRONG[name]
    with pytest.raises(fn.InputError) as caught:
        call()
    assert says(caught.value, *message)
