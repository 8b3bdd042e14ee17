"""Checking a gradient is comparing two: every source has the same type, so any one of them can be the reference.

A leaf is right if |g - r| <= tolerance max(|g|, |r|), leaf by leaf, since a bias lost beside a large weight is lost in a
pooled norm too. Central differences in float64 agree with a right gradient to about 1e-9, so the default tolerance is 1e-7.
Random directions settle most leaves at the price of a few values (see `probing`). A leaf that fails is looked at more
closely, in this order:

1. every entry, and where that fails finer: by complex steps if the function is analytic, else by differences of order 4;
2. the orders of the differences along g - r, which tell a wrong gradient from a kink and from rounding: see `orders`;
3. at a kink the one-sided derivatives of each entry, between which g may lie: see `entries`;
4. where many kinks meet, the neighbours of the point: see `nearby`;
5. what would explain it, and which samples show it: see `diagnosis` and `mistakes`.

In float32, bfloat16 and float16 nothing is ever differenced. The reference is evaluated in float64 on the very same
operands, and the noise floor decides: see `precision`.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeAlias

import torch
from torch import Tensor

from .. import kernels, tree
from ..errors import InputError, check_batch, check_number, check_params, check_seed
from ..report import Finding, Report
from ..types import Batch, Params
from .comparison import Comparison
from .explain import explain, network_predictions
from .formula import Formula, Swap
from .nearby import reconsidered
from .probing import odds
from .question import Question, check_finite, gradient_leaves, lifted
from .surface import ELSEWHERE, Surface, rounded
from .trials import copied, repeated, same_value, untouched

Provider: TypeAlias = Callable[[Params, Batch], tuple[Tensor, Params]]  # as a StepFn is


def check(
    step_fn: Provider,
    params: Params,
    batch: Batch = (),
    *,
    reference: Provider | None = None,
    tolerance: float = 1e-7,
    seed: int = 0,
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

    Raises:
        InputError: nothing to check; parameters or data that are not finite; gradients whose tree is not that of the
            parameters, naming the first path that differs; a step_fn or reference that is none; a reference that does
            not run in float64.
    """
    claimed = lifted("step_fn", step_fn)
    tolerance, seed = check_number("tolerance", tolerance), check_seed(seed)
    check_params(params)
    check_batch(batch)
    check_finite("params", params)
    check_finite("batch", batch)
    counts = (len(tree.leaves(batch)[0]),) if tree.leaves(batch) else (1,)
    known = None if reference is None else lifted("reference", reference)
    question = Question(claimed, known, params, batch, "params", counts, None, network_predictions, _formula)
    report: Report = kernels.undisturbed(examine, question, tolerance, seed)
    return report


def examine(question: Question, tolerance: float, seed: int) -> Report:
    """The answer to a question about anything that is a StepFn."""
    claimed, params, root = question.claimed, question.params, question.root
    if not any(leaf.numel() for leaf in tree.leaves(params)):
        raise InputError(root, "no numbers", "at least one that has a gradient, or there is nothing to check")
    point = params, question.batch
    with suppress(RuntimeError, ValueError, TypeError):  # the function may be nowhere else
        claimed.value_and_grad(rounded(params, ELSEWHERE), copied(question.batch))  # nothing of it must come back below
    result, hands_off = untouched(claimed.value_and_grad, *point, names=(root, "batch"))
    value, g = gradient_leaves("step_fn", result, params)
    again = gradient_leaves("step_fn", claimed.value_and_grad(*copied(point)), params)
    surface = Surface(question)
    trials = {
        "untouched inputs": hands_off,
        "repeated call": repeated([value, *g], [again[0], *again[1]], tolerance),
        "value": same_value(value, claimed.value(*copied(point)), surface.center, surface.moved(value.dtype), tolerance),
    }
    if not surface.by_differences:
        again_r = surface.reference(surface.params, surface.batch)[1]
        trials["repeated reference"] = repeated(tree.leaves(surface.gradient), tree.leaves(again_r), tolerance)
    paths, nothing = tree.paths(params, root), _nothing_to_compare(trials)
    if nothing:
        return Report({path: _no_comparison(leaf, nothing) for path, leaf in zip(paths, g, strict=True)}, trials)

    look = Comparison(surface, tolerance, seed)
    first = [look(surface, position, leaf.double()) for position, leaf in enumerate(g)]
    compared = [reconsidered(surface, position, one, look) for position, one in enumerate(first)]
    findings, samples, remarks = explain(surface, compared)
    return Report(dict(zip(paths, findings, strict=True)), trials, samples, (*[odds()] * look.large, *remarks))


def _formula(surface: Surface, position: int) -> Formula:
    def f(*leaves: Tensor) -> tuple[Tensor, ...]:
        return (surface.reference.value(surface.unflatten(list(leaves)), surface.batch),)

    def pull(leaves: Sequence[Tensor], u: Sequence[Tensor], swap: Swap | None = None) -> list[Tensor]:
        grads = surface.question.claimed.value_and_grad(surface.unflatten([*leaves]), surface.batch)[1]
        return [u[0] * leaf.detach() for leaf in tree.leaves(grads)]

    names = tuple(tree.paths(surface.params, surface.question.root))
    return Formula(f, tuple(surface.leaves), names, (torch.ones_like(surface.center),), pull, position)


def assert_gradients(
    step_fn: Provider,
    params: Params,
    batch: Batch = (),
    *,
    reference: Provider | None = None,
    tolerance: float = 1e-7,
    seed: int = 0,
) -> None:
    """For pytest: raises AssertionError with the report unless `check` is content. Arguments and errors as there."""
    __tracebackhide__ = True
    report = check(step_fn, params, batch, reference=reference, tolerance=tolerance, seed=seed)
    if not report:
        raise AssertionError(f"the gradient is not right\n{report}")


def _nothing_to_compare(trials: dict[str, Finding]) -> str:
    """Why no comparison would mean anything, or nothing."""
    if trials["untouched inputs"].verdict != "ok":
        return trials["untouched inputs"].diagnosis
    for repeats in ("repeated call", "repeated reference"):
        if repeats in trials and trials[repeats].verdict != "ok":
            return trials[repeats].diagnosis
    return "the value is not finite" if trials["value"].cause == "not finite" else ""


def _no_comparison(leaf: Tensor, why: str) -> Finding:
    if leaf.isfinite().all():
        return Finding("unreliable", math.nan, diagnosis=why)
    return Finding("wrong", math.inf, cause="not finite", diagnosis="it is not finite")
