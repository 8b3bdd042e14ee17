"""Our rules in classic PyTorch: a Layer or a Loss as a torch.autograd.Function.

    criterion = torch_function(softmax_cross_entropy(clip=0.01))
    criterion(module(x), targets).backward()      # module: any nn.Module; the gradient at its outputs is clipped

A forward rule, a backward rule and the residuals between them are what a Function consists of, so there is little to
translate: torch keeps the residuals on its tape, and asks the hand-derived rule when the tape runs backwards. Whatever
the rule says is what torch goes on with, right or wrong, clipped or not, under torch.func as well.

The gradient of a gradient is torch's derivative of the hand-derived rule. It depends on the inputs by way of the
residuals too, and what the tape kept of them no longer knows how. So where the backward pass is itself to be
differentiated (`create_graph=True`, and always under torch.func.grad) the forward rule is run once more.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .. import tree
from ..errors import InputError, check_autocast, check_same_shape, describe
from ..layers.pullbacks import gradient, pulled, ran
from ..objectives import evaluated, sent
from ..operands import check_like, check_params
from ..types import Layer, Loss, Params, Residuals


def torch_function(pair: Layer | Loss) -> Callable[..., Tensor]:
    """The function y = f(params, x) of a Layer or L = f(outputs, targets) of a Loss, differentiated by torch with its rule.

    It has gradients for the parameters and for x; of a loss for the outputs, and none for the targets. It serves
    `.backward()`, torch.autograd.grad, and vmap, grad, vjp, jacrev of torch.func, nested as you like. There is no
    forward-mode derivative (torch.func.jvp, jacfwd): backward rules know of none.

    Raises:
        InputError: pair is neither a Layer nor a Loss. When called, the pair refuses its arguments, or targets require
            gradients. When differentiated, the rule returns what does not fit.
    """
    if isinstance(pair, Layer):
        return partial(_apply_layer, pair)
    if isinstance(pair, Loss):
        return partial(_apply_loss, pair)
    raise InputError("torch_function(pair)", describe(pair), "a Layer or a Loss, as relu() and not relu")


def _apply_layer(layer: Layer, params: Params, x: Tensor) -> Tensor:
    check_autocast()
    check_params(params)
    if not isinstance(x, Tensor):
        raise InputError("x", describe(x), "a tensor")
    leaves, unflatten = tree.flatten(params)

    def forward(*inputs: Tensor) -> tuple[Tensor, Residuals]:
        *leaves, x = inputs
        return ran(layer.forward, unflatten(leaves), x)

    def backward(residuals: Residuals, dy: Tensor, inputs: tuple[Tensor, ...], needed: tuple[bool, ...]) -> list[Any]:
        *leaves, x = inputs
        if needed[-1]:
            dparams, dx = pulled(layer.backward, residuals, dy)
            check_same_shape("dx", dx, x)
        else:
            dparams, dx = gradient(layer.backward, residuals, dy, False)[0], None
        check_like("dparams", dparams, unflatten(leaves))
        return [*tree.leaves(dparams), dx]

    return _apply(_Call(forward, backward), *leaves, x)[0]


def _apply_loss(loss: Loss, outputs: Tensor, targets: Tensor) -> Tensor:
    check_autocast()
    for place, tensor in (("outputs", outputs), ("targets", targets)):
        if not isinstance(tensor, Tensor):
            raise InputError(place, describe(tensor), "a tensor")
    if targets.requires_grad and torch.is_grad_enabled():
        raise InputError("targets", "a tensor that requires gradients", "a constant, as targets.detach()")

    def backward(residuals: Residuals, dy: Tensor, inputs: tuple[Tensor, ...], needed: tuple[bool, ...]) -> list[Any]:
        doutputs = sent(loss.backward, residuals)
        check_same_shape("doutputs", doutputs, inputs[0])
        return [dy * doutputs, None]

    return _apply(_Call(partial(evaluated, loss.forward), backward), outputs, targets)[0]


class _Call:
    """The rules of one call, on plain lists of tensors, and the structure of the residuals once the forward rule has run."""

    def __init__(self, forward: Callable[..., tuple[Tensor, Residuals]], backward: Callable[..., list[Any]]) -> None:
        self.forward, self.backward = forward, backward
        self.unflatten: Callable[[list[Any]], Residuals]


class _Rules(torch.autograd.Function):
    """(call, *inputs) -> (y, *residuals). Torch lets a Function keep only what comes in and what goes out."""

    generate_vmap_rule = True

    @staticmethod
    def forward(call: _Call, *inputs: Tensor) -> Any:
        y, residuals = call.forward(*inputs)
        leaves, call.unflatten = tree.flatten(residuals)
        # Tensors of their own, on the same memory: torch has rules against one that serves twice, as a residual that is y.
        return tuple(tensor.detach() for tensor in (y, *leaves))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.call, *tensors = inputs
        _, *residuals = output
        ctx.count = len(tensors)
        ctx.mark_non_differentiable(*residuals)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, *residuals)

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, *_: None) -> Any:
        if dy is None:
            return None, *[None] * ctx.count
        inputs, kept = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
        again = torch.is_grad_enabled()
        residuals = ctx.call.forward(*inputs)[1] if again else ctx.call.unflatten(list(kept))
        return None, *ctx.call.backward(residuals, dy, inputs, ctx.needs_input_grad)


_apply: Callable[..., tuple[Tensor, ...]] = _Rules.apply
