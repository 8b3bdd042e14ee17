"""Objectives: what is minimised. A layer and a loss make one; so does any function of (params, batch)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import tree
from .errors import InputError, check_pair, check_tensor, check_value, describe, is_floating, of_call
from .layers.combine import apply, by_summands
from .layers.factors import Summands
from .layers.frozen import keeping, of_trained
from .layers.pullbacks import gradient, parts, ran, ran_once
from .losses import Mean, MeanSlopes, check_labels
from .operands import check_batch, check_like, check_params
from .types import Batch, ForwardRule, Inputs, Layer, Loss, LossRule, Objective, Params, Residuals, name


class Keys(NamedTuple):
    """Where the inputs and the targets stand in a batch: by default it is the pair of them."""

    inputs: Any = 0
    targets: Any = 1

    def __call__(self, batch: Batch) -> tuple[Inputs, Tensor]:
        """(batch[inputs], batch[targets]). Raises InputError where there are no such parts."""
        if self == (0, 1) and not (isinstance(batch, (tuple, list)) and len(batch) == 2):
            raise InputError("batch", describe(batch), "a pair (inputs, targets), or their keys: inputs=key, targets=key")
        inputs, targets = (self._at(batch, key) for key in self)
        return inputs, targets

    @staticmethod
    def _at(batch: Batch, key: Any) -> Any:
        try:
            if isinstance(batch, (dict, tuple, list)):
                return batch[key]
        except (KeyError, IndexError, TypeError):
            pass
        found = f"a dict of {', '.join(map(repr, batch))}" if isinstance(batch, dict) else describe(batch)
        raise InputError("batch", found, f"a dict or a tuple with the part {key!r}")

    def __repr__(self) -> str:
        """As they are given to supervised."""
        return "" if self == (0, 1) else f", {self.inputs!r}, {self.targets!r}"


class Composed(NamedTuple):
    """The value of a loss of the outputs of a layer, a function of (params, batch): of forward rules alone."""

    layer: ForwardRule
    loss: LossRule
    keys: Keys = Keys()

    def __call__(self, params: Params, batch: Batch) -> Tensor:
        """L = loss(layer(params, inputs), targets)."""
        inputs, targets = self.keys(batch)
        return evaluated(self.loss, ran(self.layer, params, inputs)[0], targets)[0]

    def __repr__(self) -> str:
        """Both of them."""
        return f"supervised({name(self.layer)}, {name(self.loss)}{self.keys!r})"


class Backpropagated(NamedTuple):
    """The value and the hand-derived gradient of the same: the loss gives dL/doutputs, the layer pulls it back."""

    layer: Layer
    loss: Loss
    keys: Keys = Keys()

    def __call__(self, params: Params, batch: Batch) -> tuple[Tensor, Params]:
        """(params, batch) -> (value, grads)."""
        inputs, targets = self.keys(batch)
        outputs, residuals = ran_once(self.layer.forward, params, inputs)
        value, kept = evaluated(self.loss.forward, outputs, targets)
        doutputs = sent(self.loss.backward, kept)
        del outputs, kept  # of a large vocabulary the largest tensors that there are
        return value, gradient(self.layer.backward, residuals, doutputs, False)[0]

    def of_some(self, params: Params, batch: Batch, trained: list[bool]) -> tuple[Tensor, list[Tensor]]:
        """The value, and the gradients of the trained leaves alone."""
        inputs, targets = self.keys(batch)
        outputs, residuals = keeping(params, trained)(self.layer.forward, params, inputs)
        value, kept = evaluated(self.loss.forward, outputs, targets)
        grads, _ = of_trained(self.layer.backward, residuals, self.loss.backward(kept), False)
        return value, chosen(grads, params, trained)

    def by_samples(self) -> Callable[[Params, Batch], tuple[Tensor, Summands]]:
        """The values (N,) and the gradients of the samples, by one backward pass: (params, batch) -> (values, summands).

        Row n of dL/doutputs, before the mean, is what sample n alone would give; see `layers.factors`.
        """
        layer = by_summands(self.layer)

        def values_and_summands(params: Params, batch: Batch) -> tuple[Tensor, Summands]:
            inputs, targets = self.keys(batch)
            outputs, residuals = ran_once(layer.forward, params, inputs)
            values, doutputs = self._terms(outputs, targets)
            return values, parts(layer.backward, residuals, doutputs, False)[0]

        return values_and_summands

    def _terms(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        forward, backward = self.loss
        if isinstance(forward, Mean) and isinstance(backward, MeanSlopes):
            values, residuals = forward.each(outputs, targets)
            return values, backward.each(residuals)

        def alone(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
            value, residuals = evaluated(forward, outputs[None], tree.map(lambda leaf: leaf[None], targets))
            return value, backward(residuals).squeeze(0)

        mapped: tuple[Tensor, Tensor] = torch.func.vmap(alone)(outputs, targets)
        return mapped

    def __repr__(self) -> str:
        """Both of them."""
        return f"supervised({self.layer!r}, {self.loss!r}{self.keys!r})"


def of_some(rule: Any, params: Params, batch: Batch, trained: list[bool]) -> tuple[Tensor, list[Tensor]]:
    """The value and the gradients of some leaves, by a rule of these where there is one, else by that of all."""
    if hasattr(rule, "of_some"):
        found: tuple[Tensor, list[Tensor]] = rule.of_some(params, batch, trained)
        return found
    value, grads = rule(params, batch)
    return value, chosen(grads, params, trained)


def chosen(grads: Params, params: Params, trained: list[bool]) -> list[Tensor]:
    """The gradients of the trained leaves, from a tree like the parameters; InputError where it is none."""
    try:
        leaves = tree.leaves(tree.arranged(grads, params))
    except ValueError:
        leaves, _ = check_like("grads", grads, params)
    return [gradient for gradient, own in zip(leaves, trained, strict=True) if own]


def evaluated(forward: LossRule, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Residuals]:
    """What the forward rule of a loss returns. Raises InputError where that is no scalar with its residuals."""
    try:
        result: tuple[Tensor, Residuals] = forward(outputs, targets)
    except (TypeError, ValueError) as error:
        raise of_call("loss.forward(outputs, targets)", error, 2) from None
    check_pair("loss.forward(outputs, targets)", result, "(value, residuals)")
    if not (isinstance(result[0], Tensor) and result[0].is_complex()):
        check_value("loss.forward(outputs, targets)[0]", result[0])
    return result


def sent(backward: Callable[[Residuals], Tensor], residuals: Residuals) -> Tensor:
    """What the pullback of a loss returns. Raises InputError where it does not take the residuals."""
    try:
        return backward(residuals)
    except (TypeError, ValueError) as error:
        raise of_call("loss.backward(residuals)", error, 1) from None


def supervised(layer: Layer, loss: Loss, inputs: Any = 0, targets: Any = 1) -> Objective:
    """The objective L(params) = loss(layer(params, inputs), targets) on batches (inputs, targets).

    Its hand-derived gradient composes those of the layer and the loss: the loss gives dL/doutputs, the layer pulls it
    back to its parameters. The gradient with respect to the inputs is never formed.

    Args:
        layer: What computes the outputs.
        loss: What they are worth.
        inputs: Their key in a batch that is more than a pair, as in a dict `{"image": x, "label": t, ...}`.
        targets: The same for the targets.

    Raises:
        InputError: layer is no Layer or loss no Loss; when evaluated, the batch is no pair or lacks a key, or the layer or
            the loss refuses what it is given.
    """
    for place, part, kind, needs in (("layer", layer, Layer, "mlp([4, 3])"), ("loss", loss, Loss, "half_squared_error()")):
        if not isinstance(part, kind):
            raise InputError(f"supervised({place})", describe(part), f"a {kind.__name__}, such as {needs}")
    keys = Keys(inputs, targets)
    return Objective(Composed(layer.forward, loss.forward, keys), Backpropagated(layer, loss, keys))


def accuracy(layer: Layer, params: Params, batch: Batch, inputs: Any = 0, targets: Any = 1) -> Tensor:
    """The share of a batch that is classified correctly, shape (). The last two are keys, as of `supervised`.

    One output is the probability of class 1, decided at 1/2, with targets 0 or 1 of shape (N, 1) or (N,). Several are
    logits or probabilities (N, C), decided by the largest, with integer labels (N,). On tokens, (N, T, C) and (N, T), it is
    the share of all N T.

    Raises:
        InputError: targets of another shape or dtype, or no classes; outputs that are NaN; no samples, or whatever the
            layer refuses.
    """
    check_params(params)
    check_batch(batch)
    x, labels = Keys(inputs, targets)(batch)
    check_tensor(f"batch[{inputs!r}]", x)
    check_tensor(f"batch[{targets!r}]", labels)
    outputs = apply(layer, params, x)
    if labels.device != x.device:
        raise InputError("targets", f"a tensor on {labels.device}", f"one on {x.device}, where the inputs are")
    if not is_floating(outputs) or outputs.ndim < 2 or not outputs.numel():
        raise InputError("outputs", describe(outputs), "outputs of shape (N, ..., C), and entries")
    one = outputs.shape[-1] == 1
    if labels.shape != outputs.shape[:-1] and not (one and labels.shape == outputs.shape):
        raise InputError("targets", describe(labels), f"shape {tuple(outputs.shape[:-1])}")
    if not one and labels.dtype != torch.int64:
        raise InputError("targets", describe(labels), "class labels of int64")
    if outputs.isnan().any():
        raise InputError("outputs", "NaN", "numbers to decide by")
    if one and not ((labels == 0) | (labels == 1)).all():
        raise InputError("targets", "other values", "0 or 1")
    if not one:
        check_labels(outputs, labels)
    predicted = (outputs > 0.5).reshape(labels.shape) if one else outputs.argmax(-1)
    correct: Tensor = predicted == labels
    return correct.double().mean()
