"""Networks that have a name."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from ..errors import InputError, check_count, describe
from ..types import Layer
from .activations import sigmoid
from .combine import serial
from .dense import dense


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
