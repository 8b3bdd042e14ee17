"""Uses of a backward rule that attack it: in each the numbers must be those that they were.

    layouts      cotangents transposed in memory, channels last, cut out of a larger tensor, expanded (stride 0, as `sum`
                 hands down), and inputs in such layouts: the numbers are the same, so the result must be
    linearity    J^T 0 = 0, J^T (2 u) = 2 J^T u, J^T (u + v) = J^T u + J^T v, where v is random, or is one-hot; and of
                 several outputs, of which some may be used by nobody, each adds its own part
    in use       a second backward of the same forward, another forward in between, inputs that are frozen, a result that
                 is kept while the rule is used again

None of them takes a difference of values: a kernel may have none.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from .. import kernels
from ..causes import Cause
from ..report import Finding, relative_error
from .contraction import Contraction, Leaves, RaisedError, norm, real
from .digits import rounded
from .piece import numbers
from .thresholds import LIMITS
from .trials import attempt, copied, quoted

Cotangents = list[Tensor | None]
KEPT = "an output that is kept changes when the function is used again: it hands out a buffer of its own"
FEW = ("sliced", "expanded", "zero", "additivity", "second backward", "kept result")  # where numbers are many
LAYOUTS = ("transposed", "channels last", "sliced", "expanded")


def attacks(contraction: Contraction, generator: torch.Generator, allowed: float) -> dict[str, Finding]:
    """Every trial of a rule whose gradient is right at this point, by name."""
    c, own = contraction, copied(contraction.own_pull())  # a copy, for it may be a buffer of the rule's own
    scales, few = c.scales, numbers(c.params) > LIMITS.many
    cotangents = [each for each in _cotangents(c.u, c.v, generator) if not few or each[0] in FEW]
    found = {name: _sums_up(c, name, u, parts, scales, allowed) for name, u, parts in cotangents}
    only_rounding = [scale if scale == math.inf else 0.0 for scale in scales]
    for name, way, cause, sentence in _uses(c):
        if few and name not in FEW:
            continue
        found[name] = _same(partial(way, c), own, only_rounding, allowed, cause, sentence)
    if few:
        return found
    found["kept output"] = _same(
        partial(_kept_output, c), copied(c.outputs(copied(c.params))), [], allowed, Cause.STALE, KEPT
    )
    found["dtype"] = _dtype(c, allowed)
    return found


def _dtype(c: Contraction, allowed: float) -> Finding:
    """Whether each gradient has the dtype of its operand."""
    given = c.rule.gradient(c.whole(copied(c.params)), copied(c.u))
    for i in c.own:
        grad, leaf = given[i], c.operands[i]
        if grad is not None and grad.dtype != leaf.dtype:
            sentence = f"the gradient of {c.paths[i]} is {grad.dtype}, the input itself {leaf.dtype}"
            return Finding("wrong", math.inf, allowed, cause=Cause.DTYPE, diagnosis=sentence)
    return Finding("ok", 0.0, allowed)


def _cotangents(
    u: list[Tensor], v: list[Tensor], generator: torch.Generator
) -> Iterator[tuple[str, Cotangents, list[tuple[float, Cotangents]]]]:
    """A name, cotangents, and the pairs (c, w) for which J^T of them is the sum of c J^T w."""

    def each(change: Callable[[Tensor, Tensor], Tensor], least: int) -> Cotangents:
        return [change(x, y) if x.ndim >= least else x for x, y in zip(u, v, strict=True)]

    most = max(x.ndim for x in u)
    if most > 1:
        yield "transposed", each(lambda x, y: x.mT.contiguous().mT, 2), [(1, [*u])]
        yield "channels last", each(lambda x, y: x.movedim(0, -1).contiguous().movedim(-1, 0), 2), [(1, [*u])]
    if most > 0:
        yield "sliced", each(_sliced, 1), [(1, [*u])]
        ones: Cotangents = [torch.ones_like(x) for x in u]
        yield "expanded", [x.new_ones(()).expand(x.shape) for x in u], [(1, ones)]
        one = [torch.zeros_like(x) for x in u]
        place = max(range(len(u)), key=lambda i: u[i].ndim)
        one[place].view(-1)[int(torch.randint(u[place].numel(), (), generator=generator, device="cpu"))] = 1
        yield "one-hot", [x + 1000 * y for x, y in zip(u, one, strict=True)], [(1, [*u]), (1000, [*one])]
    yield "zero", [torch.zeros_like(x) for x in u], []
    yield "doubled", [2 * x for x in u], [(2, [*u])]
    yield "additivity", [x + y for x, y in zip(u, v, strict=True)], [(1, [*u]), (1, [*v])]
    if len(u) > 1:
        alone = [[x if i == k else None for i, x in enumerate(u)] for k in range(len(u))]
        yield "outputs alone", [*u], [(1, one) for one in alone]


def _sliced(x: Tensor, other: Tensor) -> Tensor:
    """The same numbers, cut out of a larger tensor."""
    return torch.cat([other, x], dim=-1)[..., x.shape[-1] :] if x.ndim > 1 else torch.stack([x, other], dim=1)[:, 0]


def _uses(contraction: Contraction) -> Iterator[tuple[str, Callable[[Contraction], Leaves], Cause, str]]:
    """A name, a way to use the rule that must give what it gives by itself, a cause, and what is wrong where it does not."""
    last = "after another forward pass the backward gives another gradient: it takes the residuals of the last one"
    yield "another forward", _after_another_forward, Cause.STALE, last
    again = "a second backward of the same forward gives another gradient: the first one changes what was saved"
    yield "second backward", _second, Cause.SECOND_CALL, again
    kept = "a result that is kept changes when the rule is used again: it hands out a buffer of its own"
    yield "kept result", _kept, Cause.SECOND_CALL, kept
    if any(real(x).ndim for x in contraction.params):
        strides = "with inputs that are no longer contiguous in memory the same numbers give another gradient"
        yield "inputs sliced", _other_layout, Cause.STRIDES, strides
    if len(contraction.own) > 1:
        frozen = "where the gradient of one input alone is asked for, as when the others are frozen, it gives another"
        yield "frozen inputs", _one_at_a_time, Cause.FROZEN, frozen


def _after_another_forward(c: Contraction) -> Leaves:
    return c.own_pull(meanwhile=lambda: attempt(c.pull, rounded(c.params, LIMITS.elsewhere), copied(c.u)))


def _second(c: Contraction) -> Leaves:
    return c.among(c.rule.twice(c.whole(copied(c.params)), copied(c.u))[1])


def _kept(c: Contraction) -> Leaves:
    first = c.own_pull()
    c.pull(copied(c.params), copied(c.v))
    return first


def _kept_output(c: Contraction) -> Leaves:
    first = c.outputs(copied(c.params))
    attempt(c.outputs, rounded(c.params, LIMITS.elsewhere))
    return first


def _other_layout(c: Contraction) -> Leaves:
    there = attempt(c.outputs, [_sliced(x, x) if x.ndim else x for x in copied(c.params)])
    if there is None or not all(map(torch.equal, there, c.outputs(copied(c.params)))):
        return c.own_pull()  # the forward refuses them, or is a function of the memory, not of the numbers
    return c.pull([_sliced(x, x) if x.ndim else x for x in copied(c.params)], copied(c.u))


def _one_at_a_time(c: Contraction) -> Leaves:
    return [c.own_pull(needed={i})[k] for k, i in enumerate(c.own)]


def _same(
    way: Callable[[], Leaves], expected: Leaves, least: list[float], allowed: float, cause: Cause, sentence: str
) -> Finding:
    try:
        found = kernels.undisturbed(way)
    except Exception as error:
        return refused(error, allowed, cause)
    distance = _distance(found, expected, least)
    if distance <= allowed:
        return Finding("ok", distance, allowed)
    return Finding("wrong", distance, allowed, cause=cause, diagnosis=sentence)


def refused(error: Exception, allowed: float, cause: Cause = Cause.RAISES) -> Finding:
    """What a rule raises is a finding that quotes it."""
    error = error.args[0] if isinstance(error, RaisedError) else error
    return Finding("wrong", math.inf, allowed, cause=cause, diagnosis=f"the backward raises {quoted(error)}")


def _distance(found: Leaves, expected: Leaves, least: list[float]) -> float:
    """The largest |g - p| / max(|g|, |p|, least) of a leaf."""
    errors = [0.0]
    for x, y, size in zip(found, expected, least or [0.0] * len(found), strict=True):
        error, own = relative_error(x.double(), y.double()), max(norm([x]), norm([y]))
        errors.append(error if error == math.inf or own >= size else error * own / size)
    return max(errors)


def _sums_up(
    c: Contraction,
    name: str,
    u: Cotangents,
    parts: list[tuple[float, Cotangents]],
    scales: list[float],
    allowed: float,
) -> Finding:
    def pull(w: Cotangents) -> Leaves:
        return [leaf.double() for leaf in copied(c.pull(copied(c.params), w))]

    cause, strides = (Cause.STRIDES if name in LAYOUTS else Cause.LINEARITY), [x.stride() for x in u if x is not None]
    try:
        found = kernels.undisturbed(pull, u)
        expected = [torch.zeros_like(leaf) for leaf in found]
        for factor, w in parts:
            expected = [total + factor * leaf for total, leaf in zip(expected, pull(copied(w)), strict=True)]
    except Exception as error:
        return refused(error, allowed, Cause.UNUSED_OUTPUT if name == "outputs alone" else cause)
    size = norm(u)
    distance = _distance(found, expected, [scale * size if size else 0.0 for scale in scales])
    if distance <= allowed:
        return Finding("ok", distance, allowed)
    sentence = "a pullback is linear in the cotangent, and this one is not"
    if cause == Cause.STRIDES:
        sentence = f"with strides {strides[0]} in memory the same numbers give another gradient"
    if name == "outputs alone":
        cause, sentence = Cause.UNUSED_OUTPUT, "where an output is used by nobody, the gradients of the others are others"
    return Finding("wrong", distance, allowed, cause=cause, diagnosis=sentence)
