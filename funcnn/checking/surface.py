"""The surface f(w) in float64 near the point where a gradient is checked, and the ways to walk on it.

Whatever the precision of the operands, they are upcast exactly, so f is the same function and only its rounding is gone.
A surface is walked along one leaf at a time: along a direction, or one entry after the other (see `perturbation`), as a
whole or for every sample by itself. A batch whose value is not the mean of its samples' values counts as one sample.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .. import tree
from ..batched import batched
from ..errors import InputError
from ..perturbation import Probe, probes, supervised_probes
from ..providers import complex_step
from ..types import Batch, Objective, Params, StepFn, Tree

ELSEWHERE = 1e-2  # the relative distance of another point, where nothing that is kept may come from
WALKED_TOGETHER = 2**22  # numbers that the copies of a leaf may have in one evaluation: 32 MiB


def upcast(x: Tree) -> Tree:
    """The same tree with every floating leaf in float64, exactly: no float of torch's has more digits."""
    return tree.map(lambda leaf: leaf.double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf, x)


def rounded(x: Tree, eps: float) -> Tree:
    """The same tree with every floating number moved by a random relative error of size eps."""
    generator = torch.Generator().manual_seed(0)

    def leaf(x: Any) -> Any:
        if not (isinstance(x, Tensor) and x.is_floating_point()):
            return x
        return x * (1 + eps * torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x))

    return tree.map(leaf, x)


class Surface:
    """f at params, with the batch bound, as the reference knows it.

    Raises InputError where the reference does not run in float64.
    """

    def __init__(self, reference: StepFn, params: Params, batch: Batch, by_differences: bool) -> None:
        """Evaluates the function once. `by_differences` says that the reference is no more exact than differences are."""
        self.reference, self.by_differences = reference, by_differences
        self.params, self.batch = upcast(params), upcast(batch)
        self.leaves, self.unflatten = tree.flatten(self.params)
        self.center: Tensor = self._first(reference.value)

    def _first(self, function: Callable[[Params, Batch], Any]) -> Any:
        try:
            return function(self.params, self.batch)
        except InputError:
            raise
        except (RuntimeError, ValueError, TypeError) as error:
            needs = "a function that runs in float64, where it is compared, or another reference"
            raise InputError("reference(params, batch)", str(error).splitlines()[0], needs) from error

    @cached_property
    def gradient(self) -> Params:
        """The reference's."""
        return self._first(self.reference.value_and_grad)[1]

    @cached_property
    def exact(self) -> StepFn | None:
        """A source of gradients that no rounding of f hides: the reference, or complex steps where f is analytic."""
        if not self.by_differences:
            return self.reference
        analytic = complex_step(self.reference.objective or Objective(self.reference.value))
        try:
            analytic(self.params, self.batch)
        except (InputError, RuntimeError, ValueError, TypeError):
            return None
        return analytic

    @cached_property
    def exact_gradient(self) -> list[Tensor] | None:
        """Its leaves."""
        return None if self.exact is None else tree.leaves(self.exact(self.params, self.batch)[1])

    @cached_property
    def roundings(self) -> list[float]:
        """How far rounding every operand anew moves each of these leaves, Euclidean norms."""
        assert self.exact is not None and self.exact_gradient is not None
        moved = self.exact(*(rounded(x, torch.finfo(torch.float64).eps) for x in (self.params, self.batch)))[1]
        return [(x - y).norm().item() for x, y in zip(self.exact_gradient, tree.leaves(moved), strict=True)]

    def along(self, position: int, direction: Tensor) -> Callable[[Float[Tensor, " P"]], Float[Tensor, " P"]]:
        """The values at w + h d for offsets h, where d moves one leaf alone."""
        leaf = self.leaves[position]

        def value(h: Tensor) -> Tensor:
            moved = [*self.leaves[:position], leaf + h * direction, *self.leaves[position + 1 :]]
            return self.reference.value(self.unflatten(moved), self.batch)

        def values(offsets: Tensor) -> Tensor:
            offsets = offsets.to(leaf.device)
            together = len(offsets) * leaf.numel() <= WALKED_TOGETHER
            return batched(value)(offsets) if together else torch.stack([value(h) for h in offsets])

        return values

    @cached_property
    def probes(self) -> list[Probe]:
        """What moving single entries does to the value, or to those of the samples where the objective knows them."""
        objective = self.reference.objective
        if objective is not None and objective.parts is not None:
            return supervised_probes(*objective.parts, self.params, self.batch)
        return probes(self.reference.value, self.params, self.batch, self.center)

    @cached_property
    def sample_probes(self) -> list[Probe]:
        """What moving single entries does to the values of the samples."""
        if self.probes and self.probes[0].center.ndim or not self.splits:
            return self.probes
        return probes(lambda params, batch: self._terms(params), self.params, self.batch, self._terms(self.params))

    @cached_property
    def splits(self) -> bool:
        """Whether the value is the mean of the samples' own values."""
        if not tree.leaves(self.batch):
            return False
        try:
            mean = self._terms(self.params).mean()
        except (RuntimeError, ValueError, TypeError):
            return False  # no batch of one
        return bool(torch.isclose(mean, self.center, rtol=1e-9, atol=0.0))

    def _terms(self, params: Params) -> Float[Tensor, " N"]:
        samples, unflatten = tree.flatten(self.batch)

        def alone(*leaves: Tensor) -> Tensor:
            return self.reference.value(params, unflatten([leaf[None] for leaf in leaves]))

        terms: Tensor = batched(alone)(*samples)
        return terms
