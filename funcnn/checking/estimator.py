"""Checking a gradient that is drawn: its mean, and the laws that its draws must keep beside it.

No draw is right or wrong; what many of them come to is, up to chance. Every verdict by chance has a level here, and all
together call a right estimator wrong with a probability of LEVEL at most, by the union bound: the mean, the order of draws,
averages over samples and the second moment share it in equal parts. See `bets` for the bounds, which hold for any number of
draws and however heavy their tails, `estimator_mean` for where a bias is looked for, and `estimator_laws` for the rest. What
is no matter of chance is compared up to rounding.

A plain callable shows its draws: their mean, and whether they follow one another at random. A record such as `fn.spsa` makes
can be asked for more: see `estimator_source`.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from .. import kernels, tree
from ..causes import Cause
from ..errors import InputError, check_autocast, check_count, check_number, check_seed
from ..memory import check_memory
from ..operands import check_batch, check_params
from ..report import Finding, Report
from ..types import Batch, Params, StepFn
from . import estimator_laws as laws
from .check import Provider
from .estimator_causes import Names
from .estimator_mean import WORST, Means, bounds, least, means
from .estimator_source import CPU, Estimator, apart, estimator
from .estimator_steps import Steps, steps
from .subject import check_finite, provider
from .trials import untouched

LEVEL = 1e-6  # the probability that a right estimator is called wrong
PARTS = 4  # the mean, the order, the samples, the second moment


def check_estimator(
    step_fn: Provider,
    reference: Provider,
    params: Params,
    batch: Batch = (),
    *,
    draws: int,
    kurtosis: float = 15.0,
    seed: int = 0,
) -> Report:
    """Compares the draws of a stochastic gradient with the gradient that they are meant for, and says what is wrong.

    The report has a row for each leaf: how far the mean of the draws is off along the worst direction that was looked along,
    as a share of the gradient of the leaf, and how far it may be by chance. Its trials are the value, the gradient as a
    whole, the independence of the draws and, of a record, `samples`, `step` and the `second moment`. A right estimator is
    called wrong with a probability of 1e-6 at most.

    Args:
        step_fn: The estimator, or any callable (params, batch) -> (value, grads) that draws. A record of ours is asked with
            generators of its own; a plain callable uses up numbers of its generator.
        reference: A provider of the gradient that is estimated.
        params: Where to check.
        batch: What to check it on.
        draws: How many are drawn for the mean; a record is asked for about three times as many in all. All are kept.
        kurtosis: Where no law of the directions is known: E x^4 / (E x^2)^2 at most, of the errors x along any direction.
            15 is that of Gaussian directions; what has heavier tails needs a larger one, and as much more draws.
        seed: Of the generators.

    Raises:
        InputError: as `check`; draws that are too few to bound anything.
    """
    draws, kurtosis, seed = check_count("draws", draws), check_number("kurtosis", kurtosis, minimum=1.0), check_seed(seed)
    claimed, known = apart(provider("step_fn", step_fn), seed), provider("reference", reference)
    check_autocast()
    check_params(params)
    check_batch(batch)
    check_finite("params", params)
    check_finite("batch", batch)
    entries = sum(leaf.numel() for leaf in tree.leaves(params))
    if not entries:
        raise InputError("params", "no numbers", "at least one that has a gradient, or there is nothing to check")
    check_memory("draws", f"{draws} estimates of {entries} numbers", 4 * 8 * draws * entries)
    report: Report = kernels.undisturbed(_checked, claimed, known, params, batch, draws, kurtosis, seed)
    return report


def _checked(claimed: StepFn, known: StepFn, params: Params, batch: Batch, draws: int, kurtosis: float, seed: int) -> Report:
    e = estimator(claimed, known, params, batch)
    handed = [*tree.paths(params, "params"), *tree.paths(batch, "batch")]
    _, hands_off = untouched(claimed.value_and_grad, params, batch, paths=handed)
    if hands_off.verdict == "wrong":
        return Report({}, {"untouched inputs": hands_off})
    return examined(e, draws, kurtosis, seed)


def examined(e: Estimator, draws: int, kurtosis: float, seed: int, level: float = LEVEL) -> Report:
    """What so many draws say of an estimator; that a right one is wrong, with a probability of `level` at most."""
    odds = math.log(PARTS / level)
    of_mean = odds + math.log(bounds(len(e.shapes)))
    needed = least(bool(e.directions), kurtosis, of_mean)
    if draws < needed:
        raise InputError("draws", draws, f"at least {needed}, or they bound nothing at a level of {level:g}")
    lengths = steps(e, seed + 1) if e.directions else None
    stretch = lengths.fine if lengths else 1.0
    e = e._replace(rough=lengths.rough) if lengths else e
    values, estimates = e.ask(seed, stretch=stretch)(draws)
    bad = ~estimates.isfinite()
    if bad.any() or not values.isfinite().all():
        sentence = f"{int(bad.any(1).sum())} of {draws} draws are not finite"
        return Report({}, {"draws": Finding("wrong", math.inf, cause=Cause.NOT_FINITE, diagnosis=sentence)})
    names = Names(e, estimates, laws.different(estimates))
    leaves, trials = _of_mean(e, means(e, values, estimates, kurtosis, of_mean), names)
    trials["independence"] = names.independence(laws.independence(estimates, odds), laws.repeats(e, draws, odds))
    if e.samples and e.directions != "orthogonal":
        trials["samples"] = names.samples(laws.samples(e, seed + 2, draws, odds, stretch))
    if lengths:
        trials["step"] = names.step(lengths)
        trials["second moment"] = names.second_moment(laws.second_moment(e, estimates, seed + 4, odds, stretch))
    return Report(leaves, trials, remarks=_remarks(e, estimates, kurtosis, lengths))


def _of_mean(e: Estimator, found: Means, names: Names) -> tuple[dict[str, Finding], dict[str, Finding]]:
    """The leaves, then the value and all leaves together."""
    leaves, start = {}, 0
    for path, shape, off, may, entry in zip(e.paths, e.shapes, found.leaves, found.leaves_may, found.entries, strict=True):
        which = slice(start, start + shape.numel())
        leaves[path] = names.mean(off, may, which)
        if leaves[path].verdict == "wrong" and int((off / may).argmax()) == WORST:
            index = torch.unravel_index(torch.tensor(entry, device=CPU), shape)
            leaves[path] = replace(leaves[path], worst_index=tuple(map(int, index)))
        start = which.stop
    trials = {"value": Finding("ok", float(found.value), float(found.value_may))}
    if found.value > found.value_may:
        sentence = f"it is off by {float(found.value):.1e} of itself on the average: the value of another function"
        trials["value"] = replace(trials["value"], verdict="wrong", cause=Cause.VALUE, diagnosis=sentence)
    if len(leaves) > 1:
        trials["all leaves"] = names.mean(found.whole, found.whole_may, slice(None))
    return leaves, trials


def _remarks(e: Estimator, estimates: Tensor, kurtosis: float, lengths: Steps | None) -> tuple[str, ...]:
    square = float(estimates.square().sum(1).mean() / e.g.square().sum())
    law = f", {laws.second(e):.4g} by the law of its directions" if e.directions else ""
    assumed = "" if e.directions else f", if its kurtosis is {kurtosis:g} at most"
    remarks = [
        f"E |g|^2 is {square:.4g} |gradient|^2 in {len(estimates)} draws{law}.",
        f"A right estimator is called wrong with a probability of {LEVEL:g} at most{assumed}.",
    ]
    if lengths and lengths.bias > e.tolerance:
        remarks.append(
            f"With its own step its mean is off by {lengths.bias:.1e} of the gradient, beside that of a small one."
        )
    return tuple(remarks)
