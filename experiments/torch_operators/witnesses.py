"""Four witnesses to a derivative along a direction, none of which is funcnn's.

    backward     <g, v>, g the gradient of <u, f> by torch's reverse mode
    forward      <u, J v> by torch's forward mode, where the operator has one
    differences  of <u, f> along v, each value by itself and at tensors of its own, from steps of 1/8 down to 1e-7
    one side     the same from the right or from the left alone

A difference comes with a doubt: how far three neighbouring steps are apart where they are closest, and what rounding does.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from experiments.torch_operators.cases import Case

STEPS = [2.0**-k for k in range(3, 24)]
EPS = torch.finfo(torch.float64).eps


class Slope(NamedTuple):
    """A derivative and how far off it may be."""

    value: float
    doubt: float


class Testimony(NamedTuple):
    """What the witnesses say along one direction v of one input. `size` is how large |<g, v>| typically is."""

    position: int
    v: Tensor
    backward: float
    differences: Slope
    forward: float | None
    size: float

    @property
    def backward_off(self) -> float:
        """How far the backward is from the differences beyond their doubt, relative to the larger of the two."""
        return self.distance(self.backward, 10 * self.differences.doubt)

    @property
    def forward_off(self) -> float:
        """How far forward mode is."""
        return 0.0 if self.forward is None else self.distance(self.forward, 10 * self.differences.doubt)

    def distance(self, other: float, doubt: float = 0.0) -> float:
        """How far another derivative is from the differences, relative to the larger of the two and to its usual size."""
        beyond = max(0.0, abs(other - self.differences.value) - doubt)
        return beyond / max(abs(other), abs(self.differences.value), self.size, 1e-300)


class Scene:
    """A case with a cotangent u: the function <u, f(x)> and its gradient by torch."""

    def __init__(self, case: Case, u: Tensor | None = None, bound: tuple[Tensor, ...] | None = None) -> None:
        """With u None a random cotangent, with `bound` other integers inside f."""
        self.case, self.generator = case, torch.Generator().manual_seed(1)
        self.f = case.f if bound is None else case.rebound(bound)
        self.y = self.f(*copies(case.inputs)).detach()
        self.u = torch.randn(self.y.shape, generator=self.generator, dtype=torch.float64).to(self.y) if u is None else u
        self.noise = EPS * (self.u * self.y).abs().sum().item()

    @property
    def gradients(self) -> list[Tensor]:
        """Of <u, f>, by reverse mode."""
        leaves = [x.requires_grad_() for x in copies(self.case.inputs)]
        found = torch.autograd.grad(self.f(*leaves), leaves, self.u, allow_unused=True)
        return [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, found, strict=True)]

    def value(self, position: int, x: Tensor) -> float:
        """<u, f> with another tensor in place of one input, NaN where f refuses it."""
        inputs = list(copies(self.case.inputs))
        inputs[position] = x.clone()
        try:
            return (self.u * self.f(*inputs)).double().sum().item()
        except (RuntimeError, ValueError):
            return float("nan")

    def slope(self, position: int, v: Tensor, sides: tuple[float, float] = (1.0, -1.0)) -> Slope:
        """By differences of fourth order, or from one side of second order, where three neighbouring steps agree best."""
        x, (a, b) = self.case.inputs[position], sides
        quotients = [
            (self.value(position, x + a * h * v) - self.value(position, x + b * h * v)) / ((a - b) * h) for h in STEPS
        ]
        weight = 4 if 0.0 not in sides else 2
        finer = [(weight * fine - coarse) / (weight - 1) for coarse, fine in zip(quotients, quotients[1:], strict=False)]
        spreads = [(max(finer[k : k + 3]) - min(finer[k : k + 3]), k) for k in range(len(finer) - 2)]
        spread, k = (
            min((spread, k) for spread, k in spreads if spread == spread)
            if any(spread == spread for spread, _ in spreads)
            else (float("inf"), 0)
        )
        return Slope(finer[k + 1], spread + self.noise / STEPS[k + 2])

    def pushed(self, position: int, v: Tensor) -> float | None:
        """<u, J v> by forward mode, None where it cannot follow."""
        tangents = tuple(v if i == position else torch.zeros_like(x) for i, x in enumerate(self.case.inputs))
        try:
            _, tangent = torch.func.jvp(self.f, copies(self.case.inputs), tangents)
        except (RuntimeError, ValueError, TypeError):
            return None
        return (self.u * tangent).double().sum().item()

    def directions(self, position: int, count: int = 2) -> list[Tensor]:
        """Random ones whose largest entry is 1."""
        shape = self.case.inputs[position].shape
        drawn = (torch.randn(shape, generator=self.generator, dtype=torch.float64) for _ in range(count))
        return [v / v.abs().max() for v in drawn]

    def testify(self, onto: Callable[[Tensor], Tensor] = lambda v: v, positions: tuple[int, ...] = ()) -> list[Testimony]:
        """All witnesses along random directions, projected `onto` some subspace, of all inputs or of some."""
        found, gradients = [], self.gradients
        for i in positions or range(len(gradients)):
            if not gradients[i].numel():
                continue
            for v in map(onto, self.directions(i)):
                size = (gradients[i].norm() * v.norm()).item() / gradients[i].numel() ** 0.5
                backward = (gradients[i] * v).sum().item()
                found.append(Testimony(i, v, backward, self.slope(i, v), self.pushed(i, v), size))
        return found


def copies(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Tensors of their own, that nobody else has a view of."""
    return tuple(x.clone() for x in inputs)
