"""The complex step: a derivative from values alone, without the rounding error of a difference.

Where f is analytic, and real at real w, its Taylor series continues it to complex numbers,

    f(w + i h) = f(w) + i h f'(w) - h^2/2 f''(w) - ...        so        f'(w) = Im f(w + i h) / h + O(h^2)

Nothing is subtracted, so h may be as small as numbers go, and what is left of the error is the rounding of one evaluation;
a difference must balance rounding against truncation. By default h = 1e-50, whose square is far below rounding, and whose
product with a derivative is far above underflow. Single precision has no room for both, so whatever the dtype of the
parameters, the complex values are in double precision, and the gradient is rounded to that dtype in the end.

What is analytic is a question of its own: see `analytic`.

Squire & Trapp, "Using complex variables to estimate derivatives of real functions" (1998); Martins, Sturdza & Alonso,
"The complex-step derivative approximation" (2003).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import tree
from ..batches import tensors
from ..errors import check_autocast
from ..types import Batch, Objective, Params, StepFn, ValueFn
from .analytic import OnlyAnalytic, Whole, to_complex
from .differences import ELEMENTS_AT_ONCE, check_chunks, check_step_and_size, in_chunks
from .doors import EntryByEntry, behind_door, provider
from .structured import Probe, probes

STEP = 1e-50


def complex_step(objective: Objective, step: float | None = None, chunk_size: int | None = None) -> StepFn:
    """The imaginary part of the value where one parameter is complex, Im f(w + i h e_j) / h, the others being real.

    The error is O(h^2) and rounding alone, for nothing is subtracted. One complex value a parameter, as many of them at
    once as for `finite_difference`. All floating tensors, those of the batch too, are of complex128 in these evaluations.

    Args:
        objective: One that is analytic and runs under torch.func.vmap.
        step: h, the same for every parameter. None takes 1e-50.
        chunk_size: How many parameters are moved at once. None bounds the memory by their sizes.

    Raises:
        InputError: a step or chunk_size that is not positive; (when called) an operation that is not analytic (relu, abs,
            max, a comparison, a real part) or that torch lacks for complex numbers: the message names it; a chunk_size that
            there is no memory for.
    """
    step, chunk_size = check_step_and_size(step, chunk_size)
    h = STEP if step is None else step

    def values(probe: Probe, entries: Tensor) -> Tensor:
        """The values with each of these entries of a leaf moved in turn."""
        moved = probe.leaf.flatten() + 1j * h

        def values_at(chunk: Tensor) -> Tensor:
            values: Tensor = to_complex(probe.values(chunk, moved[chunk]))  # a value of no parameter stays real
            return values.reshape(len(chunk), -1).mean(1)

        if not len(entries):
            return moved[:0]
        at_once = chunk_size or max(1, ELEMENTS_AT_ONCE // max(1, probe.elements))
        return in_chunks(values_at, entries, at_once)

    def complex_values(params: Params, batch: Batch, center: Tensor, entries: list[Tensor]) -> list[Tensor]:
        # Inference mode is left, for in it composite operations are not taken apart.
        with torch.inference_mode(False), torch.no_grad(), Whole(), OnlyAnalytic():  # type: ignore[no-untyped-call]  # torch gives it no types
            points, data = tree.map(to_complex, (params, batch))
            # vmap and no loop: under vmap no tensor can leave torch for Python or NumPy, where nobody would look at it.
            every = probes(behind_door(objective.value), points, data, center, torch.func.vmap)
            check_chunks(every, entries, chunk_size)
            return [*map(values, every, entries)]

    def gradient(value: ValueFn) -> Any:
        def rule(params: Params, batch: Batch, entries: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
            check_autocast()
            leaves, unflatten = tensors((params, batch))
            dtypes = [leaf.dtype for leaf in tree.leaves(params)]

            def on_leaves(*operands: Tensor) -> tuple[Tensor, ...]:
                params, batch = unflatten(list(operands))
                center = value(params, batch)  # in real numbers: whatever does not fit is found here
                # Where the value is no number there is no derivative, though a continuation may have one: log(-1) is i pi.
                slopes = [values.imag / h + 0 * center for values in complex_values(params, batch, center, entries)]
                return center, *(x.to(dtype) for x, dtype in zip(slopes, dtypes, strict=True))

            center, *slopes = on_leaves_alone(on_leaves, *leaves)
            return center, slopes

        return rule

    return provider("complex_step", objective, gradient, EntryByEntry)


class _Undifferentiated(torch.autograd.Function):
    """Calls a function of tensors that has no derivative here: torch says so where one is asked for, and gives no 0."""

    @staticmethod
    def forward(function: Callable[..., tuple[Tensor, ...]], *tensors: Tensor) -> Any:
        return function(*tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, function: Callable[..., tuple[Tensor, ...]], *tensors: Tensor) -> Any:
        outputs = on_leaves_alone(torch.func.vmap(function, in_dims=in_dims[1:]), *tensors)
        return outputs, (0,) * len(outputs)


# (function, *tensors) -> function(*tensors)
on_leaves_alone: Callable[..., tuple[Tensor, ...]] = _Undifferentiated.apply
