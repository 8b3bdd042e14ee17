"""What an estimator can be asked: for draws; and a record of ours for draws of its own choosing by whoever asks.

A plain callable draws from a generator of its own, and all that can be seen of it are draws as it makes them. A record
`Drawn` has its generator, its number of samples and the outcome of a draw for data. So it is asked for draws of generators
that nobody else has, for averages over more samples, and, where it claims a law of its directions, for the same draw with
directions that are t times as long, t also negative: as an estimate is u (u . gradient), that is t^2 times the estimate, and
for a difference quotient with half-step c the one with half-step t c.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import tree
from ..errors import InputError, called
from ..providers.doors import Gradient, behind_door
from ..providers.drawn import Drawn
from ..types import Batch, Params, StepFn
from .subject import gradient_leaves

CPU = torch.device("cpu")  # where the estimates of any device are compared
ROUGHEST = 0.1  # of a gradient, that a step may leave out
Source = Callable[[int], tuple[Tensor, Tensor]]  # m -> (values (m,), estimates (m, d)) of m new draws


class Estimator(NamedTuple):
    """An estimator of a gradient g of d entries.

    ask          (seed, samples=None, stretch=1.0) -> a source; a plain callable's does not look at these
    value, g     the reference's, with g of shape (d,)
    paths        how its leaves are written
    shapes       what shapes they have
    rows         N, or 1 without a batch
    eps          the precision of the parameters
    samples      K, None where it does not say
    directions   what law it claims for its directions: "gaussian", "rademacher", "orthogonal"; "" if none
    rough        how far its quotients are from derivatives, as a share of the gradient
    """

    ask: Callable[..., Source]
    value: Tensor
    g: Tensor
    paths: list[str]
    shapes: list[torch.Size]
    rows: int
    eps: float
    samples: int | None = None
    directions: str = ""
    rough: float = 0.0

    @property
    def sizes(self) -> list[int]:
        """How many entries each leaf has."""
        return [shape.numel() for shape in self.shapes]

    @property
    def tolerance(self) -> float:
        """The relative bias that rounding and the step of a difference quotient may have."""
        return float(self.eps ** (1 / 3)) + min(10 * self.rough, ROUGHEST)


def estimator(claimed: StepFn, reference: StepFn, params: Params, batch: Batch) -> Estimator:
    """A step function and what it is held against. Raises InputError where the reference gives no finite gradient."""
    found = called("reference(params, batch)", reference.value_and_grad, params, batch)
    value, leaves = gradient_leaves("reference", found, params)
    g = _flat(leaves)
    center = value.detach().double().to(CPU)
    if not (center.isfinite() and g.isfinite().all()):
        raise InputError("reference(params, batch)", "numbers that are not finite", "the value and gradient to compare with")
    if not g.any():
        raise InputError("reference(params, batch)", "a gradient of 0", "another, or nothing says how far off is far: move")
    paths, shapes = tree.paths(params, "params"), [leaf.shape for leaf in leaves]
    rows = len(tree.leaves(batch)[0]) if tree.leaves(batch) else 1
    eps = max(torch.finfo(leaf.dtype).eps for leaf in leaves)
    rule: Any = behind_door(claimed.value_and_grad)

    def source(step_fn: StepFn) -> Source:
        return partial(_draws, step_fn, params, batch)

    if not isinstance(rule, Drawn):
        return Estimator(lambda seed, **how: source(claimed), center, g, paths, shapes, rows, eps)

    def ask(seed: int, samples: int | None = None, stretch: float = 1.0) -> Source:
        other = rule._replace(generator=_seeded(rule, seed), samples=samples or rule.samples)
        if stretch == 1.0:
            return source(_behind(claimed, other))
        longer = source(_behind(claimed, other._replace(outcomes=partial(_stretched, rule.outcomes, stretch))))

        def shrunk(count: int) -> tuple[Tensor, Tensor]:
            values, estimates = longer(count)
            return values, estimates / stretch**2

        return shrunk

    return Estimator(ask, center, g, paths, shapes, rows, eps, rule.samples, rule.directions)


def apart(step_fn: StepFn, seed: int) -> StepFn:
    """A record with a generator of its own, so that the other one stays where it is; a plain callable as it is."""
    rule: Any = behind_door(step_fn.value_and_grad)
    return _behind(step_fn, rule._replace(generator=_seeded(rule, seed))) if isinstance(rule, Drawn) else step_fn


def _seeded(rule: Drawn, seed: int) -> torch.Generator:
    return torch.Generator(rule.generator.device).manual_seed(seed)


def _behind(claimed: StepFn, rule: Drawn) -> StepFn:
    """The step function with another record behind its door."""
    door = claimed.value_and_grad
    return StepFn(claimed.value, door._replace(function=rule) if isinstance(door, Gradient) else rule)


def _stretched(outcomes: Callable[[Any, Any], Any], stretch: float, place: Any, draws: Any) -> Any:
    return tree.map(lambda u: stretch * u, outcomes(place, draws))


def _draws(step_fn: StepFn, params: Params, batch: Batch, count: int) -> tuple[Tensor, Tensor]:
    values, estimates = [], []
    for _ in range(count):
        value, leaves = gradient_leaves("step_fn", step_fn.value_and_grad(params, batch), params)
        values.append(value.detach().double().to(CPU))
        estimates.append(_flat(leaves))
    return torch.stack(values), torch.stack(estimates)


def _flat(leaves: list[Tensor]) -> Tensor:
    return torch.cat([leaf.double().flatten() for leaf in leaves]).to(CPU)
