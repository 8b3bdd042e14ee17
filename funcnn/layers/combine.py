"""Layers made of layers. `serial` applies the chain rule once, for every network that there will ever be.

Forward from left to right keeping the residuals, backward from right to left using them. What it returns is itself a layer,
so networks nest; and its two rules know the rules that they run, for whoever knows a shorter way through them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from .. import tree
from ..errors import InputError, check_like, check_pair, check_tensor, describe, of_call
from ..types import ForwardRule, Layer, Params, Pullback, Residuals, name
from .columns import Forward
from .factors import ByParts, Rows, Summands, totals
from .guarded import Operands, bare, in_series, operands_of


class ForwardInSeries(NamedTuple):
    """The forward rules of layers, one after the other: a forward rule again.

    With `operands` the door of all of them stands here, and the rules are bare; without, each has its own.
    """

    forwards: tuple[ForwardRule, ...]
    operands: Operands | None = None

    def __call__(self, params: Params, x: Tensor) -> tuple[Tensor, Residuals]:
        """(params, x) -> (y, residuals), both tuples of the layers'."""
        if self.operands is not None:
            self.operands.check(params, x)
        elif not isinstance(params, tuple) or len(params) != len(self.forwards):
            got = f"a tuple of {len(params)}" if isinstance(params, tuple) else describe(params)
            raise InputError("params", got, f"a tuple of {len(self.forwards)}, one entry per layer")
        residuals, index = [], 0
        try:
            for index, forward in enumerate(self.forwards):
                result = (forward.run if type(forward) is Forward else forward)(params[index], x)
                if type(result) is not tuple or len(result) != 2:
                    check_pair("layer.forward(params, x)", result, "(y, residuals)")
                x, kept = result
                residuals.append(kept)
        except InputError as error:
            raise error.inside(index) from None
        except TypeError as error:
            raise of_call("layer.forward(params, x)", error, 2) from None
        return x, tuple(residuals)

    @property
    def rowwise(self) -> bool:
        """Whether y[n] depends on x[n] alone."""
        return all(getattr(forward, "rowwise", False) for forward in self.forwards)

    def __repr__(self) -> str:
        """The layers."""
        return f"serial({', '.join(map(name, self.forwards))})"


class BackwardInSeries(NamedTuple):
    """The pullbacks of layers in series, from the last to the first: a pullback again, with the parts of one."""

    backwards: tuple[Pullback, ...]

    def __call__(self, residuals: Residuals, dy: Tensor) -> tuple[Params, Tensor]:
        """(residuals, dy) -> (dparams, dx): dy_{i-1} = (df_i/dx_i)^T dy_i."""
        return self._down_to(0, residuals, dy)

    def params(self, residuals: Residuals, dy: Tensor) -> Params:
        """The gradient of the parameters alone: nobody trains the data, so the first layer is not asked for dx."""
        grads, dy = self._down_to(1, residuals, dy)
        return (params_rule(self.backwards[0])(residuals[0], dy), *grads)

    def summands(self, residuals: Residuals, dy: Tensor) -> Summands:
        """The gradient of the parameters before the sum over the batch, where every layer has that."""
        summands: list[Summands] = []
        for index in reversed(range(len(self.backwards))):
            backward: Any = self.backwards[index]
            summands.append(backward.summands(residuals[index], dy))
            dy = backward.inputs(residuals[index], dy) if index else dy
        return tuple(reversed(summands))

    def inputs(self, residuals: Residuals, dy: Tensor) -> Tensor:
        """The gradient of x alone, where every layer has that."""
        for index in reversed(range(len(self.backwards))):
            backward: Any = self.backwards[index]
            dy = backward.inputs(residuals[index], dy)
        return dy

    def _down_to(self, first: int, residuals: Residuals, dy: Tensor) -> tuple[Params, Tensor]:
        grads = []
        for index in range(len(self.backwards) - 1, first - 1, -1):
            backward, kept = self.backwards[index], residuals[index]
            if type(backward) is ByParts:
                grads.append(totals(backward.summands(kept, dy)))
                dy = backward.inputs(kept, dy)
            else:
                dparams, dy = pulled(backward, kept, dy)
                grads.append(dparams)
        return tuple(reversed(grads)), dy

    def __repr__(self) -> str:
        """The layers."""
        return f"serial({', '.join(map(name, self.backwards))})"


def ran(forward: ForwardRule, params: Params, x: Tensor) -> tuple[Tensor, Residuals]:
    """What a forward rule returns. Raises InputError where that is no pair: a tensor of two rows would pass for one."""
    try:
        result: tuple[Tensor, Residuals] = forward(params, x)
    except TypeError as error:
        raise of_call("layer.forward(params, x)", error, 2) from None
    if type(result) is not tuple or len(result) != 2:
        check_pair("layer.forward(params, x)", result, "(y, residuals)")
    return result


def pulled(backward: Pullback, residuals: Residuals, dy: Tensor) -> tuple[Params, Tensor]:
    """(dparams, dx) by any pullback. Raises InputError where it returns no pair."""
    try:
        result: tuple[Params, Tensor] = backward(residuals, dy)
    except TypeError as error:
        raise of_call("layer.backward(residuals, dy)", error, 2) from None
    if type(result) is not tuple or len(result) != 2:
        check_pair("layer.backward(residuals, dy)", result, "(dparams, dx)")
    return result


def params_rule(backward: Pullback) -> Callable[[Residuals, Tensor], Params]:
    """The rule (residuals, dy) -> dL/dparams alone, without dL/dx where the pullback knows how to do without."""
    if isinstance(backward, (ByParts, BackwardInSeries)):
        return backward.params
    return lambda residuals, dy: pulled(backward, residuals, dy)[0]


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

    def init(generator: Generator, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Params:
        return tuple(layer.init(generator, dtype=dtype, device=device) for layer in layers)

    forwards, backwards = [layer.forward for layer in layers], [layer.backward for layer in layers]
    operands = in_series([operands_of(forward) for forward in forwards])
    if operands is not None:
        # What comes to a pullback is the dx of the next one; only at the last does it come from outside.
        forwards, backwards = [*map(bare, forwards)], [*map(bare, backwards[:-1]), backwards[-1]]
    return Layer(init, ForwardInSeries(tuple(forwards), operands), BackwardInSeries(tuple(backwards)))


def chain(forward: ForwardRule, params: Params) -> list[tuple[ForwardRule, Params]]:
    """The forward rules that run one after the other, serials taken apart, each with its own parameters."""
    if not isinstance(forward, ForwardInSeries):
        return [(forward, params)]
    return [link for inner, own in zip(forward.forwards, params, strict=True) for link in chain(inner, own)]


def by_summands(layer: Layer) -> Layer:
    """The same layer with a pullback that has summands: its own, or else the pullback of every sample by itself.

    A plain pullback may mix the rows of a batch, and its residuals may too. So the whole layer is vmapped over batches of
    one, and keeps its per-sample gradients as they are. Other layers of the same network do not suffer from it.
    """
    forward, backward = layer.forward, layer.backward
    if isinstance(backward, ByParts):
        return layer
    if isinstance(backward, BackwardInSeries) and isinstance(forward, ForwardInSeries):
        pairs = zip(forward.forwards, backward.backwards, strict=True)
        layers = [by_summands(Layer(layer.init, *pair)) for pair in pairs]
        forwards, backwards = tuple(inner.forward for inner in layers), tuple(inner.backward for inner in layers)
        return Layer(layer.init, forward._replace(forwards=forwards), BackwardInSeries(backwards))

    def batched(params: Params, x: Tensor) -> tuple[Tensor, Residuals]:
        y, residuals = torch.func.vmap(lambda row: ran(forward, params, row[None]))(x)
        return y.squeeze(1), (residuals, params)

    def summands(residuals: Residuals, dy: Tensor) -> Summands:
        kept, params = residuals

        def of_one(kept: Residuals, row: Tensor) -> Params:
            leaves, spec = check_like("grads", params_rule(backward)(kept, row[None]), params)
            return spec.unflatten(leaves)

        return tree.map(Rows, torch.func.vmap(of_one)(kept, dy))

    def inputs(residuals: Residuals, dy: Tensor) -> Tensor:
        dx: Tensor = torch.func.vmap(lambda kept, row: pulled(backward, kept, row[None])[1])(residuals[0], dy)
        return dx.squeeze(1)

    return Layer(layer.init, Forward(batched), ByParts(summands, inputs))


def apply(layer: Layer, params: Params, x: Tensor) -> Tensor:
    """The output y alone, for those who want a prediction; `layer(params, x)` is the same.

    Raises:
        InputError: layer is no Layer, x no tensor; whatever the layer refuses.
    """
    if not isinstance(layer, Layer):
        raise InputError("apply(layer)", describe(layer), "a Layer, such as dense(4, 3)")
    check_tensor("x", x)
    return ran(layer.forward, params, x)[0]
