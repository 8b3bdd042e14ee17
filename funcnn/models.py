"""Networks: layers composed into a layer.

`serial` applies the chain rule once, for every network that there will ever be: forward from left to right keeping the
residuals, backward from right to left using them. What it returns is itself a layer, so networks nest.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Generator, Tensor

from .errors import InputError, check_count, describe
from .layers import dense, sigmoid
from .types import Known, Layer, Params, Residuals


def serial(*layers: Layer) -> Layer:
    """The composition y = f_k(... f_2(f_1(x))). Parameters and residuals are the tuples of the layers'.

    The chain rule runs it backwards: dy_{i-1} = (df_i/dx_i)^T dy_i, each layer's own `backward`.

    Raises:
        InputError: there are no layers; the parameters are no tuple of one entry per layer; a layer refuses its own.
    """
    if not layers:
        raise InputError("serial(*layers)", "none", "at least one layer")
    for index, layer in enumerate(layers):
        if not isinstance(layer, Layer):
            raise InputError(f"serial(*layers)[{index}]", describe(layer), "a Layer, as relu() and not relu")
    first, *rest = layers
    first_params_rule = params_rule(first)

    def init(generator: Generator, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Params:
        return tuple(layer.init(generator, dtype=dtype, device=device) for layer in layers)

    def forward(params: Params, x: Tensor) -> tuple[Tensor, Residuals]:
        if not isinstance(params, tuple) or len(params) != len(layers):
            got = f"a tuple of {len(params)}" if isinstance(params, tuple) else describe(params)
            raise InputError("params", got, f"a tuple of {len(layers)}, one entry per layer")
        residuals = []
        for index, layer in enumerate(layers):
            try:
                x, kept = layer.forward(params[index], x)
            except InputError as error:
                raise error.inside(index) from None
            residuals.append(kept)
        return x, tuple(residuals)

    def backward_rest(residuals: Residuals, dy: Tensor) -> tuple[list[Params], Tensor]:
        grads = []
        for layer, kept in zip(reversed(rest), reversed(residuals[1:]), strict=True):
            dparams, dy = layer.backward(kept, dy)
            grads.append(dparams)
        return grads[::-1], dy

    def backward(residuals: Residuals, dy: Tensor) -> tuple[Params, Tensor]:
        grads, dy = backward_rest(residuals, dy)
        dparams, dx = first.backward(residuals[0], dy)
        return (dparams, *grads), dx

    def backward_params(residuals: Residuals, dy: Tensor) -> Params:
        grads, dy = backward_rest(residuals, dy)
        return (first_params_rule(residuals[0], dy), *grads)

    facts = {"backward_params": backward_params, "structure": layers}
    return Layer(init, forward, backward, Known((forward, backward), facts))


def chain(layer: Layer, params: Params) -> list[tuple[Layer, Params]]:
    """The layers that run one after the other, serials taken apart, each with its own parameters."""
    if not isinstance(layer.structure, tuple):
        return [(layer, params)]
    return [link for inner, own in zip(layer.structure, params, strict=True) for link in chain(inner, own)]


def is_known(layer: Layer) -> bool:
    """Whether every layer in it says what it is, so that its gradients are known to fit its parameters."""
    return all(map(is_known, layer.structure)) if isinstance(layer.structure, tuple) else layer.structure is not None


def params_rule(layer: Layer) -> Callable[[Residuals, Tensor], Params]:
    """The rule (residuals, dy) -> dL/dparams alone, without dL/dx where the layer knows how to do without."""
    return layer.backward_params or (lambda residuals, dy: layer.backward(residuals, dy)[0])


def apply(layer: Layer, params: Params, x: Tensor) -> Tensor:
    """The output y alone, for those who want a prediction. Raises what the layer's forward raises."""
    return layer.forward(params, x)[0]


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
        InputError: fewer than two sizes, or one that is no positive integer.
    """
    if not isinstance(sizes, Sequence) or len(sizes) < 2:
        raise InputError("sizes", sizes, "at least two sizes, those of the input and of the output")
    for index, size in enumerate(sizes):
        check_count(f"sizes[{index}]", size)
    if not callable(activation):
        raise InputError("activation", describe(activation), "a constructor, as relu and not relu()")
    layers = [layer for size, following in pairwise(sizes) for layer in (dense(size, following), activation())]
    return serial(*layers[:-1])


def autoencoder(sizes: Sequence[int], activation: Callable[[], Layer] = sigmoid) -> Layer:
    """Encoder sizes[0] -> sizes[-1], then its mirror image: two mlps in series, so code and reconstruction are affine.

    The parameters are (encoder's, decoder's): the code of x is `apply(mlp(sizes, activation), params[0], x)`.

    Raises:
        InputError: as `mlp`.
    """
    return serial(mlp(sizes, activation), mlp(list(reversed(sizes)), activation))
