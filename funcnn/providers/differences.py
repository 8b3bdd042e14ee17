"""Every difference quotient of the library: the gradient that knows nothing but values, and so shares no bug with others.

A scheme is a sum of quotients, sum_k c_k D(a_k, b_k), with D(a, b) = (f(w + a h) - f(w + b h)) / (a h - b h):

    forward      D(1, 0)                                error O(h)
    backward     D(0, -1)                               error O(h)
    central      D(1, -1)                               error O(h^2)
    order 4      (4 D(1/2, -1/2) - D(1, -1)) / 3        error O(h^4)
    right        2 D(1/2, 0) - D(1, 0)                  error O(h^2), from one side, where there is a kink
    left         2 D(0, -1/2) - D(0, -1)                the same from the other

Besides truncation there is rounding, which grows as eps |f| / h. An error O(h^p) balances it at h = eps^(1 / (p + 1)), where
eps is that of the parameters' dtype, with a relative error of about eps^(p / (p + 1)): in float64 1e-7 for p = 1 and 1e-10
for p = 2 at best, in float32 3e-3 and 2e-4. The step is scaled by max(1, |w_i|), because the spacing of floating point
numbers grows with their size; and the quotient divides by the step that was really taken, (w + h) - w, not by the one that
was meant. (Press et al., *Numerical Recipes*, 3rd ed., section 5.7.)
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .. import kernels
from ..errors import InputError, check_autocast, check_count, check_number, describe
from ..memory import check_memory
from ..types import Batch, Objective, Params, StepFn, ValueFn
from .doors import EntryByEntry, behind_door, provider
from .structured import Probe, probes

ELEMENTS_AT_ONCE = 2**17  # numbers that one activation of a chunk of moved entries has: 1 MiB of float64, a cache


class Scheme(NamedTuple):
    """The quotients, as (c, a, b) for c D(a, b), and the order of the error."""

    quotients: tuple[tuple[float, float, float], ...]
    order: int

    @property
    def offsets(self) -> tuple[float, ...]:
        """The points beside 0, in units of h."""
        return tuple(dict.fromkeys(offset for _, *pair in self.quotients for offset in pair if offset))

    def step(self, dtype: torch.dtype) -> float:
        """The h at which truncation and rounding balance."""
        return float(torch.finfo(dtype).eps ** (1 / (self.order + 1)))


FORWARD, BACKWARD, CENTRAL = Scheme(((1, 1, 0),), 1), Scheme(((1, 0, -1),), 1), Scheme(((1, 1, -1),), 2)
ORDER_4 = Scheme(((4 / 3, 0.5, -0.5), (-1 / 3, 1, -1)), 4)
RIGHT, LEFT = Scheme(((2, 0.5, 0), (-1, 1, 0)), 2), Scheme(((2, 0, -0.5), (-1, 0, -1)), 2)
SCHEMES = {"forward": FORWARD, "backward": BACKWARD, "central": CENTRAL}  # those of a provider


def finite_difference(
    objective: Objective, scheme: str = "central", step: float | None = None, chunk_size: int | None = None
) -> StepFn:
    """Difference quotients of the value, one parameter at a time, many of them at once.

    Args:
        objective: Any objective. A `supervised` one is not evaluated where a moved entry changes nothing, which makes it
            faster by orders of magnitude: see `structured`. What cannot be vmapped is evaluated in a loop.
        scheme: "forward", "backward" or "central".
        step: h, the same for every parameter. None scales it to the parameter and to its dtype.
        chunk_size: How many parameters are moved at once. None bounds the memory by their sizes.

    Raises:
        InputError: an unknown scheme; a step or chunk_size that is not positive; (when called) a step that does not move
            every parameter, a chunk_size that there is no memory for, or torch.autocast.
    """
    if not isinstance(scheme, str) or scheme not in SCHEMES:
        raise InputError("scheme", describe(scheme), f"one of {', '.join(SCHEMES)}")
    step, chunk_size = check_step_and_size(step, chunk_size)
    chosen = SCHEMES[scheme]

    def slopes(probe: Probe, entries: Tensor) -> Tensor:
        leaf = probe.leaf
        if not len(entries):
            return leaf.new_zeros(0)
        if step is not None:
            check_moves("step", step, leaf, chosen)
        h = scaled(leaf, chosen) if step is None else torch.full_like(leaf, step).flatten()
        return of_entries(probe, chosen, h, entries, chunk_size=chunk_size)

    def gradient(value: ValueFn) -> Any:
        def rule(params: Params, batch: Batch, entries: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
            check_autocast()
            center = value(params, batch)
            every = probes(behind_door(objective.value), params, batch, center)
            check_chunks(every, entries, chunk_size, len(chosen.offsets))
            return center, [*map(slopes, every, entries)]

        return rule

    return provider("finite_difference", objective, gradient, EntryByEntry)


def scaled(leaf: Tensor, scheme: Scheme) -> Tensor:
    """The step for each entry of a leaf, flat."""
    return scheme.step(leaf.dtype) * leaf.flatten().abs().clamp(min=1)


def quotients(
    values: Callable[[Tensor], Tensor],
    w: Float[Tensor, " P"],
    h: Tensor | float,
    scheme: Scheme,
    center: Tensor | None = None,
    *,
    per_sample: bool = False,
) -> Float[Tensor, "P *S"]:
    """The scheme applied to P functions of one number each, by one call of `values`.

    values(points) is given K P numbers, K of them for each function in turn, and returns (K P,), or (K P, S) for those of S
    samples; `center` is values(w) where that is known. The derivatives are those of the mean over the samples, (P,), or of
    each.
    """
    needs_center = center is None and any(0 in pair for _, *pair in scheme.quotients)
    offsets = (0, *scheme.offsets) if needs_center else scheme.offsets
    at = {0: w} | {offset: w + offset * h for offset in scheme.offsets}
    f = dict(zip(offsets, values(torch.cat([at[offset] for offset in offsets])).split(len(w)), strict=True))
    if center is not None:
        f[0] = center

    def quotient(a: float, b: float) -> Tensor:
        rise: Tensor = f[a] - f[b]  # of every sample, before the mean: see `structured`
        if not per_sample:
            rise = rise.reshape(len(w), -1).mean(1)
        return rise.div((at[a] - at[b]).reshape(-1, *[1] * (rise.ndim - 1)))

    first, *rest = (c * quotient(a, b) if c != 1 else quotient(a, b) for c, a, b in scheme.quotients)
    slopes: Tensor = sum(rest, start=first)
    return slopes


def of_entries(
    probe: Probe,
    scheme: Scheme,
    h: Tensor,
    index: Int[Tensor, " P"] | None = None,
    *,
    per_sample: bool = False,
    chunk_size: int | None = None,
    elements_at_once: int = ELEMENTS_AT_ONCE,
) -> Float[Tensor, "P *N"]:
    """The derivatives of the value with respect to entries of a leaf, all of them or those at an index.

    `h` has a step for every entry of the leaf; `chunk_size`, or else `elements_at_once`, bounds what is evaluated together.
    """
    w, points = probe.leaf.flatten(), len(scheme.offsets)
    entries = torch.arange(len(w), device=w.device) if index is None else index

    def slopes(chunk: Tensor) -> Tensor:
        values = partial(probe.values, chunk.repeat(points))
        return quotients(values, w[chunk], h[chunk], scheme, probe.center, per_sample=per_sample)

    return in_chunks(slopes, entries, chunk_size or max(1, elements_at_once // max(1, points * probe.elements)))


def in_chunks(function: Callable[[Tensor], Tensor], entries: Tensor, at_once: int) -> Tensor:
    """The function (P,) -> (P, ...) of all entries, of which there is one at least, one chunk after the other."""
    first, *rest = entries.split(at_once)
    result = function(first)
    if not rest:
        return result
    results = result.new_zeros(len(entries), *result.shape[1:])  # before the chunks: many small results fragment the heap
    results[:at_once] = result
    for number, chunk in enumerate(rest, start=1):
        results[number * at_once : (number + 1) * at_once] = function(chunk)
    return results


def check_step_and_size(step: float | None, chunk_size: int | None) -> tuple[float | None, int | None]:
    """Both as plain numbers. Raises InputError unless each is positive, or None."""
    tiny = torch.finfo(torch.float64).tiny
    return (
        None if step is None else check_number("step", step, minimum=tiny),
        None if chunk_size is None else check_count("chunk_size", chunk_size),
    )


def check_chunks(every: list[Probe], entries: list[Tensor], chunk_size: int | None, points: int = 1) -> None:
    """Raises InputError unless every chunk that was asked for fits into memory; what None chooses is small."""
    if chunk_size is None:
        return
    for probe, wanted in zip(every, entries, strict=True):
        together = min(chunk_size, len(wanted)) * points
        size = together * max(probe.elements, probe.copied) * probe.leaf.itemsize
        check_memory("chunk_size", f"{together} evaluations at once", size, probe.leaf.device)


def check_moves(place: str, step: float, leaf: Tensor, scheme: Scheme) -> None:
    """Raises InputError unless a step moves every entry of a leaf, where values can be looked at."""
    if kernels.under_transform():
        return  # no value can be looked at, and the quotient is NaN there
    if any(bool((leaf + a * step == leaf + b * step).any()) for _, a, b in scheme.quotients):
        raise InputError(place, step, f"a step that moves every parameter in {leaf.dtype}")
