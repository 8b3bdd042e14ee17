"""Networks that have a name."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Generator, Tensor

from .. import tree
from ..errors import InputError, check_count, describe
from ..memory import check_memory
from ..types import Layer, Params
from .activations import gelu, sigmoid, tanh
from .attention import attention
from .branches import residual
from .combine import serial
from .convolution import conv2d
from .dense import dense
from .embedding import embedding, positions
from .normalisation import layer_norm
from .pooling import avg_pool2d, flatten

BLOCK = 100_000  # bytes that the functions of a transformer's block take, about


def perceptron(in_features: int) -> Layer:
    """One sigmoid unit, y = s(X w + b): X (N, D), w (D, 1), b (1,), y (N, 1), the probability of class 1.

    Raises:
        InputError: in_features is no positive integer.
    """
    return serial(dense(in_features, 1), sigmoid())


def mlp(sizes: Sequence[int], activation: Callable[[], Layer] = sigmoid) -> Layer:
    """The fully connected network of any depth: x_i = y_{i-1}, a_i = x_i W_i + b_i, y_i = f(a_i).

    The last layer stays affine: its outputs (N, sizes[-1]) are logits. `activation` is a constructor such as `relu`.

    Raises:
        InputError: fewer than two sizes, or one that is no positive integer; activation is no constructor of layers.
    """
    if not isinstance(sizes, Sequence) or isinstance(sizes, str) or len(sizes) < 2:
        raise InputError("sizes", describe(sizes) if isinstance(sizes, str) else sizes, "at least two sizes")
    for index, size in enumerate(sizes):
        check_count(f"sizes[{index}]", size)
    try:
        made = None if isinstance(activation, Layer) else activation()
    except TypeError:
        made = None
    if not isinstance(made, Layer):
        raise InputError("activation", describe(activation), "a constructor of layers, as relu and not relu()")
    layers = [layer for size, following in pairwise(sizes) for layer in (dense(size, following), activation())]
    return serial(*layers[:-1])


def autoencoder(sizes: Sequence[int], activation: Callable[[], Layer] = sigmoid) -> Layer:
    """Encoder sizes[0] -> sizes[-1], then its mirror image: two mlps in series, so code and reconstruction are affine.

    The parameters are (encoder's, decoder's): the code of x is `apply(mlp(sizes, activation), params[0], x)`.

    Raises:
        InputError: as `mlp`.
    """
    encoder = mlp(sizes, activation)
    return serial(encoder, mlp(list(reversed(sizes)), activation))


def lenet() -> Layer:
    """LeNet-5 on images (N, 1, 28, 28): logits of ten classes, from 61,706 parameters.

    Two convolutions of 5 x 5, to 6 channels with the image kept at its size and then to 16, each with tanh and the mean of
    every 2 x 2; then an mlp on the 400 numbers that are left. As in LeCun, Bottou, Bengio & Haffner, "Gradient-based
    learning applied to document recognition" (1998), section II.B, with the mean in place of
    a mean that is scaled and shifted by parameters, every channel met by every kernel, and logits in place of distances to
    drawn digits.
    """
    return serial(
        conv2d(1, 6, 5, padding=2),
        tanh(),
        avg_pool2d(2),
        conv2d(6, 16, 5),
        tanh(),
        avg_pool2d(2),
        flatten(),
        *(dense(400, 120), tanh(), dense(120, 84), tanh(), dense(84, 10)),
    )


def transformer(vocabulary: int, length: int, features: int, heads: int, depth: int) -> Layer:
    """The decoder of a small GPT: tokens (N, T), T of at most `length`, to logits (N, T, V) of the token that follows each.

        x = embedding + position        x = x + attention(norm(x))        x = x + W_2 gelu(W_1 norm(x))        norm(x) W

    the middle two `depth` times, with causal attention and 4 D features between W_1 and W_2. As in Radford et al., "Language
    models are unsupervised multitask learners" (2019), matrices start normal with deviation 0.02, those that end a residual
    with 0.02 / sqrt(2 depth), so that their sum does not grow with depth; biases start at 0. The matrix of the logits is not
    that of the embedding.

    Raises:
        InputError: a size is no positive integer, heads do not divide the features, or no memory holds so many blocks.
    """
    depth = check_count("depth", depth)
    check_memory("depth", f"{depth} blocks", BLOCK * depth)
    end = 0.02 / math.sqrt(2 * depth)

    def block() -> tuple[Layer, Layer]:
        attend = _drawn(attention(features, heads, causal=True), end, 0.02)
        widen, narrow = _drawn(dense(features, 4 * features), 0.02), _drawn(dense(4 * features, features), end)
        return (
            residual(serial(layer_norm(features), attend)),
            residual(serial(layer_norm(features), widen, gelu(), narrow)),
        )

    return serial(
        _drawn(embedding(vocabulary, features), 0.02),
        _drawn(positions(length, features), 0.02),
        *(half for _ in range(depth) for half in block()),
        layer_norm(features),
        _drawn(dense(features, vocabulary), 0.02),
    )


def _drawn(layer: Layer, *deviations: float) -> Layer:
    """The same layer whose matrices start normal with these deviations, in the order of its leaves, and its biases at 0."""

    def init(generator: Generator, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Params:
        leaves, unflatten = tree.flatten(layer.init(generator, dtype=dtype, device=device))
        rest = iter(deviations)

        def start(leaf: Tensor) -> Tensor:
            if leaf.ndim < 2:
                return torch.zeros_like(leaf)
            w = torch.randn(leaf.shape[::-1], generator=generator, dtype=torch.float64, device=generator.device)
            return (next(rest) * w.T).to(leaf)

        return unflatten([start(leaf) for leaf in leaves])

    return layer._replace(init=init)
