"""Layers: what they return of parameters, inputs and an upstream gradient, beside torch's own operations."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

import funcnn as fn
from experiments.fuzz import formulas
from experiments.fuzz.case import Call
from experiments.fuzz.formulas import affine, pulled, series, torchs

Draw = Callable[[Generator], Tensor]


def row(
    make: Callable[..., fn.Layer],
    sizes: tuple[Any, ...],
    formula: Callable[..., Tensor],
    *shape: int,
    x: Draw | None = None,
    **more: Any,
) -> Call:
    """The call of a constructor, then of the rules of what it made; the arguments are (*sizes, params, x, dy).

    The formula is one of (params, x, *sizes), or of (params, x) alone where there are no sizes.
    """

    def draw(generator: Generator) -> tuple[Any, ...]:
        dtype = torch.float64 if torch.rand((), generator=generator) < 0.7 else torch.float32
        layer = make(*sizes)
        params = layer.init(generator, dtype=dtype)
        inputs = torch.randn(shape, generator=generator, dtype=dtype) if x is None else x(generator)
        y = layer(params, inputs)
        return *sizes, params, inputs, torch.randn(y.shape, generator=generator, dtype=dtype)

    def run(*arguments: Any) -> Any:
        *given, params, inputs, dy = arguments
        layer = make(*given)
        y, residuals = layer.forward(params, inputs)
        return y, *layer.backward(residuals, dy)

    def truth(*arguments: Any) -> Any:
        *given, params, inputs, dy = arguments
        return pulled(lambda params, x: formula(params, x, *given), params, inputs, dy)

    return Call(draw, run, truth, **more)


def words(classes: int, *shape: int) -> Draw:
    """Tokens."""
    return lambda generator: torch.randint(classes, shape, generator=generator)


def sized(formula: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The formula of a layer whose sizes are those of its operands."""
    return lambda params, x, *sizes: formula(params, x)


def convolved(function: Any) -> Callable[..., Tensor]:
    """A convolution of torch."""
    return lambda params, x, i, o, kernel, stride, padding, dilation, groups, bias: function(
        x, params["w"], params.get("b"), stride, padding, dilation, groups
    )


def convolution(make: Any) -> Callable[..., fn.Layer]:
    """The constructor with all of its arguments by place."""
    return lambda i, o, kernel, stride, padding, dilation, groups, bias: make(
        i, o, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups, bias=bias
    )


def _dropout(params: Any, pair: Any, rate: float) -> Tensor:
    raise NotImplementedError


ELEMENTWISE = {
    "sigmoid": (fn.sigmoid, torch.sigmoid),
    "tanh": (fn.tanh, torch.tanh),
    "relu": (fn.relu, torch.relu),
    "silu": (fn.silu, F.silu),
    "softplus": (fn.softplus, F.softplus),
    "softmax": (fn.softmax, lambda x: x.softmax(-1)),
    "flatten": (fn.flatten, lambda x: x.flatten(1)),
}
LENET = series(
    lambda p, x: F.conv2d(x, p["w"], p["b"], padding=2),
    torchs(torch.tanh),
    torchs(lambda x: F.avg_pool2d(x, 2)),
    lambda p, x: F.conv2d(x, p["w"], p["b"]),
    *(torchs(torch.tanh), torchs(lambda x: F.avg_pool2d(x, 2)), torchs(lambda x: x.flatten(1))),
    *(affine, torchs(torch.tanh), affine, torchs(torch.tanh), affine),
)
NET = series(affine, torchs(torch.sigmoid), affine)

ROWS = {
    **{name: row(make, (), torchs(function), 3, 4) for name, (make, function) in ELEMENTWISE.items()},
    "gelu": row(fn.gelu, ("tanh",), lambda params, x, how: torchs(lambda x: F.gelu(x, approximate=how))(params, x), 3, 4),
    "gelu, exact": row(fn.gelu, (), torchs(F.gelu), 3, 4),
    "leaky_relu": row(
        fn.leaky_relu, (0.1,), lambda params, x, slope: torchs(lambda x: F.leaky_relu(x, float(slope)))(params, x), 3, 4
    ),
    "dense": row(fn.dense, (4, 3), sized(affine), 5, 4),
    "dense, on tokens": row(fn.dense, (4, 3), sized(affine), 2, 3, 4),
    "dense, without bias": row(lambda d, h, bias: fn.dense(d, h, bias=bias), (4, 3, False), sized(affine), 5, 4),
    "conv1d": row(convolution(fn.conv1d), (4, 6, 3, 2, 1, 1, 2, True), convolved(F.conv1d), 2, 4, 7),
    "conv2d": row(convolution(fn.conv2d), (2, 3, (3, 2), 1, (1, 0), 2, 1, True), convolved(F.conv2d), 2, 2, 6, 5),
    "max_pool2d": row(
        fn.max_pool2d, (2, 1, 1), lambda p, x, k, s, pad: torchs(lambda x: F.max_pool2d(x, k, s, pad))(p, x), 2, 2, 5, 4
    ),
    "avg_pool2d": row(
        fn.avg_pool2d, ((2, 3), 2), lambda p, x, k, s: torchs(lambda x: F.avg_pool2d(x, k, s))(p, x), 2, 2, 5, 4
    ),
    "layer_norm": row(
        fn.layer_norm, (4, 1e-5), lambda p, x, d, eps: formulas.layer_norm(p, x, eps), 3, 4, power=0.5, spreads=True
    ),
    "rms_norm": row(
        fn.rms_norm, (4, 1e-6), lambda p, x, d, eps: formulas.rms_norm(p, x, eps), 3, 4, power=0.5, spreads=True
    ),
    "group_norm": row(
        fn.group_norm, (2, 4, 1e-5), lambda p, x, g, c, eps: F.group_norm(x, g, p["w"], p["b"], eps), 2, 4, 3, power=0.5
    ),
    "batch_norm": row(
        fn.batch_norm, (4, 1e-5), lambda p, x, d, eps: formulas.batch_norm(p, x, eps), 5, 4, power=0.5, spreads=True
    ),
    "embedding": row(fn.embedding, (7, 3), sized(lambda p, x: F.embedding(x, p["w"])), x=words(7, 4, 3)),
    "positions": row(fn.positions, (5, 4), sized(lambda p, x: x + p["w"][: x.shape[1]]), 2, 3, 4),
    "attention": row(
        lambda d, h, causal: fn.attention(d, h, causal=causal),
        (6, 2, True),
        lambda p, x, d, h, causal: formulas.attention(p, x, h, causal),
        2,
        4,
        6,
    ),
    "rnn": row(fn.rnn, (3, 2), formulas.recurrent(nn.RNN), 2, 4, 3),
    "gru": row(fn.gru, (3, 2), formulas.recurrent(nn.GRU), 2, 4, 3),
    "lstm": row(fn.lstm, (3, 2), formulas.recurrent(nn.LSTM), 2, 4, 3),
    "perceptron": row(fn.perceptron, (4,), sized(series(affine, torchs(torch.sigmoid))), 5, 4),
    "mlp": row(lambda *sizes: fn.mlp(sizes), (4, 3, 2), sized(NET), 5, 4),
    "mlp, of a list": row(fn.mlp, ([4, 3, 2], fn.relu), sized(series(affine, torchs(torch.relu), affine)), 5, 4),
    "autoencoder": row(lambda *sizes: fn.autoencoder(sizes), (4, 3, 2), sized(series(NET, NET)), 5, 4),
    "lenet": row(fn.lenet, (), LENET, 1, 1, 28, 28, power=0.5, rare=2),
    "transformer": row(fn.transformer, (7, 4, 4, 2, 1), formulas.transformer, x=words(7, 2, 3), power=0.4, rare=2),
    "serial": row(fn.serial, (fn.dense(4, 3), fn.tanh()), sized(series(affine, torchs(torch.tanh))), 5, 4),
    "residual": row(fn.residual, (fn.dense(4, 4),), sized(lambda p, x: x + affine(p, x)), 5, 4),
    "parallel": row(
        fn.parallel,
        (fn.dense(4, 3), fn.tanh()),
        sized(lambda p, x: torch.cat([affine(p[0], x), torchs(torch.tanh)(p[1], x)], -1)),
        5,
        4,
    ),
    "rematerialised": row(fn.rematerialised, (fn.mlp([4, 3, 2]),), sized(NET), 5, 4),
    "dropout": row(fn.dropout, (0.3,), lambda p, x, rate: torchs(lambda x: x * 1)(p, x), 3, 4),
}
