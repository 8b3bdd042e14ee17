"""Layers and losses beside torch's own operations, on the samples that torch itself tests these with."""

import pytest
import torch
from helpers import assert_close, normal

import funcnn as fn
from funcnn.layers.attention import attend

ROUNDING = 1e-10


def samples(name):
    """(operation, its arguments and keywords) of every sample of an operator in torch's database."""
    pytest.importorskip("expecttest")  # which importing torch's database needs
    from torch.testing._internal.common_methods_invocations import op_db

    operator = next(one for one in op_db if one.name == name and not one.variant_test_name)
    torch.manual_seed(0)
    for sample in operator.sample_inputs("cpu", torch.float64, requires_grad=True):
        arguments = sample.input, *sample.args
        if name == "nn.functional.scaled_dot_product_attention":  # of itself: there are as many keys as queries
            arguments = tuple(x[..., : sample.input.shape[-2], :].detach().requires_grad_() for x in arguments)
        if sample.input.numel():
            yield operator.op, (arguments, sample.kwargs)


def activation(make):
    return lambda x, *arguments, inplace=False, **options: (make(*arguments, **options), (), x)


def softmax(x, dim):
    return (fn.softmax(), (), x) if x.ndim and dim % x.ndim == x.ndim - 1 else None


def softplus(x, beta=1, threshold=20):  # of another sharpness, softplus(b x) / b, and linear from t on
    if not (beta * x < threshold).all():
        return None
    layer = fn.softplus()
    return fn.serial(layer), ((),), beta * x, lambda y: y / beta


def linear(x, w, b=None):
    params = {"w": w.T} if b is None else {"w": w.T, "b": b}
    return (fn.dense(*w.T.shape, bias=b is not None), params, x) if x.ndim > 1 else None


def convolution(make):
    def build(x, w, b=None, stride=1, padding=0, dilation=1, groups=1, bias=None):
        b, axes = bias if b is None else b, w.ndim - 2
        if x.ndim != w.ndim or isinstance(padding, str):
            return None
        sizes = ((*size,) if isinstance(size, (tuple, list)) else size for size in (stride, padding, dilation))
        options = dict(zip(("stride", "padding", "dilation"), sizes, strict=True))
        layer = make(groups * w.shape[1], len(w), tuple(w.shape[-axes:]), groups=groups, bias=b is not None, **options)
        return layer, {"w": w} if b is None else {"w": w, "b": b}, x

    return build


def maximum(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    if x.ndim < 4 or ceil_mode or return_indices or dilation not in (1, (1, 1)):
        return None
    return fn.max_pool2d(kernel_size, stride or None, padding), (), x


def mean(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None):
    plain = padding in (0, (0,), (0, 0)) and not ceil_mode and divisor_override is None
    return (fn.avg_pool2d(kernel_size, stride or None), (), x) if plain else None


def flatten(x, start_dim=0, end_dim=-1):
    return (fn.flatten(), (), x) if start_dim == 1 and x.ndim > 1 else None


def norm(make, default, shift=True):
    def build(x, shape, w=None, b=None, eps=None):
        eps = default if eps is None else eps
        if len(shape) > 1 or x.ndim < 2 or eps <= 0:
            return None
        ones = {"w": torch.ones(shape) if w is None else w}
        return make(*shape, eps), ones | ({"b": torch.zeros(shape) if b is None else b} if shift else {}), x

    return build


def scaled(x, w, b):
    return {"w": torch.ones(x.shape[1]) if w is None else w, "b": torch.zeros(x.shape[1]) if b is None else b}


def group_norm(x, groups, weight=None, bias=None, eps=1e-5):
    return (fn.group_norm(groups, x.shape[1], eps), scaled(x, weight, bias), x) if eps > 0 else None


def batch_norm(x, mean, variance, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    return (fn.batch_norm(x.shape[1], eps), scaled(x, weight, bias), x) if training and len(x) > 1 else None


def embedding(w, x, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False):
    plain = x.ndim and padding_idx is None and max_norm is None and not scale_grad_by_freq
    return (fn.embedding(*w.shape), {"w": w}, x) if plain else None


def attention(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False, enable_gqa=False):
    """The middle of attention, of queries, keys and values (N, heads, T, d)."""
    if q.ndim != 4 or attn_mask is not None or dropout_p or not q.shape == k.shape == v.shape:
        return None
    layer = attend(q.shape[1] * q.shape[3], q.shape[1], is_causal)
    qkv = torch.cat([part.transpose(1, 2).flatten(2) for part in (q, k, v)], -1)
    return layer, (), qkv, lambda y: y.unflatten(-1, (q.shape[1], -1)).transpose(1, 2)


def as_layer(loss, targets):
    return fn.Layer(
        lambda generator, **where: (),
        lambda params, outputs: loss.forward(outputs, targets),
        lambda residuals, dy: ((), dy * loss.backward(residuals)),
    )


def entropy(z, t, weight=None, reduction="mean", label_smoothing=0.0, ignore_index=-100):
    plain = weight is None and reduction == "mean" and not label_smoothing
    if not plain or t.is_floating_point() or (t == ignore_index).any():
        return None
    return as_layer(fn.softmax_cross_entropy(), t), (), z.movedim(1, -1)


# name of an operator of torch: of the arguments of a sample (layer, params, x), and where y lies otherwise how the operator
# has it; None where no layer is that function
OPERATORS = {
    "sigmoid": activation(fn.sigmoid),
    "tanh": activation(fn.tanh),
    "nn.functional.relu": activation(fn.relu),
    "nn.functional.gelu": activation(fn.gelu),
    "nn.functional.silu": activation(fn.silu),
    "nn.functional.leaky_relu": activation(lambda negative_slope=0.01: fn.leaky_relu(negative_slope)),
    "nn.functional.softplus": softplus,
    "softmax": softmax,
    "nn.functional.linear": linear,
    "nn.functional.conv1d": convolution(fn.conv1d),
    "nn.functional.conv2d": convolution(fn.conv2d),
    "nn.functional.max_pool2d": maximum,
    "nn.functional.avg_pool2d": mean,
    "flatten": flatten,
    "nn.functional.layer_norm": norm(fn.layer_norm, 1e-5),
    "nn.functional.rms_norm": norm(fn.rms_norm, torch.finfo(torch.float64).eps, shift=False),
    "nn.functional.group_norm": group_norm,
    "nn.functional.batch_norm": batch_norm,
    "nn.functional.embedding": embedding,
    "nn.functional.scaled_dot_product_attention": attention,
    "nn.functional.cross_entropy": entropy,
}


@pytest.mark.parametrize("name", OPERATORS)
def test_it_is_torchs_operation_and_its_autograd_on_every_sample_of_torchs_database(name):
    tried = 0
    for operation, sample in samples(name):
        leaves, unflatten = fn.tree.flatten(sample)
        own = [i for i, x in enumerate(leaves) if isinstance(x, torch.Tensor) and x.requires_grad]
        leaves = [x.detach() if isinstance(x, torch.Tensor) else x for x in leaves]

        def called(function, *tensors, leaves=leaves, own=own, unflatten=unflatten):
            arguments, options = unflatten([dict(zip(own, tensors, strict=True)).get(i, x) for i, x in enumerate(leaves)])
            return function(*arguments, **options)

        tensors = [leaves[i] for i in own]
        built = called(OPERATORS[name], *tensors)
        if built is None:
            continue
        layer, params, x, arranged = (*built, lambda y: y)[:4]
        y, residuals = layer.forward(params, x)
        placed, back = torch.func.vjp(arranged, y)
        expected, by_torch = torch.func.vjp(lambda *tensors, op=operation, call=called: call(op, *tensors), *tensors)
        dy = normal(*expected.shape)
        assert_close(placed, expected, ROUNDING)
        pulled = layer.backward(residuals, back(dy)[0])
        parts = 1 + x.is_floating_point()  # tokens have no gradient
        _, to_sample = torch.func.vjp(
            lambda *tensors, call=called, n=parts: call(OPERATORS[name], *tensors)[1 : 1 + n], *tensors
        )
        assert_close(to_sample(pulled[:parts]), by_torch(dy), ROUNDING)
        tried += 1
    assert tried
