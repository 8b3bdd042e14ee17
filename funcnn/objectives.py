"""Objectives: what is minimised. A layer and a loss make one; so does any function of (params, batch)."""

import torch
from torch import Tensor

from .errors import InputError, check_batch, describe
from .models import apply, params_rule
from .types import Batch, Known, Layer, Loss, Objective, Params


def pair(batch: Batch) -> tuple[Tensor, Tensor]:
    """The inputs and the targets of a batch. Raises InputError unless it is a pair."""
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise InputError("batch", describe(batch), "a pair (inputs, targets)")
    inputs, targets = batch
    return inputs, targets


def supervised(layer: Layer, loss: Loss) -> Objective:
    """The objective L(params) = loss(layer(params, inputs), targets) on batches (inputs, targets).

    Its hand-derived gradient composes those of the layer and the loss: the loss gives dL/doutputs, the layer pulls it
    back to its parameters. The gradient with respect to the inputs is never formed.

    Raises:
        InputError: layer is no Layer or loss no Loss; when evaluated, the batch is no pair, or the layer or the loss
            refuses what it is given.
    """
    for place, part, kind, needs in (("layer", layer, Layer, "mlp([4, 3])"), ("loss", loss, Loss, "half_squared_error()")):
        if not isinstance(part, kind):
            raise InputError(f"supervised({place})", describe(part), f"a {kind.__name__}, such as {needs}")
    gradient = params_rule(layer)

    def value(params: Params, batch: Batch) -> Tensor:
        inputs, targets = pair(batch)
        return loss.forward(apply(layer, params, inputs), targets)[0]

    def value_and_grad(params: Params, batch: Batch) -> tuple[Tensor, Params]:
        inputs, targets = pair(batch)
        outputs, residuals = layer.forward(params, inputs)
        loss_value, loss_residuals = loss.forward(outputs, targets)
        return loss_value, gradient(residuals, loss.backward(loss_residuals))

    return Objective(value, value_and_grad, Known((value, value_and_grad), {"parts": (layer, loss)}))


def accuracy(layer: Layer, params: Params, batch: Batch) -> Tensor:
    """The share of a batch that is classified correctly, shape ().

    One output is the probability of class 1, decided at 1/2, with targets 0 or 1 of shape (N, 1) or (N,). Several are
    logits or probabilities (N, C), decided by the largest, with integer labels (N,).

    Raises:
        InputError: targets of another shape or dtype, no samples, or whatever the layer refuses.
    """
    check_batch(batch)
    inputs, targets = pair(batch)
    outputs = apply(layer, params, inputs)
    one = outputs.shape[1] == 1
    if targets.shape != outputs.shape[:1] and not (one and targets.shape == outputs.shape):
        raise InputError("targets", describe(targets), f"shape {tuple(outputs.shape[:1])}")
    if not one and targets.dtype != torch.int64:
        raise InputError("targets", describe(targets), "class labels of int64")
    predicted = (outputs > 0.5).reshape(targets.shape) if one else outputs.argmax(1)
    correct: Tensor = predicted == targets
    return correct.double().mean()
