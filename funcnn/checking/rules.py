"""One form for every kind of backward rule: y = f(x), whatever y and x are made of, and the pullback u -> J^T u.

Operands are the leaves of what the rule is called with, and are handed to it as they are; those that are floating or
complex numbers may have a gradient. Outputs are the leaves of y that are. A complex number counts as its two real ones.
"""

import inspect
import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import tree
from ..causes import Cause
from ..errors import InputError, called, check_pair, describe
from ..report import Finding
from ..types import Layer, Loss, Tree
from .formula import Swap
from .trials import copied, same_bits, untouched

FORMS = "forward and backward, a Layer, a Loss, or a torch.autograd.Function"
Operands = list[Any]
Gradients = list[Tensor | None]


def floats(leaf: Any) -> bool:
    """Whether it can have a gradient."""
    return isinstance(leaf, Tensor) and (leaf.is_floating_point() or leaf.is_complex())


class Rule(NamedTuple):
    """A function of operands and its backward rule.

    outputs    operands -> the outputs that can have a cotangent
    gradient   (operands, u, meanwhile, swap, needed) -> one for each operand, None for none. Between forward and backward
               `meanwhile` is called, where others use the same rule; `swap` gives it other saved tensors; without a
               cotangent (None) an output is used by nobody; `needed` are the operands that are asked for, None is all
    twice      (operands, u) -> two gradients by one forward pass
    hands_off  whether the backward rule writes into what it is given
    follows    (operands, u, own, v) -> the gradient of <J^T u, v> by torch, with respect to the operands `own`
    """

    outputs: Callable[[Operands], list[Tensor]]
    gradient: Callable[..., Gradients]
    twice: Callable[[Operands, list[Tensor]], tuple[Gradients, Gradients]]
    hands_off: Callable[[Operands, list[Tensor]], Finding]
    follows: Callable[[Operands, list[Tensor], list[int], list[Tensor]], Sequence[Tensor | None]] | None = None


def lifted(forward: Any, backward: Any, inputs: tuple[Tree, ...]) -> Rule:
    """The rule of a Layer, of a Loss, of a pair of rules, or of what torch's tape can follow, such as a Function."""
    if isinstance(forward, (Layer, Loss)) and backward is None:
        return lifted(forward.forward, forward.backward, inputs)
    if isinstance(forward, type) and issubclass(forward, torch.autograd.Function) and backward is None:
        return _taped(forward.apply, inputs)
    if callable(forward) and backward is None:
        return _taped(forward, inputs)
    if not callable(forward) or not callable(backward):
        place, found = ("backward", backward) if callable(forward) else ("forward", forward)
        raise InputError(place, describe(found), FORMS)
    return _ruled(forward, backward, inputs)


def _ruled(forward: Callable[..., Any], backward: Callable[..., Any], inputs: tuple[Tree, ...]) -> Rule:
    needs_dy = takes_two(backward)
    unflatten = tree.flatten(inputs)[1]
    parts = [tree.flatten(x) for x in inputs]

    def both(operands: Operands) -> tuple[Tree, Tree]:
        result = called("forward(*inputs)", forward, *unflatten(operands))
        check_pair("forward(*inputs)", result, "(y, residuals)")
        _floating("forward(*inputs)[0]", result[0])
        y, residuals = result
        return y, residuals

    def rule(residuals: Tree, y: Tree, u: Sequence[Tensor | None]) -> Gradients:
        given, leaves = iter(u), tree.flatten(y)
        dys = [next(given) if floats(leaf) else None for leaf in leaves[0]]
        dy = leaves[1]([torch.zeros_like(leaf) if one is None else one for one, leaf in zip(dys, leaves[0], strict=True)])
        if needs_dy:
            grads = called("backward(residuals, dy)", backward, residuals, dy)
        else:
            grads = tree.map(lambda leaf: leaf * dy, called("backward(residuals)", backward, residuals))
        return _by_operands(grads, inputs, parts)

    def gradient(
        operands: Operands,
        u: Sequence[Tensor | None],
        meanwhile: Callable[[], Any] = tuple,
        swap: Swap | None = None,
        needed: set[int] | None = None,
    ) -> Gradients:
        y, residuals = both(operands)
        meanwhile()
        if swap is not None:
            saved, unflatten = tree.flatten(residuals)
            residuals = unflatten([swap(i, leaf) for i, leaf in enumerate(saved)])
        return rule(residuals, y, u)

    def twice(operands: Operands, u: list[Tensor]) -> tuple[Gradients, Gradients]:
        y, residuals = both(operands)
        return rule(residuals, y, u), rule(residuals, y, [x.clone() for x in u])

    def hands_off(operands: Operands, u: list[Tensor]) -> Finding:
        y, residuals = both(operands)
        paths = [*tree.paths(residuals, "residuals"), *_cotangents(u)]
        return untouched(lambda residuals, *u: rule(residuals, y, u), residuals, *u, paths=paths)[1]

    return Rule(
        lambda operands: [leaf for leaf in tree.leaves(both(operands)[0]) if floats(leaf)],
        gradient,
        twice,
        hands_off,
    )


def _by_operands(grads: Any, inputs: tuple[Tree, ...], parts: list[Any]) -> Gradients:
    """What a backward rule returns, leaf by leaf: one gradient for each of the first inputs, or that of the only one."""
    alone = not isinstance(grads, (tuple, list)) or (len(inputs) == 1 and tree.paths(grads) == tree.paths(inputs[0]))
    if not alone and not isinstance(grads, tuple):
        raise InputError("backward(residuals, dy)", describe(grads), "a tuple, of a gradient for each input")
    each = (grads,) if alone else tuple(grads)
    if len(each) > len(inputs):
        raise InputError("backward(residuals, dy)", f"{len(each)} gradients", f"one for each of {len(inputs)} inputs")
    found: Gradients = []
    for index, (leaves, _) in enumerate(parts):
        own = each[index] if index < len(each) else None
        of_input = [None] * len(leaves) if own is None else tree.leaves(own)
        paths, needed = (tree.paths(x, f"gradients[{index}]") for x in (own, inputs[index]))
        if own is not None and paths != needed:
            path = next(iter([path for path in (*needed, *paths) if (path in needed) != (path in paths)]), needed[0])
            got = "no such leaf" if path in needed else "a leaf that the input has not"
            raise InputError(f"backward(residuals, dy): {path}", got, f"the tree of inputs[{index}]")
        if own is not None:
            try:
                tree.arranged(own, inputs[index])
            except InputError:
                place = f"backward(residuals, dy): gradients[{index}]"
                raise InputError(place, describe(own), f"the tree of inputs[{index}]") from None
        found += [leaf if floats(leaf) else None for leaf in of_input]
    return found


def _taped(function: Callable[..., Any], inputs: tuple[Tree, ...]) -> Rule:
    unflatten = tree.flatten(inputs)[1]

    def whole(operands: Operands) -> Any:
        y = function(*unflatten(operands))
        _floating("forward(*inputs)", y)
        return y

    def outputs(operands: Operands) -> list[Tensor]:
        return [leaf for leaf in tree.leaves(whole(operands)) if floats(leaf)]

    def run(operands: Operands, needed: set[int] | None, meanwhile: Callable[[], Any]) -> tuple[list[Tensor], Operands]:
        wanted = [floats(leaf) and (needed is None or i in needed) for i, leaf in enumerate(operands)]
        handed = [_requiring(leaf) if want else leaf for leaf, want in zip(operands, wanted, strict=True)]
        y = outputs(handed)
        meanwhile()
        return y, [leaf if want else None for leaf, want in zip(handed, wanted, strict=True)]

    def pulled(y: list[Tensor], own: Operands, u: Sequence[Tensor | None], keep: bool) -> Gradients:
        used = [(out, one) for out, one in zip(y, u, strict=True) if one is not None and out.requires_grad]
        leaves = [leaf for leaf in own if leaf is not None]
        if not used:
            found: Sequence[Tensor | None] = [torch.zeros_like(leaf) for leaf in leaves]
        else:
            outs, ones = zip(*used, strict=True)
            found = torch.autograd.grad(outs, leaves, ones, allow_unused=True, retain_graph=keep)
        given = iter(found)
        return [None if leaf is None else next(given) for leaf in own]

    def gradient(
        operands: Operands,
        u: Sequence[Tensor | None],
        meanwhile: Callable[[], Any] = tuple,
        swap: Swap | None = None,
        needed: set[int] | None = None,
    ) -> Gradients:
        with torch.inference_mode(False), torch.enable_grad(), _swapped(swap):
            y, own = run(operands, needed, meanwhile)
            return pulled(y, own, u, keep=False)

    def twice(operands: Operands, u: list[Tensor]) -> tuple[Gradients, Gradients]:
        with torch.inference_mode(False), torch.enable_grad():
            y, own = run(operands, None, tuple)
            return pulled(y, own, u, keep=True), pulled(y, own, [x.clone() for x in u], keep=False)

    def hands_off(operands: Operands, u: list[Tensor]) -> Finding:
        with torch.inference_mode(False), torch.enable_grad():
            y, own = run(operands, None, tuple)
            before = copied([leaf if leaf is None else leaf.detach() for leaf in own])
            finding = untouched(lambda *u: pulled(y, own, u, keep=True), *u, paths=_cotangents(u))[1]
        if finding.verdict == "ok" and not same_bits(before, [leaf if leaf is None else leaf.detach() for leaf in own]):
            sentence = "the backward writes into the inputs: who passed them in has other numbers now"
            return Finding("wrong", math.inf, cause=Cause.MUTATION, diagnosis=sentence)
        return finding

    def follows(operands: Operands, u: list[Tensor], own: list[int], v: list[Tensor]) -> Sequence[Tensor | None]:
        with torch.inference_mode(False), torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            y, handed = run(operands, set(own), tuple)
            leaves = [handed[i] for i in own]
            grads = torch.autograd.grad(y, leaves, u, create_graph=True, allow_unused=True)
            real = [torch.view_as_real(g) if g is not None and g.is_complex() else g for g in grads]
            total = sum((g * w).sum() for g, w in zip(real, v, strict=True) if g is not None)
            if not isinstance(total, Tensor) or not total.requires_grad:
                return [None] * len(own)
            return torch.autograd.grad(total, leaves, allow_unused=True)

    return Rule(outputs, gradient, twice, hands_off, follows)


@contextmanager
def _swapped(swap: Swap | None) -> Iterator[None]:
    """Where what the tape saves is handed back as others."""
    if swap is None:
        yield
        return
    count = itertools.count()
    with torch.autograd.graph.saved_tensors_hooks(lambda saved: (next(count), saved), lambda kept: swap(*kept)):
        yield


def _requiring(leaf: Tensor) -> Tensor:
    own: Tensor = copied(leaf.detach())
    return own.requires_grad_()


def _floating(place: str, y: Any) -> None:
    """Raises InputError unless some leaf of y can have a cotangent."""
    if not any(map(floats, tree.leaves(y))):
        raise InputError(place, describe(y), "a floating tensor")


def _cotangents(u: Sequence[Tensor]) -> tuple[str, ...]:
    return ("dy",) if len(u) == 1 else tuple(f"dy[{i}]" for i in range(len(u)))


def takes_two(backward: Callable[..., Any]) -> bool:
    """Whether a backward rule takes a cotangent; that of a loss does not."""
    try:
        parameters = inspect.signature(backward).parameters.values()
    except ValueError:
        return True  # a builtin
    return len(parameters) > 1 or any(parameter.kind == parameter.VAR_POSITIONAL for parameter in parameters)
