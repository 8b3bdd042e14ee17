"""Is it wrong? The witnesses, in order of their price: each settles a case, or hands on a better informed one.

A leaf is right if |g - r| <= tolerance max(|g|, |r|), leaf by leaf, since a bias lost beside a large weight is lost in a
pooled norm too. Central differences in float64 agree with a right gradient to about 1e-9, so the default tolerance is 1e-7.

In float32, bfloat16 and float16 nothing is ever differenced: the reference is evaluated in float64 on the very same
operands, and the noise floor decides, see `precision`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from inspect import unwrap
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ..errors import InputError, called, describe
from ..report import at, relative_error, worst_index
from .case import Case
from .directions import guilty, passes, probed, pushed_error, screened, unseen
from .entries import central, nearest_subgradient
from .integral import contradicted
from .neighbours import kinks_nearby
from .orders import Judgement, judge
from .thresholds import LIMITS

Witness: TypeAlias = Callable[[Case], Case]


def settled(case: Case, excused: bool = True) -> Case:
    """What the witnesses say of a case, among them those that excuse what others call wrong."""
    heard = case.surface.subject.witnesses
    return _heard(case, [witness for witness in heard if excused or witness not in EXCUSES])


def _heard(case: Case, witnesses: Sequence[Witness]) -> Case:
    for witness in witnesses:
        known: Any = called("witness(case)", witness, case)
        if not isinstance(known, Case):
            raise InputError("witnesses", f"one that returned {describe(known)}", "functions from a case to a case")
        case = known
        if case.settled:
            break
    return case


def form(case: Case) -> Case:
    """A gradient of another shape, or that is not finite, is wrong whatever the function."""
    if case.g.shape != case.leaf.shape:
        return case.against(case.surface.gradients[case.position]).settle("wrong", math.inf)
    if not case.g.isfinite().all():
        r = torch.zeros_like(case.g) if case.large else case.surface.gradients[case.position]
        return case.against(r).settle("wrong", math.inf)
    return case


def all_together(case: Case) -> Case:
    """A leaf that is right beyond doubt, for the price of 16 values for all leaves."""
    if not case.surface.by_differences or case.together is None:
        return case
    error = case.together.errors[case.position]
    return agrees(case, error) if error <= case.allowed / 10 else case


def eight_directions(case: Case) -> Case:
    """The same for the price of 16 values for this leaf."""
    if not case.surface.by_differences or not case.g.numel() or case.r is not None:
        return case
    error = screened(case)
    return agrees(case, error) if error <= case.allowed / 10 else case


def only_rounding(case: Case) -> Case:
    """A gradient that is no larger than its own rounding is 0, as that of a shift before a softmax, unless f moves."""
    if not case.g.numel():
        return case.settle("ok", 0.0)
    if case.large and case.r is not None and case.floor == 0:
        return case
    noise = LIMITS.noise * case.surface.spreads[case.position]
    if case.g.norm() > noise:
        return case
    if case.surface.by_differences and not unseen(replace(case, g=torch.zeros_like(case.g))):
        return case.settle("ok", 0.0)
    if case.large or (case.floor == 0 and case.surface.by_differences):
        return case  # in float64 what is seen is no rounding
    if case.g.norm() > case.surface.ceilings[case.position]:
        return case  # it is as large beside the point: what moves it are kinks
    return case.settle("ok", 0.0) if case.surface.gradients[case.position].norm() <= noise else case


def plain_operations(case: Case) -> Case:
    """A leaf of a large model beside torch's gradient of the function's plain operations, if differences confirm that."""
    found = case.surface.plain_gradients if case.large else None
    if found is None:
        return case
    r = found[case.position]
    # Not a tenth of what is allowed: g and r, which do not know each other, would have to be wrong alike.
    known = case.together is not None and case.together.errors_of_plain[case.position] <= case.allowed
    if not r.isfinite().all() or not (known or screened(replace(case, g=r)) <= case.allowed):
        return case
    case = case.against(r)
    return case.settle("ok", case.error) if case.error <= case.allowed else case.said("wrong", case.error)


def all_steps(case: Case) -> Case:
    """A leaf of a large model, along directions that are walked with every step; its guilty entries, if it is wrong."""
    if not case.large or case.r is not None:
        return case
    found = probed(case)
    if not found.size or found.error <= max(case.allowed * found.size, found.resolution):
        return passes(case, found)
    case = guilty(case, found)
    return case.said("wrong", found.about)


def every_entry(case: Case) -> Case:
    """The whole leaf beside the reference."""
    if case.large:
        return case
    case = case.against(case.surface.gradients[case.position])
    if case.error <= case.allowed:
        return agrees(case, case.error)
    if not case.right.isfinite().all():
        where = at(worst_index(case.g, case.right))
        sentence = f"the reference is not finite at {where}: a step from there leaves the domain of the function"
        return case.settle("unreliable", case.error, sentence)
    return case.said("wrong", case.error)


def finer_entries(case: Case) -> Case:
    """The same by complex steps if the function is analytic, else by differences of order 4."""
    if case.large or not case.surface.by_differences or case.error >= LIMITS.gross:
        return case
    finer = case.against(_finer(case))
    case = min(case, finer, key=lambda each: each.error)
    return agrees(case, case.error) if case.error <= case.allowed else case.said("wrong", case.error)


def one_by_one(case: Case) -> Case:
    """Where torch maps the function wrongly over many points, it is asked for one after the other."""
    if case.large or not case.surface.by_differences or case.surface.is_mapped_right(case.position):
        return case
    return every_entry(replace(case, surface=case.surface.in_a_loop()))


def orders(case: Case) -> Case:
    """How differences along g - r shrink tells a wrong gradient from a kink, and from rounding: see `orders`."""
    if case.large:
        return case
    direction = _direction(case)
    judgement = _along_the_residual(case, direction)
    left = abs(judgement.left) / max(case.g.norm().item(), case.right.norm().item())
    by_differences = case.surface.by_differences
    if judgement.says == "hidden" or (judgement.says == "right" and by_differences and not left <= LIMITS.seen):
        return hidden(case)
    if judgement.says == "right" and by_differences:
        return case.settle("ok", left, allowed=max(left, case.allowed))
    if judgement.says == "right":
        shrink = f"with it subtracted, they shrink as h^{judgement.odd:.2g} along a line of steps h"
        return case.settle(
            "unreliable", case.error, f"the values side with this gradient and not with the reference: {shrink}"
        )
    case = case.said("kink" if judgement.says == "kink" else "wrong", case.error)
    return case if contradicted(case, direction, judgement.step) else between_steps(case)


def between_steps(case: Case) -> Case:
    """Values that are those of an integral of g are no word against it, whatever differences say: torch's derivative is.

    Steps that are long enough to be seen may be too long, as where kinks, or waves, are closer by than that.
    """
    own, found = by_torch(case), case.surface.plain_gradients
    if own <= case.allowed:
        return case.settle("ok", own)
    if own < math.inf:
        return case.against(found[case.position]).said("wrong", own) if found and case.is_now("wrong") else case
    if case.is_now("kink"):
        return case
    sentence = "over steps that are long enough to be seen the gradient is now this, now that: kinks, or waves, are closer"
    return case.settle("unreliable", case.error, sentence)


def by_torch(case: Case) -> float:
    """The error by torch's own derivative of the plain operations, forwards or backwards: infinite where it has none."""
    found = case.surface.plain_gradients
    return min(pushed_error(case), math.inf if found is None else relative_error(case.g, found[case.position]))


def brackets(case: Case) -> Case:
    """At a kink the one-sided derivatives of each entry, between which g may lie: see `entries`."""
    if not case.is_now("kink"):
        return case
    norm = max(case.g.norm().item(), case.right.norm().item())
    slack = case.allowed * norm / (2 * math.sqrt(case.g.numel()))
    nearest = nearest_subgradient(case.surface, case.position, case.g, case.right, slack)
    error = (case.g - nearest).norm().item() / norm
    if error > max(case.allowed, LIMITS.seen):
        return case.against(nearest).said("wrong", error)
    where = at(worst_index(case.g, case.right))
    sentence = f"the function has a kink, as at {where}, and the gradient lies between the one-sided derivatives"
    return case.said("kink", error, sentence).against(nearest)


def precision(case: Case) -> Case:
    """A leaf that is wrong, but by no more than autograd's gradient is in this precision, is nobody's fault."""
    if not case.is_now("wrong") or not case.verdict.error <= 2 * case.floor:
        return case
    sentence = f"autograd's own gradient is wrong by {case.floor:.0%} in this precision: it has no digits left to judge by"
    return case.settle("unreliable", case.verdict.error, sentence)


def neighbours(case: Case) -> Case:
    """Where many kinks meet, the neighbours of the point: see `neighbours`."""
    others = [witness for witness in case.surface.subject.witnesses if unwrap(witness) is not unwrap(neighbours)]
    return kinks_nearby(case, lambda beside: _heard(beside, others))


WITNESSES: tuple[Witness, ...] = (
    form,
    all_together,
    plain_operations,
    eight_directions,
    only_rounding,
    all_steps,
    every_entry,
    finer_entries,
    one_by_one,
    orders,
    brackets,
    precision,
    neighbours,
)
EXCUSES: tuple[Witness, ...] = (only_rounding, neighbours)


def agrees(case: Case, error: float) -> Case:
    """A leaf that agrees is right; but a gradient of 0 is asked of steps that see more."""
    zero = case.surface.by_differences and case.g.numel() and not case.g.any()
    return (unseen(case) if zero else None) or case.settle("ok", error)


def hidden(case: Case) -> Case:
    """Differences cannot tell. What an exact source confirms, and what rounding alone makes differ, agrees."""
    exact = case.surface.exact_gradient
    if exact is not None and _by_rounding(case, exact[case.position]):
        return case.settle("ok", case.error, allowed=case.error)
    own = by_torch(case)
    if own <= case.allowed:
        return case.settle("ok", own)
    sizes = f"the gradient and the reference have norms {case.g.norm():.1e} and {case.right.norm():.1e}"
    sentence = f"{sizes}, and rounding a value of {case.surface.center:.3g} hides what is between them at every step"
    return case.settle("unreliable", case.error, sentence)


def _finer(case: Case) -> Tensor:
    if case.surface.exact_gradient is not None:
        return case.surface.exact_gradient[case.position]
    probe = case.surface.probes[case.position]
    return central(probe, LIMITS.fine, order=4).mean(1).reshape(probe.leaf.shape)


def _direction(case: Case) -> Tensor:
    residual: Tensor = case.g - case.right
    direction = residual / residual.abs().max()
    direction /= direction.norm()
    return direction


def _along_the_residual(case: Case, direction: Tensor) -> Judgement:
    scale = max(1.0, (case.leaf * direction).norm().item()) / direction.abs().max().item()
    slope, other = ((x * direction).sum().item() for x in (case.g, case.right))
    return judge(case.surface.along(case.position, direction), scale, slope, other)


def _by_rounding(case: Case, r: Tensor) -> bool:
    return float((case.g - r).norm()) <= LIMITS.rounded_anew * case.surface.roundings[case.position]
