"""The noise floor: how wrong the gradient of a right rule is in float32, bfloat16 or float16.

The reference is float64's, on the same operands exactly upcast. The floor of a leaf is the relative error that autograd's
own gradient has in the low precision, |a_low - a_64| / max(|a_low|, |a_64|), in the root mean square of the point itself and
of some beside it, since a single number may be right by chance. It grows by itself with the network, the batch and the
cancellation in them, so nobody has to guess a tolerance.

It is at least one rounding of the result. And it may be so high that a mistake would hide in it: no more than 0.3 is ever
allowed, and where autograd itself is worse than that the precision has no digits left to judge by. Autograd follows the
plain operations of the function, so that a rule never sets the floor that it is judged by: see `plain`.
"""

import torch
from torch import Tensor

from .. import tree
from ..report import relative_error
from .digits import ANEW, rounded
from .plain import derived, plain
from .surface import Surface, upcast
from .thresholds import LIMITS
from .trials import copied


def noise_floors(surface: Surface) -> list[float]:
    """The relative error of a right gradient in every leaf; 0 in float64, where the tolerance decides."""
    subject = surface.subject
    leaves = tree.leaves(subject.params)
    if all(leaf.dtype == torch.float64 for leaf in leaves):
        return [0.0] * len(leaves)
    eps = [torch.finfo(leaf.dtype).eps for leaf in leaves]
    claimed = subject.follows or subject.claimed
    low = plain(lambda params: claimed.value(params, copied(subject.batch)), subject.params)
    squares, points = torch.zeros(len(leaves), dtype=torch.float64, device="cpu"), 0
    for seed in range(ANEW if surface.size <= LIMITS.many else 1):
        params = rounded(subject.params, LIMITS.elsewhere, seed) if seed else subject.params
        own, right = derived(low, params), derived(surface.plain_value, upcast(params)) if seed else surface.plain_gradients
        if own is not None and right is not None:
            squares += torch.tensor([_error(a, b) for a, b in zip(own, right, strict=True)], device="cpu").square()
            points += 1
    if not points:
        return eps  # autograd cannot follow the function
    return [max(error, least / 4) for error, least in zip((squares / points).sqrt().tolist(), eps, strict=True)]


def _error(low: Tensor, right: Tensor) -> float:
    return min(relative_error(low.double(), right), 2.0)


def allowed(tolerance: float, floor: float) -> float:
    """The relative error up to which a leaf counts as right."""
    return max(tolerance, min(LIMITS.floors * floor, LIMITS.most))
