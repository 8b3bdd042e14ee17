"""What mistakes in a layer, or in any backward rule, would make of the gradient."""

from typing import Any

import torch
from torch import Tensor

from .. import tree
from ..causes import Cause
from ..providers.differences import finite_difference
from ..providers.reverse import func_grad
from ..types import Layer, Objective
from .contraction import Contraction, upcast
from .elsewhere import off
from .mistakes import Forward, Prediction, predict
from .surface import Surface
from .trials import attempt


def rule_predictions(forward: Any, contraction: Contraction, surface: Surface) -> list[Prediction]:
    """What mistakes in a layer would do; and of any rule, that it takes its cotangent to be the same everywhere."""
    if len(contraction.u) > 1 or contraction.u[0].is_complex():
        return []
    u = upcast(contraction.u[0])
    uniform = Objective(lambda params, batch: contraction.outputs(params)[0].sum())
    ones = tree.leaves(finite_difference(uniform)(surface.params, ())[1])
    found: list[Prediction] = [
        (Cause.UPSTREAM, f"the cotangent is taken to be {what}", [factor * leaf for leaf in ones])
        for what, factor in (("1", 1.0), ("its first entry", u.flatten()[0]), ("its mean", u.mean()))
    ]
    if isinstance(forward, Layer):
        unflatten = tree.flatten(contraction.inputs)[1]
        params, x = unflatten(surface.leaves)

        def gradient(mistaken: Forward) -> list[Tensor]:
            objective = Objective(lambda inputs, batch: (u * mistaken(*unflatten(inputs))).sum())
            return tree.leaves(func_grad(objective)(surface.leaves, ())[1])

        return predict(forward.forward, params, x, gradient) + found
    found += _transposed_inputs(surface)
    if len(surface.leaves) != 1 or surface.leaves[0].shape != u.shape:
        return found
    if _entry_by_entry(contraction, surface.leaves[0]):
        value = finite_difference(Objective(surface.reference.value))
        at_output = attempt(value, contraction.outputs(surface.params), ())  # y may lie outside the domain of f
        elsewhere = "the derivative is taken at the output, not at the input"
        missing = "the derivative is missing: the cotangent comes out as it went in"
        found.append((Cause.ACTIVATION_DERIVATIVE, missing, [u]))
        if at_output is not None:
            found.append((Cause.ACTIVATION_DERIVATIVE, elsewhere, tree.leaves(at_output[1])))
    else:
        through = "the cotangent comes out as it went in: the derivative is missing, and all terms between entries with it"
        found.append((Cause.PATH, through, [u]))
    return found


def _entry_by_entry(contraction: Contraction, x: Tensor) -> bool:
    """Whether each entry of y depends on its own of x alone: the others stay where half of them are moved."""
    half = torch.arange(x.numel(), device=x.device).mul(0.618).frac().reshape(x.shape) < 0.5
    moved = attempt(contraction.outputs, [torch.where(half, off(x), x)])
    return moved is not None and torch.equal(moved[0][~half], contraction.outputs([x])[0][~half])


def _transposed_inputs(surface: Surface) -> list[Prediction]:
    """A square matrix in place of its transpose."""
    found: list[Prediction] = []
    for position, leaf in enumerate(surface.leaves):
        if leaf.ndim == 2 and leaf.shape[0] == leaf.shape[1]:
            turned = surface.unflatten([*surface.leaves[:position], leaf.mT.contiguous(), *surface.leaves[position + 1 :]])
            grads = attempt(finite_difference(Objective(surface.reference.value)), turned, ())
            if grads is not None:
                sentence = f"{surface.subject.paths[position]} is used in place of its transpose"
                found.append((Cause.TRANSPOSED, sentence, tree.leaves(grads[1])))
    return found
