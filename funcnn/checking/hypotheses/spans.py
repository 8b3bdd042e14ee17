"""What separates g from r lies along known directions: on every line along some axes, g - r = a b with one a for the line.

b = 1           a mean that is not subtracted, or one too many
b = x, y, u     a term of that direction, such as a projection onto it
b = 1 and x     both, as in a norm whose statistics are centred
"""

from collections.abc import Iterator
from itertools import combinations
from math import prod

import torch
from torch import Tensor

from ...causes import Cause
from ..evidence import Evidence, Said
from .known import LARGE, Guess, known, told, wrong


def spanned(e: Evidence) -> Iterator[Said]:
    """The term that is missing or too many, in the fewest directions that explain it."""
    if e.g.shape != e.r.shape or e.g.ndim == 0 or e.g.numel() > LARGE or not wrong(e).any():
        return
    named = [(name, x) for name, x in known(e).fields if x.shape == e.g.shape and x.is_floating_point()]
    named = [(name, x.to(e.g)) for name, x in named if name != "the cotangent" or not _parallel(x, e.r)]
    one = ("1", torch.ones_like(e.g))
    bases = [[one], *([pair] for pair in named), *([one, pair] for pair in named), *map(list, combinations(named[:3], 2))]
    for basis in bases:
        long = [axes for axes in _axes(e.g.ndim) if prod(e.g.shape[axis] for axis in axes) >= len(basis) + 2]
        for axes in long:
            if any(set(fewer) < set(axes) for fewer in long):
                continue  # that is tried already, with more freedom
            guess = _guess(e, basis, axes)
            for cause, _ in told(e, [guess] if guess else []):
                wider = (_guess(e, basis, more) for more in _axes(e.g.ndim)[::-1] if set(more) > set(axes))
                widest = next((w for w in wider if w and e.fits(w.p)), guess)
                yield cause, widest.sentence if widest else ""


def _guess(e: Evidence, basis: list[tuple[str, Tensor]], axes: tuple[int, ...]) -> Guess | None:
    length = prod(e.g.shape[axis] for axis in axes)
    if e.g.numel() - e.g.numel() // length * len(basis) < 6:
        return None
    b, d, r = basis[0][1], e.g - e.r, e.r
    p, inside = _along(b, d, axes), _along(b, r, axes)
    if len(basis) > 1:
        second = basis[1][1] - _along(b, basis[1][1], axes)
        p, inside = p + _along(second, d, axes), inside + _along(second, r, axes)
    size = inside.norm() / r.norm()
    if size >= 1 - 1e-9:
        return None  # r lies there itself, and then g may have any factor on every line
    return Guess(Cause.TERM, _words([name for name, _ in basis], axes, bool(size <= 1e-6)), r + p, fitted=True)


def _along(b: Tensor, x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The component of x in the direction of b, line by line."""
    square = b.square().sum(axes, keepdim=True)
    return (b * x).sum(axes, keepdim=True) / torch.where(square > 0, square, 1) * b


def _words(names: list[str], axes: tuple[int, ...], orthogonal: bool) -> str:
    along = _over(axes)
    if names == ["1"]:
        if orthogonal:
            return f"the mean over {along} is not subtracted: the reference sums to 0 along it"
        return f"a term constant along {along} is missing, too many or wrong, such as a mean or a sum over it"
    span = names[-1] if len(names) == 1 or names[0] == "1" else " and ".join(names)
    beside = " (less its mean)" if names[0] == "1" else ""
    if orthogonal:
        return (
            f"along {along} it has a component in the direction of {span}{beside}, to which the reference is orthogonal: "
            "the projection that takes it out is missing, or has a wrong factor"
        )
    return f"along {along} a term proportional to {span}{beside} is missing, too many, or has a wrong factor"


def scaled_lines(e: Evidence) -> Iterator[Said]:
    """On every line g = w r with one w for the line, which is a statistic of an input there, or its inverse."""
    if e.g.shape != e.r.shape or e.g.numel() > LARGE:
        return
    for axes in _axes(e.g.ndim):
        w = _scales(e, axes)
        if w is None or not e.fits(e.r * w):
            continue
        like = [(name, x.to(e.g)) for name, x in known(e).fields if x.shape == e.g.shape and x.is_floating_point()]
        named = [(f"{words} of {name}", s) for name, x in like for words, s in _statistics(x, axes)]
        norms = [(name, s) for name, s in named if name.startswith("the norm")]
        named += [(f"{a} and {b}", s * t) for (a, s), (b, t) in combinations(norms, 2)]
        for words, statistic in named:
            for how, v in (("once too often", statistic), ("missing, or its inverse once too often", 1 / statistic)):
                c = (w * v).sum() / v.square().sum()
                if v.isfinite().all() and (w - c * v).norm() <= 1e-5 * w.norm():
                    more = "" if abs(c - 1) < 1e-5 else f", and there is a factor {c:.6g}"
                    yield Cause.FACTOR, f"a product by {words} over {_over(axes)} is {how}{more}"


def _scales(e: Evidence, axes: tuple[int, ...]) -> Tensor | None:
    squares = e.r.square().sum(axes, keepdim=True)
    count = (e.r != 0).sum(axes, keepdim=True)
    if squares.numel() < 3 or not (count >= 3).all():
        return None
    return (e.g * e.r).sum(axes, keepdim=True) / squares


def _statistics(x: Tensor, axes: tuple[int, ...]) -> Iterator[tuple[str, Tensor]]:
    centred = x - x.mean(axes, keepdim=True)
    square, variance = x.square().sum(axes, keepdim=True), centred.square().sum(axes, keepdim=True)
    yield from (
        ("the norm", square.sqrt()),
        ("the squared norm", square),
        ("the standard deviation", variance.sqrt()),
        ("the variance", variance),
        ("the sum", x.sum(axes, keepdim=True)),
        ("the sum of the exponentials", x.exp().sum(axes, keepdim=True)),
        ("the sum of the absolute values", x.abs().sum(axes, keepdim=True)),
        ("the maximum", x.amax(axes, keepdim=True)),
    )


def _over(axes: tuple[int, ...]) -> str:
    return f"axis {axes[0]}" if len(axes) == 1 else f"axes {axes}"


def _axes(ndim: int) -> list[tuple[int, ...]]:
    """Every set of axes, single ones first."""
    return [axes for k in range(1, ndim + 1) for axes in combinations(range(ndim), k)][:12]


def _parallel(x: Tensor, r: Tensor) -> bool:
    return bool((x * (x * r).sum() - r * x.square().sum()).norm() <= 1e-6 * r.norm() * x.square().sum())
