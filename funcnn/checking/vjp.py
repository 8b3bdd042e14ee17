"""Checking a backward rule alone: y = f(x) and its pullback u -> J^T u, for any cotangent u.

For a fixed u the pullback is the gradient of <u, f(x)>, so all of `check` applies, with a u that is different everywhere.
But a backward rule meets many others, and may be right for one and wrong for the next: see `attacks`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import kernels, tree
from ..causes import Cause
from ..errors import InputError, check_autocast, check_number, check_seed, describe
from ..providers.reverse import autograd
from ..report import Finding, Report
from ..types import Layer, Loss, Objective, StepFn, Tree
from .attacks import FEW, attacks, refused
from .check import compared, elsewhere, examine
from .contraction import Contraction, Leaves, RaisedError, real
from .diagnosis import HYPOTHESES
from .elsewhere import nearby
from .evidence import Hypothesis
from .identities import adjoint, mapped, second_derivative
from .piece import joined, numbers, piece
from .rule_predictions import rule_predictions
from .rules import Rule, floats, lifted, takes_two
from .sparse import densely, with_places
from .subject import Subject, check_finite, check_tables, check_visible
from .surface import Surface
from .thresholds import LIMITS
from .trials import attempt
from .witnesses import WITNESSES, Witness

TOLD = (Cause.NOT_FINITE, Cause.PRECISION)  # causes of which everything else follows
UNLIKE = 0x9E3779B97F4A7C15  # the inputs may have been drawn with the very same seed


class Asked(NamedTuple):
    """The arguments of a check, and the rule that they make."""

    forward: Any
    rule: Rule
    inputs: tuple[Tree, ...]
    reference: Callable[..., Any] | None
    constants: tuple[int, ...]
    tolerance: float
    nondeterminism: float
    seed: int
    witnesses: Sequence[Witness]
    hypotheses: Sequence[Hypothesis]


def check_vjp(
    forward: Any,
    inputs: tuple[Tree, ...],
    *,
    backward: Any = None,
    reference: Callable[..., Any] | None = None,
    constants: tuple[int, ...] = (),
    tolerance: float = 1e-7,
    nondeterminism: float = 0.0,
    seed: int = 0,
    witnesses: Sequence[Witness] = WITNESSES,
    hypotheses: Sequence[Hypothesis] = HYPOTHESES,
) -> Report:
    """Checks a backward rule against central differences in float64, and in the uses that attack it.

    The leaves of the report are those of the inputs that have a gradient, such as `inputs[0]['w']`; its trials are the uses
    and identities above.

    Args:
        forward: A rule forward(*inputs) -> (y, residuals). Without `backward`: a Layer, with inputs (params, x), a Loss,
            with inputs (outputs, targets), or what torch's tape follows: a torch.autograd.Function, with the arguments of
            its `apply`, or any callable. Where there are several outputs, y is a tree of them.
        inputs: Where to check, in any precision: trees of tensors, handed on as they are, strides and all. What is no
            floating or complex tensor stays as it is.
        backward: The rule backward(residuals, dy) -> the gradients of the first inputs, or of all. That of a loss takes the
            residuals alone and gives the gradient of the first input.
        reference: The same function of the same inputs in plain operations, which runs in float64: for a kernel that does
            not, or whose gradient is on purpose not that of its values. The kernel is then not differenced.
        constants: Which inputs are constants: None is no gradient for anything else that moves y. Those of a loss are all
            but the first.
        tolerance: As in `check`.
        nondeterminism: The relative difference that two calls may have, beside that of sums in another order.
        seed: Of the cotangents and the directions.
        witnesses: As in `check`, and so the
        hypotheses: as in `check`.

    Raises:
        InputError: no rule of these forms; inputs that are no tuple, not finite, or that the rule gives no gradients for; a
            forward or a reference that fails at the inputs.
    """
    check_autocast()
    tolerance, seed = check_number("tolerance", tolerance), check_seed(seed)
    nondeterminism = check_number("nondeterminism", nondeterminism)
    if not isinstance(inputs, tuple) or not inputs:
        raise InputError("inputs", repr(inputs), "a tuple of what forward is called with")
    if reference is not None and not callable(reference):
        raise InputError("reference", describe(reference), "a function of the inputs")
    if not isinstance(constants, tuple) or not all(i in range(len(inputs)) for i in constants):
        raise InputError("constants", repr(constants), f"a tuple of numbers from 0 to {len(inputs) - 1}")
    if isinstance(forward, Loss) or (callable(backward) and not takes_two(backward)):
        constants = (*constants, *range(1, len(inputs)))
    for path, leaf in zip(tree.paths(inputs, "inputs"), tree.leaves(inputs), strict=True):
        check_visible(path, leaf)
    rule = lifted(forward, backward, inputs)
    tables = check_tables(witnesses, hypotheses)
    asked = Asked(forward, rule, inputs, reference, constants, tolerance, nondeterminism, seed, *tables)
    report: Report = kernels.undisturbed(_checked, asked)
    return report


def assert_vjp(forward: Any, inputs: tuple[Tree, ...], **how: Any) -> None:
    """For pytest: raises AssertionError with the report unless `check_vjp` is content. Arguments and errors as there."""
    __tracebackhide__ = True
    report = check_vjp(forward, inputs, **how)
    if not report:
        raise AssertionError(f"the backward rule is not right\n{report}")


def _checked(asked: Asked) -> Report:
    generator = torch.Generator().manual_seed((asked.seed + UNLIKE) % 2**63)
    contraction = Contraction(asked.rule, asked.inputs, asked.constants, generator)
    for i in contraction.own:
        check_finite(contraction.paths[i], contraction.operands[i])
    if contraction.error is not None:
        return _raises(contraction, contraction.error, asked.tolerance)
    y, samples = contraction.u[0], tree.leaves(asked.inputs[-1] if isinstance(asked.forward, Layer) else asked.inputs[0])
    counts = [len(x) for x in (y, *samples) if isinstance(x, Tensor) and x.ndim] or [1]  # the rows of y first
    try:
        found = _by_piece(asked, contraction) if numbers(contraction.params) > LIMITS.many else None
        return _reported(asked, contraction, tuple(dict.fromkeys(counts)), generator) if found is None else found
    except RaisedError as error:
        return _raises(contraction, error.args[0], asked.tolerance)


def _by_piece(asked: Asked, contraction: Contraction) -> Report | None:
    """A large rule, of which a small piece is tried; None where the function refuses the piece, or is wrong there alone."""
    operands = piece(contraction.operands)
    if operands is None:
        return None
    there = attempt(_checked, asked._replace(inputs=tree.flatten(contraction.inputs)[1](operands)))
    if there is None:
        return None
    surface = Surface(_subject(asked, contraction, (1,)))
    known = [path for path, leaf in there.leaves.items() if leaf.verdict == "wrong"]
    here = compared(surface, contraction.first, asked.tolerance, asked.seed, known)
    shapes = ", ".join(str(tuple(x.shape)) for x in operands if isinstance(x, Tensor))
    return joined(here, there, shapes)


def _reported(asked: Asked, contraction: Contraction, counts: tuple[int, ...], generator: torch.Generator) -> Report:
    subject = _subject(asked, contraction, counts)
    report, known = examine(subject, asked.tolerance, asked.seed, asked.nondeterminism), subject.reference
    leaves = with_places(report.leaves, contraction.stored) | _without_gradient(contraction)
    u = contraction.u
    trials = dict(report.trials)
    if (
        known is not None and "value" in trials and trials["value"].cause == Cause.VALUE
    ):  # a gradient may be another's on purpose
        trials["value"] = replace(trials["value"], verdict="ok")
    trials |= {"untouched upstream": contraction.rule.hands_off(contraction.operands, u)}
    findings = report.leaves.values()
    compared = all(finding.verdict != "unreliable" and finding.cause not in TOLD for finding in findings)
    if compared and trials["untouched upstream"].verdict == "ok":
        allowed = max(finding.allowed for finding in findings)
        trials |= attacks(contraction, generator, allowed)
        few = numbers(contraction.params) <= LIMITS.many
        if few and known is None and all(finding.verdict == "ok" for finding in findings):  # not at a kink, as torch sees it
            trials["adjoint"] = adjoint(contraction, contraction.value, generator, allowed)
            trials["vmap"] = mapped(contraction, generator, allowed)
            trials["second derivative"] = second_derivative(contraction, generator)
    if all(finding.verdict == "ok" for finding in (leaves | trials).values()):
        low = any(leaf.dtype != torch.float64 for leaf in contraction.params)  # there each point has its own floor
        untried = Finding("ok", math.nan, asked.tolerance, diagnosis="not tried in low precision")
        trials["elsewhere"] = untried if low else elsewhere(_elsewhere(asked, contraction), asked.tolerance, asked.seed)
    remarks = [f"{name}: {trial.diagnosis}" for name, trial in trials.items() if trial.verdict == "ok" and trial.cause]
    if numbers(contraction.params) > LIMITS.many:
        remarks.append(
            f"The inputs are large, and no piece of them could be tried: only {', '.join(FEW)} were, at one other point."
        )
    return Report(leaves, trials, report.samples, (*report.remarks, *remarks))


def _raises(contraction: Contraction, error: Exception, tolerance: float) -> Report:
    return Report({contraction.paths[i]: refused(error, tolerance) for i in contraction.own})


def _subject(asked: Asked, contraction: Contraction, counts: tuple[int, ...]) -> Subject:
    known = None if asked.reference is None else _referred(contraction, asked.reference)
    return Subject(
        contraction.step_fn,
        known,
        contraction.params,
        (),
        [contraction.paths[i] for i in contraction.own],
        counts,
        contraction.rows if known is None else None,
        partial(rule_predictions, asked.forward, contraction),
        lambda surface, position: contraction.formula(surface.leaves, position),
        asked.witnesses,
        asked.hypotheses,
        "inputs",
        known,
        "row",
    )


def _elsewhere(asked: Asked, contraction: Contraction) -> Iterator[tuple[str, Subject]]:
    """The rule at points derived from this one, where it takes them and has the same gradients."""
    unflatten = tree.flatten(contraction.inputs)[1]
    for condition, operands in nearby(contraction.operands, contraction.paths):
        generator = torch.Generator().manual_seed(UNLIKE % 2**31)
        there = attempt(Contraction, asked.rule, unflatten(operands), asked.constants, generator)
        if there is not None and there.own == contraction.own:
            yield condition, _subject(asked, there, (1,))


def _referred(contraction: Contraction, reference: Callable[..., Any]) -> StepFn:
    """<u, reference(x)> and its gradient by autograd."""
    unflatten = tree.flatten(contraction.inputs)[1]

    def value(params: Leaves, batch: tuple[()]) -> Tensor:
        y = [real(leaf) for leaf in tree.leaves(reference(*unflatten(contraction.whole(params)))) if floats(leaf)]
        shapes, needed = [out.shape for out in y], [real(u).shape for u in contraction.u]
        if shapes != needed:
            raise InputError("reference(*inputs)", f"outputs of {shapes}", f"those of forward, {needed}")
        return contraction.contracted(y)

    return densely(autograd(Objective(value)))


def _without_gradient(contraction: Contraction) -> dict[str, Finding]:
    """An operand without a gradient must not move y."""
    found = {}
    for i in contraction.none:
        leaf = contraction.operands[i]
        if not leaf.isfinite().all() or not leaf.numel():
            continue
        moved = [0 * leaf + x for x in (0.99 * leaf - 1e-2, 1.01 * leaf + 1e-2)]
        y = [contraction.at(i, x) for x in moved]
        if None in y or all(torch.equal(a, b) for a, b in zip(*y, strict=True)):
            continue
        sentence = "the rule gives None, no gradient, and moving it moves y; say so if it is a constant: constants=(...)"
        found[contraction.paths[i]] = Finding("wrong", 1.0, cause=Cause.ZERO, diagnosis=sentence)
    return found
