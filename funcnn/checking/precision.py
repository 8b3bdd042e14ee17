"""The noise floor: how wrong the gradient of a right rule is in float32, bfloat16 or float16.

The reference is float64's, on the same operands exactly upcast. The floor of a leaf is the relative error that autograd's
own gradient has in the low precision, |a_low - a_64| / max(|a_low|, |a_64|), and never less than what one rounding of the
operands, or of the result, makes of a_64, since a single number may be right by chance. It grows by itself with the
network, the batch and the cancellation in them, so nobody has to guess a tolerance: hand-written gradients that are right
lie within about 1.2 floors, real mistakes above 300, and the line is drawn at 20.
"""

import torch

from .. import tree
from ..errors import InputError
from ..providers import autograd
from ..types import Batch, Objective, Params, StepFn
from .report import relative_error
from .surface import Surface, rounded

FLOORS, HALF = 20, 0.5


def allowances(claimed: StepFn, params: Params, batch: Batch, surface: Surface, tolerance: float) -> list[float]:
    """The relative error up to which a leaf counts as right: the tolerance, or 20 noise floors if that is more."""
    leaves = tree.leaves(params)
    if all(leaf.dtype == torch.float64 for leaf in leaves):
        return [tolerance] * len(leaves)
    roundings = [torch.finfo(leaf.dtype).eps / 4 for leaf in leaves]  # of one operation, in the root mean square
    exact = autograd(Objective(surface.reference.value))
    try:
        low = tree.leaves(autograd(Objective(claimed.value))(params, batch)[1])
        right = tree.leaves(exact(surface.params, surface.batch)[1])
        moved = tree.leaves(exact(*(rounded(x, 4 * max(roundings)) for x in (surface.params, surface.batch)))[1])
        own = [relative_error(a.double(), b) for a, b in zip(low, right, strict=True)]
        operands = [relative_error(a, b) for a, b in zip(moved, right, strict=True)]
    except (InputError, RuntimeError):
        own = operands = roundings  # autograd cannot follow the function
    floors = [max(errors) for errors in zip(own, operands, roundings, strict=True)]
    # What is wrong by half is wrong, unless autograd's gradient is worse than that.
    return [max(tolerance, min(FLOORS * floor, max(HALF, 2 * floor))) for floor in floors]
