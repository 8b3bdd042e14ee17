"""Per-sample gradients by one ordinary backward pass, because a dense layer keeps them in factored form.

The gradient of a batch is a sum over its samples, and a dense layer forms the summands and the sum in one product:

    dL/dW = X^T dY = sum_n x_n dy_n^T      x_n (D,), dy_n (H,), the rows of X (N, D) and dY (N, H)

If row n of dY is the gradient of sample n's own loss, and no layer mixes rows, then term n is the gradient of that loss
with respect to W. So the forward and the backward pass are those of the batch; only the last sum is left out, and the
rank-one terms are kept as their factors, `Outer(X, dY)`, N (D + H) numbers instead of N D H. From these follow

    the gradients    x_n dy_n^T and dy_n                            (N, D, H) and (N, H)
    their norms      |x_n dy_n^T|^2 = |x_n|^2 |dy_n|^2, with the bias (|x_n|^2 + 1) |dy_n|^2        (N,)
    weighted sums    sum_n c_n x_n dy_n^T = X^T (c * dY) and sum_n c_n dy_n = dY^T c                (D, H) and (H,)

and only the first ever takes memory for N gradients. The second is Goodfellow's: "Efficient per-example gradient
computations" (2015), arXiv:1510.01799.

A layer that says nothing of its structure may mix rows, so it is vmapped over batches of one, and keeps its per-sample
gradients as they are. Other layers of the same network do not suffer from it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from . import kernels, tree
from .errors import InputError, check_batch, check_like, check_params, check_value, describe
from .models import params_rule, serial
from .objectives import pair
from .types import Batch, Known, Layer, Loss, Params, Residuals, Tree


@dataclass(frozen=True)
class Outer:
    """The N matrices x_n dy_n^T of shape (D, H), not multiplied out. No NamedTuple, so that trees take it for a leaf."""

    x: Float[Tensor, "N D"]
    dy: Float[Tensor, "N H"]


Factored: TypeAlias = Tree  # per-sample gradients: a tree like the parameters', of Outer and of tensors with a leading N


def formed(gradient: Outer | Tensor) -> Tensor:
    """The per-sample gradients of one parameter, with a leading N; those of W are laid out in memory as W is."""
    return (gradient.dy[:, :, None] * gradient.x[:, None, :]).mT if isinstance(gradient, Outer) else gradient


def norms(gradient: Outer | Tensor) -> Float[Tensor, " N"]:
    """|g_n| for the per-sample gradients of one parameter."""
    if isinstance(gradient, Outer):
        return norms(gradient.x) * norms(gradient.dy)
    axes = tuple(range(1, gradient.ndim))
    own: Tensor = torch.linalg.vector_norm(gradient, dim=axes) if axes else gradient.abs()
    return own


def weighted_sum(weights: Float[Tensor, " N"], gradient: Outer | Tensor) -> Tensor:
    """The sum over n of c_n g_n for the per-sample gradients of one parameter."""
    if isinstance(gradient, Outer):
        return kernels.matmul((weights[:, None] * gradient.dy).T, gradient.x).T
    weights = weights.to(gradient.dtype)
    total: Tensor = weights @ gradient if gradient.ndim < 3 else torch.tensordot(weights, gradient, dims=1)
    return total


def backpropagation(layer: Layer, loss: Loss) -> Callable[[Params, Batch], tuple[Tensor, Factored]]:
    """The function (params, batch) -> (values (N,), per-sample gradients in factored form), every input checked.

    Raises (when called):
        InputError: what the explicit provider refuses.
    """
    network, sample_losses = unsummed(layer), _sample_losses(loss)
    gradients = params_rule(network)

    def values_and_gradients(params: Params, batch: Batch) -> tuple[Tensor, Factored]:
        check_params(params)
        check_batch(batch)
        inputs, targets = pair(batch)
        outputs, residuals = network.forward(params, inputs)
        values, doutputs = sample_losses(outputs, targets)
        return values, gradients(residuals, doutputs)

    return values_and_gradients


def per_sample_gradients(layer: Layer, loss: Loss) -> Callable[[Params, Batch], tuple[Tensor, Params]]:
    """The function (params, batch) -> (values (N,), gradients with a leading N). Raises what `backpropagation` raises."""
    values_and_gradients = backpropagation(layer, loss)

    def formed_gradients(params: Params, batch: Batch) -> tuple[Tensor, Params]:
        values, gradients = values_and_gradients(params, batch)
        return values, tree.map(formed, gradients)

    return formed_gradients


def unsummed(layer: Layer) -> Layer:
    """The same layer without the sum over the batch: dparams are per-sample gradients in factored form."""
    if isinstance(layer.structure, tuple):
        return serial(*map(unsummed, layer.structure))
    if layer.structure == "elementwise":
        return layer
    return _factored_dense(layer) if layer.structure == "dense" else _vmapped_layer(layer)


def _factored_dense(layer: Layer) -> Layer:
    def forward(params: Params, x: Tensor) -> tuple[Tensor, Residuals]:
        return layer.forward(params, x)[0], (x, params)

    def backward_params(residuals: Residuals, dy: Tensor) -> Factored:
        x, params = residuals
        if dy.shape != (x.shape[0], params["w"].shape[1]):
            raise InputError("dy", describe(dy), f"shape {(x.shape[0], params['w'].shape[1])}")
        return {"w": Outer(x, dy)} | ({"b": dy} if "b" in params else {})

    def backward(residuals: Residuals, dy: Tensor) -> tuple[Factored, Tensor]:
        return backward_params(residuals, dy), kernels.matmul(dy, residuals[1]["w"].T)

    return Layer(layer.init, forward, backward, Known((forward, backward), {"backward_params": backward_params}))


def _vmapped_layer(layer: Layer) -> Layer:
    def forward(params: Params, x: Tensor) -> tuple[Tensor, Residuals]:
        y, residuals = torch.func.vmap(lambda row: layer.forward(params, row[None]))(x)
        return y.squeeze(1), (residuals, params)

    def backward_params(residuals: Residuals, dy: Tensor) -> Factored:
        kept, params = residuals

        def alone(kept: Residuals, row: Tensor) -> Params:
            grads = params_rule(layer)(kept, row[None])
            check_like("grads", grads, params)
            return grads

        return torch.func.vmap(alone)(kept, dy)

    def backward(residuals: Residuals, dy: Tensor) -> tuple[Factored, Tensor]:
        dx = torch.func.vmap(lambda kept, row: layer.backward(kept, row[None])[1])(residuals[0], dy)
        return backward_params(residuals, dy), dx.squeeze(1)

    return Layer(layer.init, forward, backward, Known((forward, backward), {"backward_params": backward_params}))


def _sample_losses(loss: Loss) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    terms, slopes = loss.terms, loss.slopes

    def known(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        assert terms is not None and slopes is not None
        values, residuals = terms(outputs, targets)
        return values, slopes(residuals)

    def alone(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        value, residuals = loss.forward(outputs[None], tree.map(lambda leaf: leaf[None], targets))
        check_value("loss.forward(outputs, targets)[0]", value)
        return value, loss.backward(residuals).squeeze(0)

    return torch.func.vmap(alone) if terms is None or slopes is None else known
