"""How much: a factor with a name, the gradient of another input, a rule that is right for symmetric matrices only."""

import math
from collections.abc import Iterator
from itertools import combinations_with_replacement

from torch import Tensor

from ...causes import Cause
from ..evidence import Evidence, Said
from .known import Guess, known, told, wrong

CONSTANTS = {
    "pi": math.pi,
    "sqrt(pi)": math.sqrt(math.pi),
    "sqrt(2)": math.sqrt(2),
    "sqrt(2 / pi)": math.sqrt(2 / math.pi),
    "sqrt(2 pi)": math.sqrt(2 * math.pi),
    "2 pi": 2 * math.pi,
    "ln 2": math.log(2),
    "ln 10": math.log(10),
    "e": math.e,
}


def named_factor(e: Evidence) -> Iterator[Said]:
    """It is c r, where c is a size, a root or quotient of sizes, or a constant of calculus."""
    c = e.factor
    if e.formula is None or not c or e.allowed > 1e-4 or not e.fits(c * e.r):
        return
    for value, words, what in _pool(e):
        for name, x in ((words, value), (f"1 / {words}" if " " not in words else f"1 / ({words})", 1 / value)):
            if math.isclose(abs(c), x, rel_tol=max(1e-6, 2 * e.allowed)):
                sign = "minus " if c < 0 else ""
                yield (
                    Cause.FACTOR,
                    f"it is {c:.6g} times the reference: {sign}a factor {name} too many, or its inverse is missing{what}",
                )


def _pool(e: Evidence) -> Iterator[tuple[float, str, str]]:
    sizes: dict[int, str] = {}
    for name, x in known(e).fields:
        for axis, n in enumerate(x.shape):
            sizes.setdefault(n, f"the size of axis {axis} of {name}")
    for name, x in known(e).fields:
        sizes.setdefault(x.numel(), f"the number of entries of {name}")
    sizes = {n: told_ for n, told_ in sizes.items() if n > 2}
    for n, words in sizes.items():
        yield n, str(n), f"; {n} is {words}"
    for axis, n in enumerate(e.r.shape):
        k = int(e.r.movedim(axis, 0).reshape(n, -1).any(1).sum())
        if 0 < k < n:
            yield n / k, f"{n} / {k}", f"; {k} of the {n} along axis {axis} have a gradient, the others none"
    for n, a in sizes.items():
        for m, b in sizes.items():
            if n > m and n % m == 0:
                yield n // m, str(n // m), f", {n} / {m}; {n} is {a}, {m} {b}"
    for n, words in sizes.items():
        yield math.sqrt(n), f"sqrt({n})", f"; {n} is {words}"
        yield n / (n - 1), f"{n} / {n - 1}", f", as in a variance with and without correction; {n} is {words}"
        yield (
            math.sqrt(n / (n - 1)),
            f"sqrt({n} / {n - 1})",
            f", as in a deviation with and without correction; {n} is {words}",
        )
        yield n * n, f"{n}^2", f"; {n} is {words}"
    for name, value in CONSTANTS.items():
        yield value, name, ""
    slope = _slope(e)
    if slope:
        yield slope, f"{slope:.6g}", ", which is the derivative of every entry where it is not 0"
    for (n, a), (m, b) in combinations_with_replacement(sizes.items(), 2):
        if n != m:
            yield n * m, f"{n} * {m}", f"; {n} is {a}, {m} {b}"
            yield n / m, f"{n} / {m}", f"; {n} is {a}, {m} {b}"
            yield math.sqrt(n / m), f"sqrt({n} / {m})", f"; {n} is {a}, {m} {b}"
    yield 3.0, "3", ""
    yield 4.0, "4", ""


def _slope(e: Evidence) -> float:
    """The size of every entry of J that is not 0, where there is one; else 0."""
    jacobian = known(e).jacobian
    if jacobian is None or not jacobian.any():
        return 0.0
    sizes = jacobian[jacobian != 0].abs()
    return sizes[0].item() if (sizes - sizes[0]).abs().max() <= 1e-9 * sizes[0] and abs(sizes[0] - 1) > 1e-6 else 0.0


def reshaped_values(e: Evidence) -> Iterator[Said]:
    """A function of r, entry by entry."""
    r = e.r
    named = [
        ("its absolute values", r.abs()),
        ("its absolute values, negative", -r.abs()),
        ("its square", r * r),
        ("its sign alone", r.sign()),
        ("clamped to [-1, 1]", r.clamp(-1, 1)),
        ("0 where that is negative", r.clamp(min=0)),
        ("0 where that is positive", r.clamp(max=0)),
    ]
    yield from told(e, (Guess(Cause.VALUES, f"it is the reference, {words}", p) for words, p in named))
    if e.formula is not None and e.formula.u[0].shape == r.shape:
        sentence = (
            "it is the cotangent less the reference: p and its complement 1 - p are exchanged, of a mask, a branch or a gate"
        )
        yield from told(e, [Guess(Cause.COMPLEMENT, sentence, e.formula.u[0] - r)])


def exchanged(e: Evidence) -> Iterator[Said]:
    """The right gradient of another input, which has this one's in turn, perhaps with a factor."""
    for other, sentence, p in _others(e):
        if e.formula is not None:
            theirs = e.formula.pull([x.clone() for x in e.formula.leaves], [u.clone() for u in e.formula.u], None)[
                other
            ].double()
            own = known(e).r.reshape(theirs.shape) if theirs.numel() == e.r.numel() else theirs
            c = Evidence(theirs, own, e.allowed).factor
            if (theirs - c * own).norm() <= 1e-3 * theirs.norm():
                yield from told(e, [Guess(Cause.EXCHANGED, f"{sentence}: the two are exchanged", p, True)])


def copied(e: Evidence) -> Iterator[Said]:
    """The right gradient of another input, which has it as well."""
    yield from told(e, (Guess(Cause.NONE, f"{sentence}, not its own", p, True) for _, sentence, p in _others(e)))


def _others(e: Evidence) -> Iterator[tuple[int, str, Tensor]]:
    if e.formula is None or wrong(e).sum() < 3:
        return
    for name, r in known(e).right:
        if r.numel() == e.g.numel():
            p = r.mT.reshape(e.g.shape) if r.ndim == 2 and r.mT.shape == e.g.shape != r.shape else r.reshape(e.g.shape)
            c = Evidence(e.g, p, e.allowed).factor
            if math.isclose(c, 1, rel_tol=1e-4):
                yield e.formula.names.index(name), f"it is the gradient of {name}", p
            elif c and e.g.numel() > 3:
                yield e.formula.names.index(name), f"it is {c:.6g} times the gradient of {name}", c * p


def symmetric(e: Evidence) -> Iterator[Said]:
    """<g, S> = <r, S> for every symmetric S: the right gradient, if the matrix is only ever moved as a symmetric one."""
    if e.formula is None or e.g.shape != e.r.shape or e.g.ndim < 2 or e.g.shape[-1] != e.g.shape[-2] or e.g.shape[-1] < 2:
        return
    x, g, r = e.formula.x, e.g, e.r
    one_sided = not r.triu(1).any() or not r.tril(-1).any()
    if (x - x.mT).norm() > 1e-6 * x.norm() and not one_sided:
        return
    if (g + g.mT - r - r.mT).norm() > 1e-3 * (g - r).norm():
        return
    form = next(
        (
            words
            for words, p in (
                ("symmetric", g.mT),
                ("in the lower triangle alone", g.tril()),
                ("in the upper triangle alone", g.triu()),
            )
            if (g - p).norm() <= 1e-6 * g.norm()
        ),
        "neither symmetric nor triangular",
    )
    reads = ", of which the function reads one triangle" if one_sided else ""
    yield (
        Cause.SYMMETRIC,
        f"it is right where the matrix is moved as a symmetric one, <g, S> = <r, S> for symmetric S{reads}: a convention "
        f"for functions of symmetric matrices; it is {form}, the reference {'triangular' if one_sided else 'of any matrix'}",
    )
