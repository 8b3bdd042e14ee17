"""What a torch module may do beside computing, and a function may not: draw random numbers, and write to its operands.

    drawing    moves torch's global generators on, which shows in their states
    writing    moves the version counter of a tensor on, which torch keeps for its tape

Where a step is traced nothing is drawn yet, and torch's own tag says which operations will draw.
"""

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .. import kernels
from ..errors import InputError

NEEDS = "a pure function of its parameters and inputs: module.eval(), or its parts without dropout and running statistics"


def without_effects(place: str, call: Callable[[], Any], operands: Iterable[tuple[str, Tensor]]) -> Any:
    """What the call returns. Raises InputError if it drew random numbers, or wrote to one of the named operands."""
    watched = [(name, x, x._version) for name, x in operands if not x.is_inference()]
    cuda = {x.device for _, x, _ in watched if x.is_cuda}
    traced = kernels.traced()
    before = [] if traced else _generators(cuda)
    try:
        with _NoDraws(place) if traced else nullcontext():
            result = call()
    except RuntimeError as error:  # what torch says of both under its transforms
        if "random operation" in str(error):
            raise _draws(place) from error
        if "in-place operation" in str(error):
            raise InputError(place, "a forward that writes to its operands", NEEDS) from error
        raise
    for state, restore in before:
        if not torch.equal(state, restore.__self__.get_state()):
            restore(state)
            raise _draws(place)
    for name, x, version in watched:
        if x._version != version:
            raise InputError(place, f"a forward that writes to {name}", NEEDS)
    return result


def _draws(place: str) -> InputError:
    return InputError(place, "a forward that draws random numbers", NEEDS)


def _generators(cuda: set[torch.device]) -> list[tuple[Tensor, Any]]:
    """The state of each global generator, and what sets it."""
    every = [torch.default_generator, *(torch.cuda.default_generators[device.index] for device in cuda)]
    return [(generator.get_state(), generator.set_state) for generator in every]


class _NoDraws(TorchDispatchMode):
    """Inside this context an operation that draws raises InputError."""

    def __init__(self, place: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch gives it no types
        self.place = place

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded in func.tags:
            names = [argument.name for argument in func._schema.arguments]
            given = dict(zip(names, args, strict=False)) | kwargs
            # Attention has the tag for its dropout, which may be 0.
            if "attention" not in str(func) or given.get("dropout_p", 0.0):
                raise _draws(self.place)
        return func(*args, **kwargs)
