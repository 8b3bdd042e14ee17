"""What is right or wrong in use and not in a formula: arguments, outputs, memory, precision, state.

A case is built right, build(), or wrong, build(mistake): a callable or a Function for `check_vjp`, with its inputs and its
options, such as the backward of a pair. `formula` is the same function in plain torch, which tests the right ones; of a
straight-through kernel it is the function whose derivative is meant. A third of the cases is held out here too.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

Floats = torch.float64


class Mistake(NamedTuple):
    """What is wrong, the causes that a report may name (keys of `words.WORDS`), and the word for `build`."""

    what: str
    causes: str
    word: str


class Case(NamedTuple):
    """A kernel in use: how to build it, its inputs, its formula, its wrong twins, and options of the check."""

    name: str
    build: Callable[..., Any]
    inputs: Callable[[], tuple[Any, ...]]
    formula: Callable[..., Any]
    mistakes: tuple[Mistake, ...] = ()
    options: dict[str, Any] = {}


def made(forward: Callable[..., Any], backward: Callable[..., Any], **more: Any) -> type[torch.autograd.Function]:
    """The Function of forward(ctx, *inputs) and backward(ctx, *u), and what else it has."""
    methods = {"forward": forward, "backward": backward, **more}
    kinds = {name: staticmethod(thing) if callable(thing) else thing for name, thing in methods.items()}
    return type("Written", (torch.autograd.Function,), kinds)


def saving(forward: Callable[..., Any], backward: Callable[..., Any]) -> type[torch.autograd.Function]:
    """The Function of forward(*inputs) and backward(*inputs, u), which saves its inputs, all of them tensors."""

    def save(ctx: Any, *inputs: Tensor) -> Any:
        ctx.save_for_backward(*inputs)
        return forward(*inputs)

    return made(save, lambda ctx, *u: backward(*ctx.saved_tensors, *u))


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = Floats) -> Tensor:
    """Normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)), dtype=Floats).to(dtype)
