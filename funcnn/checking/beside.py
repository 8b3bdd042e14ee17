"""The same mistake at other points: whatever a cause is called, it must be that there as well.

At one point another mistake may make the very numbers: where a single entry lies beyond a threshold, that entry is wrong;
where all weights are 1, a weight too many is none. So the rule is asked again with other inputs and another cotangent,
and compared with the derivative of its formula. Nothing is known there of samples or of a network.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from .elsewhere import off
from .evidence import Evidence
from .recorded import Recorded
from .trials import attempt

SCALES = (1.0, 0.5, 1.0)  # of the other points
LARGE = 1e6  # times the gradients at the point, beyond which digits are lost, as where a recursion explodes
NEAR = 1e-2  # how far a point is moved that is refused far away


def beside(e: Evidence) -> Iterator[Evidence]:
    """The evidence at other points, where the formula can be differentiated and both are of the usual size."""
    for seed, scale in enumerate(SCALES if e.formula is not None else ()):
        for size in (1.0, NEAR):
            found = attempt(_there, e, seed, scale, size)
            if found is not None:
                yield found
                break


def _there(e: Evidence, seed: int, scale: float, size: float) -> Evidence | None:
    formula, generator = e.formula, torch.Generator().manual_seed(seed)
    if formula is None:
        return None
    leaves = tuple(_moved(leaf, seed, scale, size) for leaf in formula.leaves)
    u = tuple(torch.randn(x.shape, generator=generator, dtype=torch.float64, device="cpu").to(x) for x in formula.u)
    recorded = Recorded(formula.f, leaves)
    if recorded.y is None or recorded.y.shape != u[0].shape:
        return None
    r = recorded.pull(u[0])[formula.position]
    g = formula.pull([leaf.clone() for leaf in leaves], [one.clone() for one in u], None)[formula.position].double()
    usual = LARGE * max(e.g.norm(), e.r.norm())
    if g.shape != e.g.shape or not (g.norm() <= usual and r.norm() <= usual):
        return None
    return replace(e, g=g, r=r, samples=None, predictions=list, formula=formula._replace(leaves=leaves, u=u))


def _moved(leaf: Tensor, seed: int, scale: float, size: float) -> Tensor:
    """Other numbers; a symmetric matrix stays one."""
    moved = leaf + size * (scale * off(leaf, seed) - leaf)
    symmetric = leaf.ndim > 1 and leaf.shape[-1] == leaf.shape[-2] and torch.equal(leaf, leaf.mT)
    return (moved + moved.mT) / 2 if symmetric else moved
