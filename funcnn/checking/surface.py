"""The surface f(w) in float64 near the point where a gradient is checked, and the ways to walk on it.

Whatever the precision of the operands, they are upcast exactly, so f is the same function and only its rounding is gone.
A surface is walked along one leaf at a time: along a direction, or one entry after the other (see `structured`), as a
whole or for every sample by itself. A batch whose value is not the mean of its samples' values counts as one sample.
"""

import math
import warnings
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .. import kernels, tree
from ..batches import by_samples, samples
from ..errors import InputError
from ..providers.batched import batched
from ..providers.complex_plane import complex_step
from ..providers.differences import finite_difference, in_chunks
from ..providers.doors import behind_door
from ..providers.structured import Probe, probes
from ..types import Batch, Objective, Params, StepFn, Tree
from .digits import rounded, spreads
from .plain import derived, plain
from .subject import Subject, gradient_leaves
from .thresholds import EPS, LIMITS, WALKED_TOGETHER
from .trials import attempt, copied


def upcast(x: Tree) -> Tree:
    """The same tree with every floating leaf in float64, exactly: no float of torch's has more digits."""
    return tree.map(lambda leaf: leaf.double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf, x)


class Surface:
    """f at the point of a question, as its reference knows it.

    Raises InputError where the reference does not run in float64.
    """

    def __init__(self, subject: Subject) -> None:
        """Evaluates the function once."""
        self.subject, self.by_differences = subject, subject.reference is None
        self.reference = subject.reference or finite_difference(Objective(subject.claimed.value))
        self.params, self.batch = upcast(copied(subject.params)), upcast(copied(subject.batch))
        self.leaves, self.unflatten = tree.flatten(self.params)
        self.size = sum(leaf.numel() for leaf in self.leaves)
        if self.by_differences and any(leaf.dtype != torch.float64 for leaf in tree.leaves(subject.params)):
            # A kernel that computes in float32 whatever comes in is differenced as what it would be in float64.
            exact = plain(lambda params: subject.claimed.value(params, self.batch), self.params, exactly=True)
            if exact is not None:
                self.reference = finite_difference(Objective(lambda params, batch: exact(params)))
        self.center: Tensor = self._first(self.reference.value)

    def _first(self, function: Callable[[Params, Batch], Any]) -> Any:
        try:
            return function(self.params, self.batch)
        except InputError:
            raise
        except (RuntimeError, ValueError, TypeError) as error:
            needs = "a function that runs in float64, where it is compared, or another reference"
            raise InputError(f"reference({self.subject.arguments})", str(error).splitlines()[0], needs) from error

    def moved(self, dtype: torch.dtype) -> Tensor:
        """The value where every operand is rounded to this dtype anew, or that at the point if there is none."""
        if dtype == torch.float64:
            return self.center
        operands = (rounded(x, torch.finfo(dtype).eps) for x in (self.params, self.batch))
        moved = attempt(self.reference.value, *operands)
        return self.center if moved is None else moved

    @cached_property
    def gradients(self) -> list[Tensor]:
        """The leaves of the reference's."""
        return gradient_leaves("reference", self._first(self.reference.value_and_grad), self.params)[1]

    @cached_property
    def exact(self) -> StepFn:
        """A source of gradients that no rounding of f hides: the reference, or complex steps if f is analytic."""
        if not self.by_differences:
            return self.reference
        return complex_step(Objective(self.reference.value))

    @cached_property
    def exact_gradient(self) -> list[Tensor] | None:
        """Its leaves, or None where f is not analytic."""
        found = attempt(self.exact.value_and_grad, self.params, self.batch)
        return None if found is None else tree.leaves(found[1])

    @cached_property
    def plain_gradients(self) -> list[Tensor] | None:
        """The leaves of torch's gradient of the operations that the function consists of, or None where it has others."""
        return derived(self.plain_value, self.params)

    @cached_property
    def plain_value(self) -> Callable[[Params], Tensor] | None:
        """The operations that the function consists of, or None where it has others than torch's."""
        return plain(lambda params: self.reference.value(params, self.batch), self.params)

    @cached_property
    def casts(self) -> bool:
        """Whether it computes in less than float64, whatever comes in."""
        if any(leaf.dtype != torch.float64 for leaf in tree.leaves(self.subject.params)):
            return False  # see above
        return plain(lambda params: self.reference.value(params, self.batch), self.params, exactly=True) is not None

    def of_leaf(self, position: int) -> Callable[[Tensor], Tensor]:
        """The value as a function of one leaf."""

        def value(leaf: Tensor) -> Tensor:
            leaves = [*self.leaves[:position], leaf, *self.leaves[position + 1 :]]
            return self.reference.value(self.unflatten(leaves), self.batch)

        return value

    def pushed(self, position: int, z: Tensor) -> float | None:
        """The derivative along a direction of one leaf by forward mode, or None where it cannot follow the function."""
        value = self.of_leaf(position)
        with warnings.catch_warnings():  # torch's own, of what it uses to get there
            warnings.simplefilter("ignore")
            found = attempt(torch.func.jvp, value, (self.leaves[position],), (z,))
        return None if found is None else float(found[1])

    @cached_property
    def spreads(self) -> list[float]:
        """How far rounding moves each leaf of the claimed gradient: that of every operand, or of every operation."""
        subject = self.subject
        return spreads(subject.claimed.value_and_grad, subject.params, subject.batch)

    @cached_property
    def roundings(self) -> list[float]:
        """How far rounding every operand anew moves each leaf of the exact gradient, Euclidean norms; 0 if there is none."""
        if self.exact_gradient is None:
            return [0.0] * len(self.leaves)
        moved = attempt(self.exact.value_and_grad, *(rounded(x, 2 * EPS) for x in (self.params, self.batch)))
        if moved is None:
            return [0.0] * len(self.leaves)
        return [(x - y).norm().item() for x, y in zip(self.exact_gradient, tree.leaves(moved[1]), strict=True)]

    @cached_property
    def ceilings(self) -> list[float]:
        """How large each leaf of the claimed gradient may be by rounding alone, as its size beside the point tells."""
        subject = self.subject
        eps = max(torch.finfo(leaf.dtype).eps for leaf in tree.leaves(subject.params))
        beside = attempt(subject.claimed.value_and_grad, rounded(subject.params, LIMITS.elsewhere), copied(subject.batch))
        sizes = [0.0] * len(self.leaves) if beside is None else [float(x.double().norm()) for x in tree.leaves(beside[1])]
        return [100 * eps / LIMITS.elsewhere * size for size in sizes]

    def values(self, position: int, moved: Tensor) -> Float[Tensor, " P"]:
        """The values with one leaf replaced by each of P others, stacked."""
        return self._each(self.of_leaf(position), moved)

    def _each(self, value: Callable[..., Tensor], *moved: Tensor) -> Float[Tensor, " P"]:
        found: Tensor | None = attempt(batched(value), *moved)
        if found is None:  # some of them lie outside the domain
            found = torch.stack([self.nowhere(attempt(value, *leaves)) for leaves in zip(*moved, strict=True)])
        return found

    def nowhere(self, value: Tensor | None) -> Tensor:
        """A value, or NaN where the function refuses."""
        return torch.full_like(self.center, math.nan) if value is None else value

    def is_mapped_right(self, position: int) -> bool:
        """Whether vmap over one leaf gives the values that the function has by itself: a kernel's rule for it may not."""
        value = self.of_leaf(position)
        pair = torch.stack([self.leaves[position] * (1 + near) for near in (0, LIMITS.near)])
        together = attempt(torch.func.vmap(value), pair)
        alone = [attempt(value, leaf.clone()) for leaf in pair]
        if together is None or any(one is None for one in alone):
            return True
        return torch.allclose(together, torch.stack(alone), rtol=1e-9, atol=0.0, equal_nan=True)

    def in_a_loop(self) -> "Surface":
        """The same with a function that nothing but a loop can map."""
        claimed = self.subject.claimed

        def value(params: Params, batch: Batch) -> Tensor:
            if kernels.under_transform():
                raise RuntimeError("not to be mapped")
            alone: Tensor = claimed.value(params, batch)
            return alone

        return Surface(self.subject._replace(claimed=StepFn(value, claimed.value_and_grad)))

    def moved_along(self, zs: dict[int, Tensor]) -> Callable[[Tensor], Tensor]:
        """The values at w + h_i z_i, (k, P), for offsets h (k, P) along P directions of these leaves, z (P, *shape).

        They lie where the offsets do, as those of `along`.
        """

        def value(*moved: Tensor) -> Tensor:
            others = dict(zip(zs, moved, strict=True))
            leaves = [others.get(position, leaf) for position, leaf in enumerate(self.leaves)]
            return self.reference.value(self.unflatten(leaves), self.batch)

        def values(offsets: Tensor) -> Tensor:
            steps = {i: offsets.to(z).reshape(-1, len(z), *[1] * (z.ndim - 1)) * z for i, z in zs.items()}
            return self._each(value, *((self.leaves[i] + step).flatten(0, 1) for i, step in steps.items())).to(
                offsets.device
            )

        return values

    def along(self, position: int, direction: Tensor) -> Callable[[Float[Tensor, " P"]], Float[Tensor, " P"]]:
        """The values at w + h d for offsets h, where d moves one leaf alone."""
        leaf = self.leaves[position]
        at_once = max(1, WALKED_TOGETHER // max(1, leaf.numel()))

        def values(offsets: Tensor) -> Tensor:
            steps = offsets.to(leaf.device).reshape(-1, *[1] * leaf.ndim)
            return in_chunks(lambda h: self.values(position, leaf + h * direction), steps, at_once).to(offsets.device)

        return values

    @cached_property
    def probes(self) -> list[Probe]:
        """What moving single entries does to the value, or to those of the samples where the objective knows them."""
        return probes(behind_door(self.reference.value), self.params, self.batch, self.center)

    @cached_property
    def sample_probes(self) -> list[Probe]:
        """What moving single entries does to the values of the samples."""
        if self.probes[0].center.ndim or not self.splits:
            return self.probes
        return probes(lambda params, batch: self.terms(params), self.params, self.batch, self.terms(self.params))

    @cached_property
    def splits(self) -> bool:
        """Whether the value is made of the samples' own values."""
        if self.subject.rows is not None or not samples(self.batch):
            return self.subject.rows is not None
        terms = attempt(self.terms, self.params)  # it may be that there is no batch of one
        return terms is not None and bool(torch.isclose(terms.mean(), self.center, rtol=1e-9, atol=0.0))

    def terms(self, params: Params) -> Float[Tensor, " N"]:
        """The values of the samples."""
        if self.subject.rows is not None:
            return self.subject.rows.terms(params)
        terms: Tensor = by_samples(lambda sample: self.reference.value(params, sample), self.batch, batched)
        return terms
