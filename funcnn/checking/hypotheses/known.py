"""What is known of a point beyond g and r, found out once for all hypotheses; and one comparison of guesses with g."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from math import inf, prod
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ...causes import Cause
from ..evidence import Evidence, Said
from ..recorded import Recorded

LARGE = 100_000  # entries, beyond which only what is cheap is tried
SEEN = 3  # entries that must be wrong before anything is read from them


class Guess(NamedTuple):
    """A prediction of g, with what it says if it is right."""

    cause: Cause
    sentence: str
    p: Tensor
    fitted: bool = False  # to g, so that it is no news if it comes near


class Known:
    """The function at the point with its right pullback, and the guesses that have failed."""

    def __init__(self, e: Evidence) -> None:
        """Nothing is computed before it is asked for."""
        self.formula, self.r, self.near = e.formula, e.r, dict[str, float]()
        self._slices: dict[int, Tensor] = {}

    @cached_property
    def recorded(self) -> Recorded | None:
        """The value, and u -> J^T u, or None where they cannot be had, or do not give r."""
        formula = self.formula
        if formula is None or len(formula.u) != 1 or sum(leaf.numel() for leaf in formula.leaves) > LARGE:
            return None
        recorded = Recorded(formula.f, formula.leaves)
        if recorded.y is None or recorded.y.shape != formula.u[0].shape:
            return None
        r = recorded.pull(formula.u[0])[formula.position]
        return recorded if (r - self.r).norm() <= 1e-5 * self.r.norm() else None

    def pull(self, u: Tensor) -> Tensor:
        """J^T u by the right pullback, for the leaf in question."""
        assert self.recorded is not None and self.formula is not None
        if self.jacobian is not None:
            pulled: Tensor = torch.tensordot(u.flatten(), self.jacobian, 1)
            return pulled
        return self.recorded.pull(u)[self.formula.position]

    @cached_property
    def jacobian(self) -> Tensor | None:
        """dy/dx of the leaf in question, (y.numel(), *x.shape), if it is small."""
        if self.recorded is None or self.formula is None:
            return None
        return self.recorded.jacobian(self.formula.position)

    def slices(self, axis: int) -> Tensor:
        """J^T of the cotangent at each index along an axis of y, 0 elsewhere; these sum up to r."""
        u = self._u
        if axis not in self._slices:
            one = torch.eye(u.shape[axis], dtype=u.dtype, device=u.device)
            self._slices[axis] = torch.stack([self.pull(u * line.reshape(-1, *[1] * (u.ndim - axis - 1))) for line in one])
        return self._slices[axis]

    def parts(self, leading: int) -> Tensor:
        """The same for each index into the first axes of y."""
        rows = self._u.reshape(prod(self._u.shape[:leading]), -1)
        one = torch.eye(len(rows), dtype=rows.dtype, device=rows.device)
        return torch.stack([self.pull((line[:, None] * rows).reshape(self._u.shape)) for line in one])

    @property
    def _u(self) -> Tensor:
        assert self.formula is not None
        return self.formula.u[0]

    @cached_property
    def right(self) -> list[tuple[str, Tensor]]:
        """The right gradients of the other leaves, by name."""
        if self.recorded is None or self.formula is None:
            return []
        grads = self.recorded.pull(self.formula.u[0])
        named = zip(self.formula.names, grads, strict=True)
        return [pair for i, pair in enumerate(named) if i != self.formula.position]

    @cached_property
    def fields(self) -> list[tuple[str, Tensor]]:
        """Every tensor at hand, by name: the leaf in question first, the other inputs, y and u."""
        if self.formula is None:
            return []
        named = list(zip(self.formula.names, self.formula.leaves, strict=True))
        own = named.pop(self.formula.position)
        y = [] if self.recorded is None or self.recorded.y is None else [("the output", self.recorded.y.detach())]
        return [own, *named, *self.formula.rest, *y, *(("the cotangent", u) for u in self.formula.u)]


_KNOWN: WeakKeyDictionary[Evidence, Known] = WeakKeyDictionary()


def known(e: Evidence) -> Known:
    """What is known beside the evidence, as long as that lives."""
    if e not in _KNOWN:
        _KNOWN[e] = Known(e)
    return _KNOWN[e]


def together(es: Sequence[Evidence]) -> Evidence:
    """The evidence of several points as one, along a new leading axis, with the statistics of lines among its fields."""
    e = Evidence(torch.stack([x.g for x in es]), torch.stack([x.r for x in es]), es[0].allowed)
    each = [{name: x for name, x in known(one).fields if x.shape == e.g.shape[1:]} for one in es]
    alike = [name for name in each[0] if all(name in fields for fields in each)]
    _KNOWN[e] = Known(e)
    _KNOWN[e].fields = fields = [(name, torch.stack([own[name] for own in each])) for name in alike]
    for name, x in [(name, x) for name, x in fields if x.is_floating_point()]:
        for axis in range(1, x.ndim):
            fields.append((f"the norm of {name} over axis {axis - 1}", x.norm(dim=axis, keepdim=True)))
            fields.append((f"the sum of {name} over axis {axis - 1}", x.sum(axis, keepdim=True)))
    return e


def told(e: Evidence, guesses: Iterable[Guess]) -> Iterator[Said]:
    """The guesses that explain g. Of the others the distance |g - p| / |g| is kept."""
    if (e.g - e.r).count_nonzero() < SEEN or wrong(e).count_nonzero() < SEEN:
        return
    near, size, error = known(e).near, e.g.norm().item(), (e.g - e.r).norm().item()
    for cause, sentence, p, fitted in guesses:
        left = (e.g - p).norm().item() if p.shape == e.g.shape else inf
        if left <= 0.1 * error and e.fits(p):
            yield cause, sentence
        elif size and not fitted:
            near.setdefault(sentence, left / size)


def nearest(e: Evidence) -> str:
    """The three guesses that came nearest, as a sentence to put behind another, if they came nearer than the best factor."""
    best = min((e.g - e.factor * e.r).norm().item(), (e.g - e.r).norm().item()) / max(e.g.norm().item(), 1e-300)
    near = sorted((left, words) for words, left in known(e).near.items() if left < 0.9 * best)[:3]
    return ". Nearest: " + "; ".join(f"{words} ({left:.1%} unexplained)" for left, words in near) if near else ""


def wrong(e: Evidence) -> Tensor:
    """Where g is not r."""
    difference = (e.g - e.r).abs()
    return difference > max(1e-5 * difference.max().item(), e.allowed * e.r.abs().max().item())
