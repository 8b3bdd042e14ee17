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
from .types import Batch, Params

# scheme: (factor of h on the upper point, factor of h on the lower point, order of the error)
SCHEMES = {"forward": (1, 0, 1), "backward": (0, 1, 1), "central": (1, 1, 2)}

ELEMENTS_AT_ONCE = 2**21  # of perturbed parameters and of the batch: 16 MiB of float64, the size of a cache


def difference_gradient(
    scheme: str = "central", step: float | None = None, chunk_size: int | None = None
) -> Callable[[Callable[[Params, Batch], Tensor], Params, Batch], tuple[Tensor, Params]]:
    """The rule (value, params, batch) -> (value at params, gradient by differences).

    Raises:
        InputError: an unknown scheme; a step or chunk_size that is not positive.
    """
    if not isinstance(scheme, str) or scheme not in SCHEMES:
        raise InputError("scheme", describe(scheme), f"one of {', '.join(SCHEMES)}")
    if step is not None:
        check_number("step", step, minimum=torch.finfo(torch.float64).tiny)
    if chunk_size is not None:
        check_count("chunk_size", chunk_size)
    up, down, order = SCHEMES[scheme]

    def gradient(value: Callable[[Params, Batch], Tensor], params: Params, batch: Batch) -> tuple[Tensor, Params]:
        leaves, unflatten = tree.flatten(params)
        elements = sum(leaf.numel() for leaf in leaves + tree.leaves(batch))
        at_once = chunk_size or max(1, ELEMENTS_AT_ONCE // max(1, elements))
        center = value(params, batch)

        def derivative(position: int, leaf: Tensor) -> Tensor:
            w = leaf.flatten()
            h = step if step is not None else torch.finfo(w.dtype).eps ** (1 / (order + 1)) * w.abs().clamp(min=1)
            upper, lower = w + up * h, w - down * h
            indices = torch.arange(w.numel(), device=w.device)

            def value_at(moved: Tensor, index: Tensor) -> Tensor:
                perturbed = torch.where(indices == index, moved, w).reshape(leaf.shape)
                return value(unflatten([*leaves[:position], perturbed, *leaves[position + 1 :]]), batch)

            def quotient(index: Tensor) -> Tensor:
                f_upper = value_at(upper, index) if up else center
                f_lower = value_at(lower, index) if down else center
                return f_upper - f_lower

            rises = torch.func.vmap(quotient, chunk_size=at_once)(indices)
            return (rises / (upper - lower)).reshape(leaf.shape)

        grads = [derivative(i, leaf) if leaf.numel() else torch.zeros_like(leaf) for i, leaf in enumerate(leaves)]
        return center, unflatten(grads)

    return gradient
