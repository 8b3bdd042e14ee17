"""What a torch module may do beside computing, and a function may not: draw random numbers, and write to its operands.

    drawing    moves torch's global generators on, which shows in their states
    writing    moves the version counter of a tensor on, which torch keeps for its tape

These are looked at in every call. Where a step is traced nothing is drawn yet, and torch's own tag says which operations
will draw. The rest is looked at once, before the first call: whether it writes through `.data`, draws otherwise, or reads
parameters other than by their names, as out of a list, where those of the call do not stand.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from .. import kernels
from ..errors import InputError

NEEDS = "a pure function of its parameters and inputs: module.eval(), or its parts without dropout and running statistics"
Operands = list[tuple[str, Tensor]]


def without_effects(place: str, call: Callable[[], Any], operands: Operands) -> Any:
    """What the call returns. Raises InputError if it drew random numbers, or wrote to one of the named operands."""
    traced = kernels.traced()
    generators = [] if traced else _generators(operands)
    before = [generator.get_state() for generator in generators]
    versions = [(name, x, x._version) for name, x in operands if not x.is_inference()]
    try:
        with _NoDraws(place) if traced else nullcontext():
            result = call()
    except RuntimeError as error:  # what torch says of both under its transforms
        if "random operation" in str(error):
            raise refused(place, "draws random numbers") from error
        if "in-place operation" in str(error):
            raise refused(place, "writes to its operands") from error
        raise
    for generator, state in zip(generators, before, strict=True):
        if not torch.equal(generator.get_state(), state):
            generator.set_state(state)
            raise refused(place, "draws random numbers")
    for name, x, version in versions:
        if x._version != version:
            raise refused(place, f"writes to {name}")
    return result


def check_function(place: str, call: Callable[[], Tensor], operands: Operands, fill: Callable[[float], None]) -> None:
    """Raises InputError unless the call is a function of the operands; `fill` changes numbers that it must not read."""
    numbers = _Numbers.of(operands)
    fill(torch.nan)
    try:
        first = kernels.bare(without_effects(place, call, operands))
    finally:
        written = [one.name for one in numbers if one.moved()]
    for name in written[:1]:
        raise refused(place, f"writes to {name}")
    fill(0.0)
    other = kernels.bare(call())
    if not _alike(first, other):
        reads = _alike(other, kernels.bare(call()))
        raise refused(
            place, "reads parameters other than by their names" if reads else "gives other numbers when called again"
        )
    fill(torch.nan)


def _alike(x: Tensor, y: Tensor) -> bool:
    """Equal but for what an accelerator adds up in another order."""
    with kernels.beneath_transforms(), torch.no_grad():
        size = float(x.abs().nan_to_num(0.0, 0.0).max()) if x.numel() else 0.0
        return x.shape == y.shape and torch.allclose(x, y, rtol=1e-3, atol=1e-3 * size, equal_nan=True)


def refused(place: str, does: str) -> InputError:
    """The error that names what a forward does beside computing."""
    return InputError(place, f"a forward that {does}", NEEDS)


def _generators(operands: Operands) -> list[torch.Generator]:
    """Torch's global generators."""
    cuda = {x.device for _, x in operands if x.is_cuda}
    return [torch.default_generator, *(torch.cuda.default_generators[device.index] for device in cuda)]


class _Numbers(NamedTuple):
    """An operand, the tensor beneath torch's transforms, and a copy of what it holds."""

    name: str
    operand: Tensor
    x: Tensor
    held: Tensor

    @classmethod
    def of(cls, operands: Operands) -> list["_Numbers"]:
        """Those of all operands."""
        with kernels.beneath_transforms():
            bare = [(name, x, kernels.bare(x).detach()) for name, x in operands]
            return [cls(name, operand, x, x.clone()) for name, operand, x in bare]

    def moved(self) -> bool:
        """Whether something was written there; if so it is what it was again."""
        with kernels.beneath_transforms(), torch.no_grad():
            if kernels.bare(self.operand).data_ptr() != self.x.data_ptr():
                return True
            same = torch.equal(self.x, self.held) or bool(((self.x == self.held) | (self.x != self.x)).all())
            if not same:
                self.x.copy_(self.held)
        return not same


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
                raise refused(self.place, "draws random numbers")
        return func(*args, **kwargs)
