"""What torch.no_grad switches off: the tape, on which classic autograd keeps what its way back needs."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

import funcnn as fn


def compare(objective: fn.Objective, params: Any, data: Any) -> dict[str, tuple[str, str]]:
    """What is so of a loss, as usual and under torch.no_grad()."""
    usual, inside = (_look(objective, params, data, mode) for mode in (nullcontext(), torch.no_grad()))
    return {what: (told, inside[what]) for what, told in usual.items()}


def _look(objective: fn.Objective, params: Any, data: Any, mode: AbstractContextManager[Any]) -> dict[str, str]:
    leaves, kept = fn.tree.map(lambda leaf: leaf.clone().requires_grad_(), params), []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.nbytes)
        return tensor

    def step() -> None:
        fn.tree.map(lambda leaf: leaf.sub_(0.1 * torch.ones_like(leaf)), leaves)

    with mode, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = objective.value(leaves, data)
        return {
            "loss.requires_grad": str(loss.requires_grad),
            "loss.grad_fn": type(loss.grad_fn).__name__ if loss.grad_fn is not None else "None",
            "kept for the way back": f"{sum(kept)} bytes",
            "loss.backward()": _outcome(loss.backward),
            "w.sub_(lr * g), in place": _outcome(step),
        }


def _outcome(action: Callable[[], Any]) -> str:
    try:
        action()
    except RuntimeError as error:
        return f"RuntimeError: {str(error).splitlines()[0]}"
    return "done"


def moved(objective: fn.Objective, params: Any, data: Any) -> dict[str, float]:
    """How far each provider's gradient under torch.no_grad() is from the one outside: the largest difference."""
    found = {}
    for name, provider in fn.PROVIDERS.items():
        step_fn = provider(objective)
        outside = step_fn(params, data)[1]
        with torch.no_grad():
            found[name] = fn.tree.max_difference(step_fn(params, data)[1], outside).item()
    return found


def told(mode: dict[str, tuple[str, str]], differences: dict[str, float]) -> str:
    """What no_grad changes, and what it does not."""
    kept, without = mode["kept for the way back"]
    return (
        f"The loss of the line keeps {kept} for its way back, under torch.no_grad() {without}, and cannot go back then; the "
        f"gradients of all {len(differences)} providers are the same inside, to {max(differences.values()):.1g}."
    )
