"""Layers in series: the chain rule once, for every network that there will ever be.

Forward from left to right keeping the residuals, backward from right to left using them. What `serial` returns is itself a
layer, so networks nest; and its two rules know the rules that they run, for whoever knows a shorter way through them.

The forward rule of a layer made of layers has these as `layers`, and `combine(*layers)`, which makes the same of others. So
a network can be made again with some of its layers exchanged, whatever it is made of: `remade`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from .. import tree
from ..errors import InputError, check_tensor, describe
from ..operands import check_like
from ..refusals import refused_by_torch
from ..types import ForwardRule, Layer, Params, Pullback, Residuals, Tree, name
from .columns import Forward
from .factors import ByParts, Rows, Summands
from .guarded import Operands, bare, in_series, operands_of
from .pullbacks import Pull, Run, gradient, pulled, ran, relisted


class ForwardInSeries(NamedTuple):
    """The forward rules of layers, one after the other: a forward rule again.

    With `operands` the door of all of them stands here, and the rules are bare; without, each has its own.
    """

    forwards: tuple[ForwardRule, ...]
    layers: tuple[Layer, ...]
    operands: Operands | None = None

    def __call__(self, params: Params, x: Tensor) -> tuple[Tensor, Residuals]:
        """(params, x) -> (y, residuals), both tuples of the layers'."""
        y, residuals = self.through(ran, params, x)
        return y, tuple(residuals)

    def through(self, run: Run, params: Params, x: Tensor) -> tuple[Tensor, list[Residuals]]:
        """The composition, x_i = f_i(x_{i-1}). The residuals are a list, which one pass back may empty on its way."""
        if self.operands is not None:
            self.operands.check(params, x)
        elif not isinstance(params, tuple) or len(params) != len(self.forwards):
            got = f"a tuple of {len(params)}" if isinstance(params, tuple) else describe(params)
            raise InputError("params", got, f"a tuple of {len(self.forwards)}, one entry per layer")
        residuals, index = [], 0
        try:
            for index, forward in enumerate(self.forwards):
                x, kept = run(forward, params[index], x)
                residuals.append(kept)
        except InputError as error:
            raise error.inside(index) from None
        except RuntimeError as error:
            raise refused_by_torch(f"operands of {name(self.forwards[index])}", error) or error from None
        return x, residuals

    @property
    def rowwise(self) -> bool:
        """Whether y[n] depends on x[n] alone."""
        return all(getattr(forward, "rowwise", False) for forward in self.forwards)

    def combine(self, *layers: Layer) -> Layer:
        """Other layers in series."""
        return serial(*layers)

    def __repr__(self) -> str:
        """The layers."""
        return f"serial({', '.join(map(name, self.forwards))})"


class BackwardInSeries(NamedTuple):
    """The pullbacks of layers in series, from the last to the first: a pullback again."""

    backwards: tuple[Pullback, ...]

    def through(self, pull: Pull, residuals: Residuals, dy: Tensor, dx: bool) -> tuple[Tree, Any]:
        """The chain rule, dy_{i-1} = (df_i/dx_i)^T dy_i."""
        own, left = [], residuals if isinstance(residuals, list) else [*residuals]
        for index in range(len(self.backwards) - 1, -1, -1):
            each, dy = pull(self.backwards[index], left.pop(), dy, dx or index > 0)
            own.append(each)
        return tuple(reversed(own)), dy

    def __call__(self, residuals: Residuals, dy: Tensor) -> tuple[Params, Any]:
        """(residuals, dy) -> (dparams, dx)."""
        check_tensor("dy", dy)
        return self.through(gradient, relisted(residuals), dy, True)

    def __repr__(self) -> str:
        """The layers."""
        return f"serial({', '.join(map(name, self.backwards))})"


def serial(*layers: Layer) -> Layer:
    """The composition y = f_k(... f_2(f_1(x))). Parameters and residuals are the tuples of the layers'.

    The chain rule runs it backwards: dy_{i-1} = (df_i/dx_i)^T dy_i, each layer's own `backward`.

    Raises:
        InputError: there are no layers; the parameters are no tuple of one entry per layer; a layer refuses its own.
    """
    check_layers("serial", layers)
    forwards, backwards = [layer.forward for layer in layers], [layer.backward for layer in layers]
    operands = in_series([operands_of(forward) for forward in forwards])
    if operands is not None:
        # What comes to a pullback is the dx of the next one; only at the last does it come from outside.
        forwards, backwards = [*map(bare, forwards)], [*map(bare, backwards[:-1]), backwards[-1]]
    forward = ForwardInSeries(tuple(forwards), layers, operands)
    return Layer(init_each(layers), forward, BackwardInSeries(tuple(backwards)))


def check_layers(place: str, layers: tuple[Any, ...]) -> None:
    """Raises InputError unless there are layers, and they are."""
    if not layers:
        raise InputError(f"{place}(*layers)", "none", "at least one layer")
    for index, layer in enumerate(layers):
        check_layer(f"{place}(*layers)[{index}]", layer)


def check_layer(place: str, layer: Any) -> None:
    """Raises InputError unless it is a layer."""
    if not isinstance(layer, Layer):
        raise InputError(place, describe(layer), "a Layer, as relu() and not relu")


def init_each(layers: tuple[Layer, ...]) -> Any:
    """The parameters of layers, drawn one after the other: a tuple."""

    def init(generator: Generator, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Params:
        return tuple(layer.init(generator, dtype=dtype, device=device) for layer in layers)

    return init


def no_params(generator: Generator, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Params:
    """The parameters of a layer that has none."""
    return ()


def chain(forward: ForwardRule, params: Params) -> list[tuple[ForwardRule, Params]]:
    """The forward rules that run one after the other, serials taken apart, each with its own parameters."""
    if not isinstance(forward, ForwardInSeries):
        return [(forward, params)]
    return [link for inner, own in zip(forward.forwards, params, strict=True) for link in chain(inner, own)]


def remade(layer: Layer, change: Callable[[Layer], Layer]) -> Layer:
    """The same network with every layer in it that is made of no others exchanged for what `change` makes of it."""
    forward: Any = layer.forward
    if not (hasattr(forward, "combine") and hasattr(layer.backward, "through")):
        return change(layer)
    layers = [remade(inner, change) for inner in forward.layers]
    if all(new is old for new, old in zip(layers, forward.layers, strict=True)):
        return layer
    made: Layer = forward.combine(*layers)
    return made._replace(init=layer.init)


def by_summands(layer: Layer) -> Layer:
    """The same network with pullbacks that have summands: their own, or else the pullback of every sample by itself.

    A plain pullback may mix the rows of a batch, and its residuals may too. So the whole layer is vmapped over batches of
    one, and keeps its per-sample gradients as they are. Other layers of the same network do not suffer from it.
    """
    return remade(layer, lambda inner: inner if isinstance(inner.backward, ByParts) else _by_samples(inner))


def _by_samples(layer: Layer) -> Layer:
    forward, backward = layer.forward, layer.backward

    def batched(params: Params, x: Tensor) -> tuple[Tensor, Residuals]:
        y, residuals = torch.func.vmap(lambda row: ran(forward, params, row[None]))(x)
        return y.squeeze(1), (residuals, params)

    def summands(residuals: Residuals, dy: Tensor) -> Summands:
        kept, params = residuals

        def of_one(kept: Residuals, row: Tensor) -> Params:
            leaves, spec = check_like("grads", gradient(backward, kept, row[None], False)[0], params)
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
