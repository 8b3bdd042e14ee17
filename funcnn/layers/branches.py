"""Layers made of layers that do not stand in a row: around one, beside one another, and one that is run again.

Each is two ways, that of the inputs through the layers in it, and that of the cotangents: see `pullbacks`.
"""

from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import InputError, check_same_shape, check_tensor, describe
from ..types import Inputs, Layer, Params, Residuals, Tree, name
from .combine import check_layer, check_layers, init_each
from .pullbacks import Pull, Run, gradient, ran, ran_once, relisted


class Ahead(NamedTuple):
    """The forward rule of a layer made of others.

    way       (run, params, x) -> (y, residuals), by `run` at each of the layers
    layers    what it is made of
    combine   makes the same of other layers
    title     what it prints as, where that is not the combinator and its layers
    """

    way: Callable[[Run, Params, Any], tuple[Tensor, Residuals]]
    layers: tuple[Layer, ...]
    combine: Callable[..., Layer]
    title: str = ""

    def through(self, run: Run, params: Params, x: Inputs) -> tuple[Tensor, Residuals]:
        """The way, with `run` at each of the layers."""
        return self.way(run, params, x)

    def __call__(self, params: Params, x: Inputs) -> tuple[Tensor, Residuals]:
        """(params, x) -> (y, residuals)."""
        return self.way(ran, params, x)

    @property
    def rowwise(self) -> bool:
        """Whether y[n] depends on x[n] alone."""
        return all(getattr(layer.forward, "rowwise", False) for layer in self.layers)

    def __repr__(self) -> str:
        """The combinator and the layers."""
        return self.title or f"{name(self.combine)}({', '.join(name(layer.forward) for layer in self.layers)})"


class Back(NamedTuple):
    """The pullback of a layer made of others.

    way                       (pull, residuals, dy, dx) -> (tree, dx), by `pull` at each of the layers
    layers, combine, title    as of Ahead
    """

    way: Callable[[Pull, Residuals, Tensor, bool], tuple[Tree, Any]]
    layers: tuple[Layer, ...]
    combine: Callable[..., Layer]
    title: str = ""

    def through(self, pull: Pull, residuals: Residuals, dy: Tensor, dx: bool) -> tuple[Tree, Any]:
        """The way, with `pull` at each of the layers."""
        return self.way(pull, residuals, dy, dx)

    def __call__(self, residuals: Residuals, dy: Tensor) -> tuple[Params, Any]:
        """(residuals, dy) -> (dparams, dx)."""
        check_tensor("dy", dy)
        return self.way(gradient, relisted(residuals), dy, True)

    def __repr__(self) -> str:
        """The combinator and the layers."""
        return self.title or f"{name(self.combine)}({', '.join(name(layer.backward) for layer in self.layers)})"


def made_of(
    layers: tuple[Layer, ...], init: Any, ahead: Any, back: Any, combine: Callable[..., Layer], title: str = ""
) -> Layer:
    """The layer of two ways through others."""
    return Layer(init, Ahead(ahead, layers, combine, title), Back(back, layers, combine, title))


def residual(layer: Layer) -> Layer:
    """The layer y = x + f(x) around f, whose parameters are those of f: dx = dy + (df/dx)^T dy.

    He, Zhang, Ren & Sun, "Deep residual learning for image recognition" (2016), arXiv:1512.03385.

    Raises:
        InputError: layer is no Layer; (when called) f(x) has another shape than x, or whatever f refuses.
    """
    check_layer("residual(layer)", layer)

    def ahead(run: Run, params: Params, x: Tensor) -> tuple[Tensor, Residuals]:
        y, kept = run(layer.forward, params, x)
        if y.shape != x.shape:
            raise InputError(
                f"outputs of {name(layer.forward)} in residual", describe(y), f"shape {tuple(x.shape)}, that of x"
            )
        return x + y, kept

    def back(pull: Pull, kept: Residuals, dy: Tensor, dx: bool) -> tuple[Tree, Any]:
        tree, inner = pull(layer.backward, kept, dy, dx)
        if not dx:
            return tree, ()
        check_same_shape("dx", inner, dy)
        return tree, dy + inner

    return made_of((layer,), layer.init, ahead, back, residual)


def parallel(*layers: Layer) -> Layer:
    """The outputs of layers of the same x, side by side along the last axis. Parameters are the tuple of the layers'.

    y = (f_1(x), ..., f_k(x)), so dx = sum_i (df_i/dx)^T dy_i, dy_i being the columns of dy that are y_i's.

    Raises:
        InputError: there are no layers; (when called) the parameters are no tuple of one entry per layer, or outputs differ
            in more than the last axis.
    """
    check_layers("parallel", layers)

    def ahead(run: Run, params: Params, x: Tensor) -> tuple[Tensor, Residuals]:
        if not isinstance(params, tuple) or len(params) != len(layers):
            got = f"a tuple of {len(params)}" if isinstance(params, tuple) else describe(params)
            raise InputError("params", got, f"a tuple of {len(layers)}, one entry per layer")
        outputs: list[Tensor] = []
        residuals = []
        for index, (layer, own) in enumerate(zip(layers, params, strict=True)):
            try:
                y, kept = run(layer.forward, own, x)
            except InputError as error:
                raise error.inside(index) from None
            check_tensor(f"outputs of parallel(*layers)[{index}]", y)
            if y.shape[:-1] != (outputs or [y])[0].shape[:-1]:
                needs = f"shape {tuple(outputs[0].shape[:-1])} but for the last axis, as the first layer's"
                raise InputError(f"outputs of parallel(*layers)[{index}]", describe(y), needs)
            outputs.append(y)
            # As long as y_i is wide, and of one number: what its columns are is all that backward asks.
            residuals.append((kept, y.new_zeros(1).expand(y.shape[-1])))
        return torch.cat(outputs, -1), tuple(residuals)

    def back(pull: Pull, residuals: Residuals, dy: Tensor, dx: bool) -> tuple[Tree, Any]:
        widths = [len(columns) for _, columns in residuals]
        if not dy.ndim or dy.shape[-1] != sum(widths):
            raise InputError("dy", describe(dy), f"shape (N, ..., {sum(widths)}), that of y")
        each = dy.split(widths, -1)
        pairs = [
            pull(layer.backward, kept, part, dx)
            for layer, (kept, _), part in reversed([*zip(layers, residuals, each, strict=True)])
        ]
        return tuple(tree for tree, _ in reversed(pairs)), _sum([dx for _, dx in pairs]) if dx else ()

    return made_of(layers, init_each(layers), ahead, back, parallel)


def _sum(each: list[Tensor]) -> Tensor:
    """The dx of all branches together."""
    for one in each[1:]:
        check_same_shape("dx", one, each[0])
    return torch.stack(each).sum(0) if len(each) > 2 else sum(each[1:], each[0])


def rematerialised(layer: Layer) -> Layer:
    """The same layer that keeps nothing but (params, x), and runs forward again when it goes back: memory for time.

    A network of k equal layers keeps k activations; in sqrt(k) groups of sqrt(k) rematerialised layers it keeps 2 sqrt(k).
    Chen, Xu, Zhang & Guestrin, "Training deep nets with sublinear memory cost" (2016), arXiv:1604.06174.

    Raises:
        InputError: layer is no Layer; (when called) whatever it refuses.
    """
    check_layer("rematerialised(layer)", layer)

    def ahead(run: Run, params: Params, x: Tensor) -> tuple[Tensor, Residuals]:
        return run(layer.forward, params, x)[0], (params, x)

    def back(pull: Pull, residuals: Residuals, dy: Tensor, dx: bool) -> tuple[Tree, Any]:
        return pull(layer.backward, ran_once(layer.forward, *residuals)[1], dy, dx)

    return made_of((layer,), layer.init, ahead, back, rematerialised)


def named(layer: Layer, names: dict[str, int], title: str) -> Layer:
    """A series whose parameters have names: names["qkv"] = 0 calls those of the first layer so; the others have none."""

    def listed(tree: Tree) -> tuple[Tree, ...]:
        where = {index: key for key, index in names.items()}
        return tuple(tree[where[index]] if index in where else () for index in range(len(layer.forward.layers)))  # type: ignore[attr-defined]

    def ahead(run: Run, params: Params, x: Tensor) -> tuple[Tensor, Residuals]:
        if not isinstance(params, dict) or params.keys() != names.keys():
            found = sorted(params, key=str) if isinstance(params, dict) else describe(params)
            raise InputError("params", found, f"a dict with the keys {sorted(names)}")
        try:
            return run(layer.forward, listed(params), x)
        except InputError as error:
            raise reduce(lambda one, key: one.renamed(f"params[{names[key]}]", f"params[{key!r}]"), names, error) from None

    def back(pull: Pull, kept: Residuals, dy: Tensor, dx: bool) -> tuple[Tree, Any]:
        tree, dinner = pull(layer.backward, kept, dy, dx)
        return {key: tree[index] for key, index in names.items()}, dinner

    def init(generator: torch.Generator, *, dtype: Any = None, device: Any = None) -> Params:
        drawn = layer.init(generator, dtype=dtype, device=device)
        return {key: drawn[index] for key, index in names.items()}

    return made_of((layer,), init, ahead, back, lambda other: named(other, names, title), title)
