"""What is wrong: a small set of classic mistakes, each of which predicts the numbers, tested on the numbers.

A hypothesis is a prediction p of the gradient g that a mistake would make of the right one, r. It fits if p explains what
r does not, |g - p| <= |g - r| / 1000, or agrees with g as well as rounding lets anything agree. The first that fits is told.
A scaled gradient is told by c = <g, r> / <r, r>, for which |g - c r| is least. Where none fits, c and what it leaves
unexplained are all that can be said.

A name must hold `beside` the point as well, or it is one mistake among several that make these numbers here.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from inspect import unwrap
from typing import Any

import torch

from ..causes import Cause, Own
from ..errors import InputError, called, describe
from ..report import worst_index
from .evidence import Evidence, Hypothesis, Said, careful
from .hypotheses.conditions import under_conditions
from .hypotheses.factors import exchanged, named_factor
from .hypotheses.known import known, nearest
from .hypotheses.places import rearranged
from .hypotheses.placing import PLACING
from .reading import READING
from .sample_hypotheses import one_sample, weighted_samples


def diagnose(
    evidence: Evidence, hypotheses: Sequence[Hypothesis], beside: Callable[[], Sequence[Evidence]] = tuple
) -> tuple[Cause | Own, str]:
    """The first cause that has a name, as (name, sentence); else what fits without one, or what single samples show.

    A name is told if it holds at the first point beside this one, too. Else one that holds at two of those is, where this
    one is a kink, or a threshold that all of them show. What fits here alone is but said to fit.
    """
    unnamed: list[str] = []
    for hypothesis in hypotheses:
        for cause, sentence in _said(hypothesis, evidence):
            if cause and _holds(hypothesis, cause, sentence, beside()[:1]):
                return _named(cause), sentence
            unnamed.append(f"no hypothesis fits everywhere; here, {sentence}" if cause else sentence)
    there = [e for e in beside() if not e.right]
    at_a_kink = evidence.formula is not None and known(evidence).recorded is None  # where r is no derivative of the formula
    for hypothesis in hypotheses if at_a_kink and len(there) > 1 else ():
        for cause, sentence in _said(hypothesis, there[0]):
            if cause and _holds(hypothesis, cause, sentence, there[1:]):
                return _named(cause), f"with other inputs and another cotangent {sentence}"
    if there and hypotheses is HYPOTHESES:
        yielded = next(under_conditions([evidence, *there]), None)
        if yielded is not None:
            return yielded
    return Cause.NONE, unnamed[0] if unnamed else _none(evidence)


def _said(hypothesis: Hypothesis, evidence: Evidence) -> Iterator[tuple[str, str]]:
    """What it says, one pair after the other. Raises InputError where it says anything else."""
    needs = "functions of the evidence that yield pairs of strings (cause, sentence)"
    said: Any = called("hypothesis(evidence)", hypothesis, evidence)
    if not isinstance(said, Iterable):
        raise InputError("hypotheses", f"one that returned {describe(said)}", needs)
    for pair in said:
        if not isinstance(pair, tuple) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise InputError("hypotheses", f"one that yielded {describe(pair)}", needs)
        yield pair


def _holds(hypothesis: Hypothesis, cause: str, sentence: str, there: Sequence[Evidence]) -> bool:
    """Whether a hypothesis says the same at other points, unless the gradient is right there or it cannot be asked."""
    if unwrap(hypothesis) in map(unwrap, HERE):
        return True
    if cause in LINES and there and all(e.right for e in there):
        return False  # the place is not what makes it wrong
    return all(e.right or any(_same(cause, sentence, *other) for other in _said(hypothesis, e)) for e in there)


def _same(cause: str, sentence: str, other: str, told: str) -> bool:
    """Whether it is the same cause and, for a cause that is a place, the same one."""
    if cause in LINES:
        sentence, told = sentence.split(":")[0], told.split(":")[0]  # there other numbers stand in it
    return cause == other and (cause not in (*LINES, *PLACES) or sentence == told)


def _named(cause: str) -> Cause | Own:
    return cause if isinstance(cause, Cause) else Own(cause)


def not_finite(e: Evidence) -> Iterator[Said]:
    """Entries are NaN or infinite."""
    bad = ~e.g.isfinite()
    if bad.any():
        first = e.name(tuple(bad.nonzero()[0].tolist()))
        yield Cause.NOT_FINITE, f"{int(bad.sum())} of {e.g.numel()} entries are NaN or infinite, the first at {first}"


def zero(e: Evidence) -> Iterator[Said]:
    """All of it is 0."""
    if not e.g.any():
        yield Cause.ZERO, "it is 0: the leaf is detached from the value, or the function closes over another copy of it"


def scaled(e: Evidence) -> Iterator[Said]:
    """A multiple of the reference, c r: the sign, a factor 2 or N, or one with another name."""
    c = e.factor
    if not e.fits(c * e.r):
        return
    told = f"it is {c:.4g} times the reference"

    def near(x: float) -> bool:
        return math.isclose(abs(c), x, rel_tol=max(1e-4, 2 * e.allowed))

    if near(1) and c < 0:
        yield Cause.SIGN, "it is the negative of the reference: a sign"
    if near(2) or near(0.5):
        also = ", and N = 2" if 2 in e.counts else ""
        yield Cause.FACTOR_2, f"{told}: a factor 2 {'too many' if near(2) else 'is missing'}{also}"
    for n in [n for n in e.counts if n > 2 and (near(n) or near(1 / n))]:
        if e.g.ndim == 1 and e.alone and c > 0:
            what = "summed where they must be averaged" if near(n) else "averaged where they must be summed"
            yield Cause.BIAS_REDUCTION, f"{told}, with N = {n}: the {e.each}s are {what} in this leaf"
        what = "a sum in place of a mean" if near(n) else "a mean in place of a sum, or twice"
        yield Cause.FACTOR_N, f"{told}, with N = {n}: {what}"
    yield from named_factor(e)
    yield Cause.NONE, f"it is {c:.6g} times the reference; no hypothesis has that factor"


def some_entries(e: Evidence) -> Iterator[Said]:
    """One entry is wrong, or one row or column by a mistake that has a name."""
    yield from (said for said, explained in _lines(e) if explained)


def some_lines(e: Evidence) -> Iterator[Said]:
    """One row or column is wrong, whatever it is there."""
    yield from (said for said, explained in _lines(e) if not explained)


def _lines(e: Evidence) -> Iterator[tuple[Said, bool]]:
    wrong = (e.g - e.r).abs() > max(1e-3 * (e.g - e.r).abs().max().item(), e.allowed * e.r.abs().max().item())
    index = wrong.nonzero()
    if e.g.numel() == 1 or not len(index):
        return
    first = tuple(index[0].tolist())
    if len(index) == 1:
        sentence = f"only {e.name(first)} is wrong: {e.g[first]:.9g} in place of {e.r[first]:.9g}"
        yield (Cause.SINGLE_ENTRY, sentence), True
    for axis, (name, cause) in enumerate((("row", Cause.SINGLE_ROW), ("column", Cause.SINGLE_COLUMN))):
        if e.g.ndim == 2 and e.g.shape[axis] > 1 and len(index) > 1 and (index[:, axis] == first[axis]).all():
            line = e.g.select(axis, first[axis]), e.r.select(axis, first[axis])
            own = Evidence(*line, e.allowed, e.counts, e.each)
            inside, told = diagnose(own, HYPOTHESES)
            explained = bool(inside) or own.fits(own.factor * own.r)
            yield (cause, f"only {name} {first[axis]} is wrong: there {told}"), explained


def permuted(e: Evidence) -> Iterator[Said]:
    """The entries of the reference in any other order; not where most are 0, and that says little."""
    if 2 * e.r.count_nonzero() > e.r.numel() or e.formula is None:
        yield from anywhere(e)


def anywhere(e: Evidence) -> Iterator[Said]:
    """The same of any reference."""
    if e.g.numel() < 2:
        return
    order, reference_order = e.g.flatten().argsort(), e.r.flatten().argsort()
    p = torch.empty_like(e.g).flatten()
    p[order] = e.r.flatten()[reference_order]
    if e.fits(p.reshape(e.g.shape)):
        moved = int((order != reference_order).sum())
        yield Cause.PERMUTED, f"it has the entries of the reference in other places: {moved} of {e.g.numel()} are permuted"


def predicted(e: Evidence) -> Iterator[Said]:
    """What a known mistake elsewhere in the network, or in the rule, would make of it."""
    for cause, sentence, p in e.predictions():
        if p.shape == e.g.shape and e.fits(p):
            yield cause, sentence


def unsummed(e: Evidence) -> Iterator[Said]:
    """Another shape: the sum over the samples is missing, or it is transposed."""
    if e.g.shape == e.r.shape:
        return
    shapes = f"its shape is {tuple(e.g.shape)} in place of {tuple(e.r.shape)}"
    if e.g.shape[1:] == e.r.shape and torch.allclose(e.g.sum(0), e.r, rtol=1e-5):
        yield Cause.BIAS_REDUCTION, f"{shapes}: it is not summed over the {e.each}s"
    elif e.r.ndim == 2 and e.g.shape == e.r.mT.shape:
        yield Cause.TRANSPOSED, f"{shapes}: it is transposed"
    else:
        yield Cause.SHAPE, shapes


def _none(e: Evidence) -> str:
    c, worst = e.factor, worst_index(e.g, e.r)
    left = ((e.g - c * e.r).norm() / e.g.norm()).item()
    best = f"no hypothesis fits; the best factor, {c:.4g}, leaves {left:.0%} unexplained"
    return f"{best}. At {e.name(worst)} it is {e.g[worst]:.9g} in place of {e.r[worst]:.9g}{nearest(e)}"


LINES = (Cause.SINGLE_ENTRY, Cause.SINGLE_ROW, Cause.SINGLE_COLUMN)
PLACES = (Cause.SLAB, Cause.TRIANGLE)
HERE: tuple[Hypothesis, ...] = (
    unsummed,
    not_finite,
    zero,
    predicted,
    one_sample,
    weighted_samples,
)  # known at the point alone
_IN_ORDER: tuple[Hypothesis, ...] = (
    unsummed,
    not_finite,
    zero,
    scaled,
    some_entries,
    rearranged,
    permuted,
    predicted,
    one_sample,
    exchanged,
    *READING,
    anywhere,
    some_lines,
    *PLACING,
    weighted_samples,
)
HYPOTHESES = tuple(map(careful, _IN_ORDER))
