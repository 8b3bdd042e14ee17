"""Networks that have a name."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from ..errors import InputError, check_count, describe
from ..types import Layer
from .activations import sigmoid, tanh
from .combine import serial
from .convolution import conv2d
from .dense import dense
from .pooling import avg_pool2d, flatten


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
