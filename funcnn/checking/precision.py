"""The noise floor: how wrong the gradient of a right rule is in float32, bfloat16 or float16.

The reference is float64's, on the same operands exactly upcast. The floor of a leaf is the relative error that autograd's
own gradient has in the low precision, |a_low - a_64| / max(|a_low|, |a_64|). It grows by itself with the network, the
batch and the cancellation in them, so nobody has to guess a tolerance: hand-written gradients that are right lie within
about 1.2 floors, real mistakes above 300, and the line is drawn at 20.

A single number may be right by chance, so the floor is at least one rounding of the result and, up to four times as much,
what rounding the operands anew does to a_64. And it may be so high that a mistake would hide in it: no more than 0.3 is ever
allowed, and where autograd itself is worse than that the precision has no digits left to judge by.
"""

import torch

from .. import tree
from ..errors import InputError
from ..providers.reverse import autograd
from ..report import relative_error
from ..types import Objective, Params
from .surface import Surface, rounded
from .thresholds import LIMITS
from .trials import copied


def noise_floors(surface: Surface) -> list[float]:
    """The relative error of a right gradient in every leaf; 0 in float64, where the tolerance decides."""
    subject = surface.subject
    leaves = tree.leaves(subject.params)
    roundings = [torch.finfo(leaf.dtype).eps / 4 for leaf in leaves]  # of one operation, in the root mean square
    if all(leaf.dtype == torch.float64 for leaf in leaves):
        return [0.0] * len(leaves)
    exact = autograd(Objective(surface.reference.value))

    def distances(low: Params, right: Params) -> list[float]:
        return [relative_error(a.double(), b) for a, b in zip(tree.leaves(low), tree.leaves(right), strict=True)]

    try:
        right = exact(surface.params, surface.batch)[1]
        own = distances(autograd(Objective(subject.claimed.value))(*copied((subject.params, subject.batch)))[1], right)
        operands = distances(exact(*(rounded(x, 4 * max(roundings)) for x in (surface.params, surface.batch)))[1], right)
    except (InputError, RuntimeError):
        return roundings  # autograd cannot follow the function
    floors = [max(pair) for pair in zip(own, roundings, strict=True)]
    return [max(floor, min(moved, LIMITS.luck * floor)) for floor, moved in zip(floors, operands, strict=True)]


def allowed(tolerance: float, floor: float) -> float:
    """The relative error up to which a leaf counts as right."""
    return max(tolerance, min(LIMITS.floors * floor, LIMITS.most))
