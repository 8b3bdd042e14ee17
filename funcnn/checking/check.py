"""Checking a gradient is comparing two: every source has the same type, so any one of them can be the reference.

First trials: does the function repeat itself, keep its hands off its inputs, agree with itself on its value? Then every leaf
is a case for the `witnesses`, who say whether it is wrong, and what is wrong is put to the `hypotheses`, who say what.
"""

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from .. import kernels, tree
from ..batches import samples
from ..causes import Cause
from ..errors import InputError, check_autocast, check_number, check_seed
from ..operands import check_batch, check_params
from ..report import Finding, Report
from ..types import Batch, Params
from .case import Case
from .diagnosis import HYPOTHESES
from .digits import rounded
from .directions import odds
from .elsewhere import agreeing, beside, objects, overflows
from .evidence import Hypothesis
from .explain import explain, network_predictions
from .formula import Formula, Swap
from .precision import allowed, noise_floors
from .sparse import densely, stored, with_places
from .subject import Subject, check_finite, check_tables, gradient_leaves, provider
from .surface import Surface
from .thresholds import LIMITS
from .together import Together, directions_at
from .trials import attempt, copied, repeated, same_value, untouched
from .witnesses import WITNESSES, Witness, settled

Provider: TypeAlias = Callable[[Params, Batch], tuple[Tensor, Params]]  # as a StepFn is


def check(
    step_fn: Provider,
    params: Params,
    batch: Batch = (),
    *,
    reference: Provider | None = None,
    tolerance: float = 1e-7,
    seed: int = 0,
    witnesses: Sequence[Witness] = WITNESSES,
    hypotheses: Sequence[Hypothesis] = HYPOTHESES,
) -> Report:
    """Compares a gradient with a reference, leaf by leaf, and says what is wrong where they disagree.

    Args:
        step_fn: The provider to check, or any callable (params, batch) -> (value, grads).
        params: Where to check, in any precision.
        batch: What to check it on.
        reference: Another provider of the same function, run in float64. None: central differences of step_fn's value
            in float64, along random directions first and where these object, up to 10,000 parameters, of every entry.
        tolerance: The relative error that a leaf may have. In low precision the noise floor counts if it is higher.
        seed: Of the random directions.
        witnesses: Who say whether a leaf is wrong, in order: functions from a case to a case that knows more.
        hypotheses: What may be said of a leaf that is wrong, in order: functions of the evidence that yield (cause,
            sentence).

    Raises:
        InputError: nothing to check; parameters or data that are not finite; gradients whose tree is not that of the
            parameters, naming the first path that differs; a step_fn or reference that is none; a reference that does
            not run in float64.
    """
    claimed = provider("step_fn", step_fn)
    tolerance, seed = check_number("tolerance", tolerance), check_seed(seed)
    check_autocast()
    check_params(params)
    check_batch(batch)
    check_finite("params", params)
    check_finite("batch", batch)
    counts = (samples(batch) or 1,)
    known = None if reference is None else densely(provider("reference", reference))
    paths = tree.paths(params, "params")
    tables = check_tables(witnesses, hypotheses)
    subject = Subject(claimed, known, params, batch, paths, counts, None, network_predictions, _formula, *tables)
    report: Report = kernels.undisturbed(_checked, subject, tolerance, seed)
    return report


def assert_gradients(
    step_fn: Provider,
    params: Params,
    batch: Batch = (),
    **how: Any,
) -> None:
    """For pytest: raises AssertionError with the report unless `check` is content. Arguments and errors as there."""
    __tracebackhide__ = True
    report = check(step_fn, params, batch, **how)
    if not report:
        raise AssertionError(f"the gradient is not right\n{report}")


def examine(subject: Subject, tolerance: float, seed: int, nondeterminism: float = 0.0) -> Report:
    """The answer to a question about anything that is a StepFn."""
    claimed, params = subject.claimed, subject.params
    if not any(leaf.numel() for leaf in tree.leaves(params)):
        needs = "at least one that has a gradient, or there is nothing to check"
        raise InputError(subject.root, "no numbers", needs)
    point = params, subject.batch
    # Somewhere else first: nothing of it must come back below.
    attempt(claimed.value_and_grad, rounded(params, LIMITS.elsewhere), copied(subject.batch))
    result, hands_off = untouched(
        claimed.value_and_grad, *point, paths=[*subject.paths, *tree.paths(subject.batch, "batch")]
    )
    value, g = gradient_leaves("step_fn", result, params)
    if hands_off.verdict == "wrong":  # then its value has no business with the operands of a reference
        return _uncompared(subject, g, hands_off.diagnosis, {"untouched inputs": hands_off})
    places = stored(subject.paths, tree.leaves(result[1]))
    if places:
        subject = subject._replace(claimed=densely(claimed))
    again = gradient_leaves("step_fn", claimed.value_and_grad(*copied(point)), params)
    surface = Surface(subject)
    trials = {
        "untouched inputs": hands_off,
        "repeated call": repeated([value, *g], [again[0], *again[1]], tolerance, nondeterminism),
        "value": same_value(value, claimed.value(*copied(point)), surface.center, surface.moved(value.dtype), tolerance),
    }
    if not surface.by_differences:
        other = tree.leaves(surface.reference(surface.params, surface.batch)[1])
        trials["repeated reference"] = repeated(surface.gradients, other, tolerance, nondeterminism)
    nothing = _nothing_to_compare(trials)
    if nothing:
        return _uncompared(subject, g, nothing, trials)
    report = compared(surface, g, tolerance, seed)
    return replace(report, leaves=with_places(report.leaves, places), trials=trials)


def compared(surface: Surface, g: list[Tensor], tolerance: float, seed: int, known: Collection[str] = ()) -> Report:
    """The leaves of a gradient beside the reference, or beside differences.

    Where it is `known` to be wrong by the same mistake at another point, neither an excuse nor a cause is looked for.
    """
    paths = surface.subject.paths
    cases = [settled(case, path not in known) for case, path in zip(opened(surface, g, tolerance, seed), paths, strict=True)]
    findings, samples, remarks = explain(surface, cases, known)
    probed = [odds(directions_at(surface.size)) for case in cases[:1] if case.large]
    return Report(dict(zip(paths, findings, strict=True)), {}, samples, (*probed, *remarks))


def _checked(subject: Subject, tolerance: float, seed: int) -> Report:
    report = examine(subject, tolerance, seed)
    if not report or any(finding.verdict != "ok" for finding in report.leaves.values()):
        return report
    points = beside(subject.params, subject.batch)
    there = subject._replace(claimed=densely(subject.claimed))
    moved = ((condition, there._replace(params=params, batch=batch)) for condition, params, batch in points)
    return replace(report, trials=report.trials | {"elsewhere": elsewhere(moved, tolerance, seed)})


def elsewhere(points: Iterable[tuple[str, Subject]], tolerance: float, seed: int) -> Finding:
    """The gradient at other points than the given one, each with the condition that holds there.

    Far from where it was to be checked two must object: differences, and torch's gradient of the plain operations. What is
    not finite where exponentials overflow has lost its range, not its formula: that is told, and not wrong.
    """
    told = Finding("ok", 0.0, tolerance)
    for condition, there in points:
        if not objects(there, tolerance):
            continue
        agreed = agreeing(there)
        if len(agreed) == len(there.paths):
            continue
        report = attempt(examine, there, tolerance, seed)
        for path, leaf in ({} if report is None else report.leaves).items():
            if leaf.verdict == "wrong" and path not in agreed and report.trials["value"].verdict == "ok":
                given = "inputs" if there.root == "inputs" else "point"
                sentence, what = f"right at the given {given}", f"there, of {path}, {leaf.diagnosis}"
                if leaf.cause == Cause.NOT_FINITE and overflows(there):
                    sentence = f"{sentence}; exponentials overflow where {condition}: {what}"
                    told = Finding("ok", math.inf, leaf.allowed, cause=leaf.cause, diagnosis=sentence)
                    continue
                sentence = f"{sentence}; wrong where {condition}: {what}"
                return Finding("wrong", leaf.error, leaf.allowed, cause=leaf.cause or Cause.POINT, diagnosis=sentence)
    return told


def opened(surface: Surface, g: list[Tensor], tolerance: float, seed: int) -> list[Case]:
    """A case for every leaf."""
    generator, floors = torch.Generator().manual_seed(seed), noise_floors(surface)
    together = Together(surface, g, generator)
    return [
        Case(surface, position, leaf.double(), allowed(tolerance, floor), floor, generator, together)
        for position, (leaf, floor) in enumerate(zip(g, floors, strict=True))
    ]


def _formula(surface: Surface, position: int) -> Formula:
    def f(*leaves: Tensor) -> tuple[Tensor, ...]:
        return (surface.reference.value(surface.unflatten(list(leaves)), surface.batch),)

    def pull(leaves: Sequence[Tensor], u: Sequence[Tensor], swap: Swap | None = None) -> list[Tensor]:
        grads = surface.subject.claimed.value_and_grad(surface.unflatten([*leaves]), surface.batch)[1]
        return [u[0] * leaf.detach() for leaf in tree.leaves(grads)]

    names = tuple(surface.subject.paths)
    return Formula(f, tuple(surface.leaves), names, (torch.ones_like(surface.center),), pull, position)


def _nothing_to_compare(trials: dict[str, Finding]) -> str:
    """Why no comparison would mean anything, or nothing."""
    for name in ("untouched inputs", "repeated call", "repeated reference"):
        if name in trials and trials[name].verdict != "ok":
            return trials[name].diagnosis
    return "the value is not finite" if trials["value"].cause == Cause.NOT_FINITE else ""


def _uncompared(subject: Subject, g: list[Tensor], why: str, trials: dict[str, Finding]) -> Report:
    """The trials, and leaves that nothing was held against."""
    findings = [
        Finding("unreliable", math.nan, diagnosis=why)
        if leaf.isfinite().all()
        else Finding("wrong", math.inf, cause=Cause.NOT_FINITE, diagnosis="it is not finite")
        for leaf in g
    ]
    return Report(dict(zip(subject.paths, findings, strict=True)), trials)
