"""Finite differences: the gradient provider that knows nothing but values, and therefore shares no bug with the others.

The quotient has two errors: truncation, which shrinks with h (as h, or as h^2 for central differences), and rounding,
which grows as eps |f| / h. They balance at

    forward, backward   h = eps^(1/2)    relative error about eps^(1/2)
    central             h = eps^(1/3)    relative error about eps^(2/3)

where eps is that of the parameters' dtype: in float64 about 1e-7 and 1e-10 at best, in float32 about 3e-3 and 2e-4. The
step is scaled by max(1, |w_i|), because the spacing of floating point numbers grows with their size; and the quotient
divides by the step that was really taken, (w + h) - w, not by the one that was meant. (Press et al., *Numerical
Recipes*, 3rd ed., section 5.7.)
"""

from collections.abc import Callable

import torch
from torch import Tensor

from . import tree
from .errors import InputError, check_count, check_number, describe
from .perturbation import Probe, probes, supervised_probes
from .types import Batch, Objective, Params

# scheme: (factor of h on the upper point, factor of h on the lower point, order of the error)
SCHEMES = {"forward": (1, 0, 1), "backward": (0, 1, 1), "central": (1, 1, 2)}

ELEMENTS_AT_ONCE = 2**16  # numbers that one activation of a chunk of perturbations has: 512 KiB of float64, half a cache


def difference_gradient(
    objective: Objective, scheme: str = "central", step: float | None = None, chunk_size: int | None = None
) -> Callable[[Callable[[Params, Batch], Tensor], Params, Batch], tuple[Tensor, Params]]:
    """The rule (value, params, batch) -> (value at params, gradient by differences), value being the objective's.

    Raises:
        InputError: an unknown scheme; a step or chunk_size that is not positive.
    """
    if not isinstance(scheme, str) or scheme not in SCHEMES:
        raise InputError("scheme", describe(scheme), f"one of {', '.join(SCHEMES)}")
    check_step_and_size(step, chunk_size)
    up, down, order = SCHEMES[scheme]

    def quotients(probe: Probe) -> Tensor:
        w = probe.leaf.flatten()
        h = step if step is not None else torch.finfo(w.dtype).eps ** (1 / (order + 1)) * w.abs().clamp(min=1)
        upper, lower = w + up * h, w - down * h
        if step is not None:
            _check_moves(step, upper, lower)

        def rise(index: Tensor, chunk: slice) -> Tensor:
            f_upper = probe.values(index, upper[chunk]) if up else probe.center
            f_lower = probe.values(index, lower[chunk]) if down else probe.center
            return (f_upper - f_lower).reshape(len(index), -1).mean(1)

        rises = for_every_entry(probe, rise, probe.center.dtype, chunk_size)
        return (rises / (upper - lower)).reshape(probe.leaf.shape)

    def gradient(value: Callable[[Params, Batch], Tensor], params: Params, batch: Batch) -> tuple[Tensor, Params]:
        center = value(params, batch)
        if objective.parts is None:
            every = probes(value, params, batch, center)
        else:
            every = supervised_probes(*objective.parts, params, batch)
        grads = [quotients(probe) if probe.leaf.numel() else torch.zeros_like(probe.leaf) for probe in every]
        return center, tree.flatten(params)[1](grads)

    return gradient


def check_step_and_size(step: float | None, chunk_size: int | None) -> None:
    """Raises InputError unless each is positive, or None."""
    if step is not None:
        check_number("step", step, minimum=torch.finfo(torch.float64).tiny)
    if chunk_size is not None:
        check_count("chunk_size", chunk_size)


def for_every_entry(
    probe: Probe, rise: Callable[[Tensor, slice], Tensor], dtype: torch.dtype, chunk_size: int | None
) -> Tensor:
    """rise(indices, chunk) -> (P,) for all entries of a leaf, one chunk after the other."""
    count = probe.leaf.numel()
    at_once = chunk_size or max(1, ELEMENTS_AT_ONCE // max(1, probe.elements))
    indices = torch.arange(count, device=probe.leaf.device)
    rises = probe.center.new_zeros(count, dtype=dtype)  # before the chunks: many small results fragment the heap
    for chunk in (slice(start, start + at_once) for start in range(0, count, at_once)):
        rises[chunk] = rise(indices[chunk], chunk)
    return rises


def _check_moves(step: float, upper: Tensor, lower: Tensor) -> None:
    try:
        still = bool((upper == lower).any())
    except RuntimeError:
        return  # under vmap no value can be looked at, and the quotient is NaN there
    if still:
        raise InputError("step", step, f"a step that moves every parameter in {upper.dtype}")
