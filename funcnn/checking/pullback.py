"""One form for every kind of backward rule: y = f(x), and the pullback u -> J^T u."""

import inspect
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import tree
from ..errors import InputError, called, check_pair, describe
from ..report import Finding
from ..types import Layer, Loss, Tree
from .formula import Swap
from .trials import copied, untouched

FORMS = "forward and backward, a Layer, a Loss, or a torch.autograd.Function"


class Pullback(NamedTuple):
    """The value, its gradient, and whether the backward rule writes into what it is given.

    `gradient(inputs, u, meanwhile, swap)` gives one for each input, None for none; between forward and backward it
    calls `meanwhile`, where others use the same rule, and hands the rule `swap(i, tensor)` for the i-th tensor saved.
    """

    value: Callable[[tuple[Tree, ...]], Tensor]
    gradient: Callable[..., tuple[Tree, ...]]
    hands_off: Callable[[tuple[Tree, ...], Tensor], Finding]


def lifted(forward: Any, backward: Any) -> Pullback:
    """The pullback of a Layer, of a Loss, of a pair of rules, or of what torch's tape can follow, such as a Function."""
    if isinstance(forward, (Layer, Loss)) and backward is None:
        return lifted(forward.forward, forward.backward)
    if isinstance(forward, type) and issubclass(forward, torch.autograd.Function) and backward is None:
        return _taped(forward.apply)
    if callable(forward) and backward is None:
        return _taped(forward)
    if not callable(forward) or not callable(backward):
        place, found = ("backward", backward) if callable(forward) else ("forward", forward)
        raise InputError(place, describe(found), FORMS)
    return _ruled(forward, backward)


def _ruled(forward: Callable[..., Any], backward: Callable[..., Any]) -> Pullback:
    needs_dy = _takes_two(backward)

    def both(inputs: tuple[Tree, ...]) -> tuple[Tensor, Tree]:
        result = called("forward(*inputs)", forward, *inputs)
        check_pair("forward(*inputs)", result, "(y, residuals)")
        y, residuals = result
        return _checked(y), residuals

    def rule(residuals: Tree, dy: Tensor) -> Any:
        if needs_dy:
            return called("backward(residuals, dy)", backward, residuals, dy)
        return tree.map(lambda leaf: leaf * dy, called("backward(residuals)", backward, residuals))

    def gradient(
        inputs: tuple[Tree, ...], u: Tensor, meanwhile: Callable[[], Any] = tuple, swap: Swap | None = None
    ) -> tuple[Tree, ...]:
        _, residuals = both(inputs)
        meanwhile()
        if swap is not None:
            saved, unflatten = tree.flatten(residuals)
            residuals = unflatten([swap(i, leaf) for i, leaf in enumerate(saved)])
        grads = rule(residuals, u)
        alone = not isinstance(grads, tuple) or (len(inputs) == 1 and tree.paths(grads) == tree.paths(inputs[0]))
        grads = (grads,) if alone else grads
        if len(grads) > len(inputs):
            raise InputError("backward(residuals, dy)", f"{len(grads)} gradients", f"one for each of {len(inputs)} inputs")
        return (*grads, *[None] * (len(inputs) - len(grads)))

    def hands_off(inputs: tuple[Tree, ...], u: Tensor) -> Finding:
        return untouched(rule, both(copied(inputs))[1], u, names=("residuals", "dy"))[1]

    return Pullback(lambda inputs: both(inputs)[0], gradient, hands_off)


def _taped(function: Callable[..., Any]) -> Pullback:
    def value(inputs: tuple[Tree, ...]) -> Tensor:
        return _checked(function(*inputs))

    def gradient(
        inputs: tuple[Tree, ...], u: Tensor, meanwhile: Callable[[], Any] = tuple, swap: Swap | None = None
    ) -> tuple[Tree, ...]:
        with torch.inference_mode(False), torch.enable_grad(), _swapped(swap):
            flat, unflatten = tree.flatten(inputs)
            leaves = [leaf.detach().clone().requires_grad_() if floats(leaf) else leaf for leaf in flat]
            own = [leaf for leaf in leaves if floats(leaf)]
            y = _checked(function(*unflatten(leaves)))
            meanwhile()
            if not y.requires_grad:
                grads = [torch.zeros_like(leaf) for leaf in own]
            else:
                grads = list(torch.autograd.grad(y, own, u, allow_unused=True))
        found = iter(grads)
        given: tuple[Tree, ...] = unflatten([next(found) if floats(leaf) else None for leaf in flat])
        return given

    def hands_off(inputs: tuple[Tree, ...], u: Tensor) -> Finding:
        return untouched(lambda dy: gradient(inputs, dy), u, names=("dy",))[1]

    return Pullback(value, gradient, hands_off)


@contextmanager
def _swapped(swap: Swap | None) -> Iterator[None]:
    """Where what the tape saves is handed back as others."""
    if swap is None:
        yield
        return
    count = itertools.count()
    with torch.autograd.graph.saved_tensors_hooks(lambda saved: (next(count), saved), lambda kept: swap(*kept)):
        yield


def floats(leaf: Any) -> bool:
    """Whether it can have a gradient."""
    return isinstance(leaf, Tensor) and leaf.is_floating_point()


def _takes_two(backward: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(backward).parameters.values()
    except ValueError:
        return True  # a builtin
    return len(parameters) > 1 or any(parameter.kind == parameter.VAR_POSITIONAL for parameter in parameters)


def _checked(y: Any) -> Tensor:
    if not floats(y) and not (isinstance(y, Tensor) and y.is_complex()):
        raise InputError("forward(*inputs)[0]", describe(y), "a floating tensor")
    tensor: Tensor = y
    return tensor
