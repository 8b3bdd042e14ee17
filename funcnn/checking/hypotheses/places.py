"""The right numbers in wrong places: g = T r, or g = J^T T u, for a move T; or the rule of a moved point."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import combinations, zip_longest

import torch
from torch import Tensor

from ...causes import Cause
from ..evidence import Evidence, Said
from ..recorded import Recorded
from .known import LARGE, Guess, known, told
from .moves import Move, moves

TRIES = 16  # points elsewhere at which pullbacks are computed


def rearranged(e: Evidence) -> Iterator[Said]:
    """The reference in another order that has a name."""
    if e.g.shape == e.r.shape and e.g.numel() <= LARGE:
        order = (move for move in moves(e.r.shape) if move.permutes)
        yield from told(e, (Guess(m.cause, f"it is the reference {m.words}", m.to(e.r)) for m in order))


def placed(e: Evidence) -> Iterator[Said]:
    """The reference in other places: shifted, spread, or carried to an index of another axis."""
    if e.g.shape != e.r.shape or e.g.numel() > LARGE:
        return
    sources = [("reference", e.r)]
    if e.formula is not None and e.formula.u[0].shape == e.g.shape:
        sources.insert(0, ("cotangent", e.formula.u[0]))
    for name, source in sources:
        spread = (move for move in moves(e.r.shape) if not move.permutes)
        yield from told(e, (Guess(m.cause, f"it is the {name}, {m.words}", m.to(source)) for m in spread))
    if 2 * e.r.count_nonzero() <= e.r.numel() <= LARGE and e.r.any():
        yield from told(e, _scattered(e.r))


def _scattered(r: Tensor) -> Iterator[Guess]:
    """Every entry that is not 0, with its index along axis a for one along axis b."""
    index = r.nonzero()
    values = r[tuple(index.T)]
    for a in range(r.ndim):
        for b in range(r.ndim):
            if a == b or index[:, a].max() >= r.shape[b]:
                continue
            words = f"indices along axis {a} are used along axis {b}"
            for where, at in ((", at 0 along the other", 0), (", and the other way round", None)):
                to = index.clone()
                to[:, b], to[:, a] = index[:, a], index[:, b] if at is None else at
                if (to[:, a] < r.shape[a]).all():
                    for adds in (True, False):
                        p = torch.zeros_like(r).index_put(tuple(to.T), values, accumulate=adds)
                        yield Guess(Cause.AXIS, f"{words}{where}{'' if adds else ', and the last write wins'}", p)
            lines = torch.zeros_like(r).movedim((b, a), (0, 1))
            rest = [axis for axis in range(r.ndim) if axis not in (a, b)]
            for i, value in zip(index.tolist(), values, strict=True):
                lines[(i[a], slice(None), *(i[axis] for axis in rest))] = value
            yield Guess(Cause.AXIS, f"{words}, and everywhere along the other: broadcast", lines.movedim((0, 1), (b, a)))


def slopes_moved(e: Evidence) -> Iterator[Said]:
    """u_i f'(x_j) in place of u_i f'(x_i), where every entry of y depends on its own of x alone."""
    if elementwise(e) and e.formula is not None:
        u = e.formula.u[0]
        guesses = (
            Guess(m.cause, f"it is the cotangent times the derivatives of other entries, {m.words}", m.to(e.r / u) * u)
            for m in moves(u.shape)
        )
        yield from told(e, guesses)


def elementwise(e: Evidence) -> bool:
    """Whether J is diagonal: J^T (s u) = s J^T u for any signs s."""
    if e.formula is None or known(e).recorded is None or e.formula.u[0].shape != e.g.shape:
        return False
    u = e.formula.u[0]
    signs = (torch.arange(u.numel(), device=u.device).mul(0.618).frac().reshape(u.shape) < 0.5) * 2.0 - 1
    return bool(u.all() and (known(e).pull(signs * u) - signs * e.r).norm() <= 1e-9 * e.r.norm())


def other_way(e: Evidence) -> Iterator[Said]:
    """T^-1 J(T x)^T T u: the rule of the function along another axis, or in the other direction."""
    formula = e.formula
    if formula is None or known(e).recorded is None or e.g.numel() > LARGE // 10:
        return
    x, u = formula.x, formula.u[0]
    axes = [axis for axis, n in enumerate(x.shape) if n > 1][:4]
    turned = [Move(f"in the other direction along axis {axis}", partial(torch.flip, dims=(axis,))) for axis in axes]
    turned += [
        Move(f"along axis {b} where it must be {a}, or the other way round", partial(torch.transpose, dim0=a, dim1=b))
        for a, b in combinations(axes, 2)
    ]

    def guesses() -> Iterator[Guess]:
        for move in moves(x.shape):
            if "halves" in move.words and u.shape != x.shape:
                for p in _elsewhere(e, [move.to(y) if y is x else y for y in formula.leaves], u):
                    yield Guess(Cause.EXCHANGED, f"{formula.names[formula.position]} is taken {move.words}", move.to(p))
        for move in turned if u.ndim >= x.ndim and u.shape[: x.ndim] == x.shape else []:
            for p in _elsewhere(e, [move.to(y) if y.ndim == x.ndim else y for y in formula.leaves], move.to(u)):
                yield Guess(
                    Cause.DIRECTION if "direction" in move.words else Cause.AXIS, f"the rule runs {move.words}", move.to(p)
                )

    yield from told(e, guesses())


def inputs_moved(e: Evidence) -> Iterator[Said]:
    """J(.., T x_i, ..)^T u: one of the inputs is read in another place."""
    formula = e.formula
    if formula is None or known(e).recorded is None or e.g.numel() > LARGE // 10:
        return
    inputs = [*zip(formula.names, formula.leaves, strict=True), *formula.rest]
    lists = [
        [(name, x, m) for m in moves(x.shape) if m.permutes or "by one" in m.words or "its first" in m.words]
        for name, x in inputs
    ]
    tried = [one for turn in zip_longest(*lists) for one in turn if one is not None and one[2].to(one[1]).ne(one[1]).any()]
    yield from told(
        e,
        (
            Guess(move.cause, f"it is the right gradient for {name} {move.words}", p)
            for name, x, move in tried[:TRIES]
            for p in _elsewhere(e, *_with(e, name, move.to(x)))
        ),
    )


def inputs_replaced(e: Evidence) -> Iterator[Said]:
    """J(.., c, ..)^T u: another input, or a constant, stands for x_i."""
    formula = e.formula
    if formula is None or known(e).recorded is None or e.g.numel() > LARGE // 10:
        return
    inputs = [*zip(formula.names, formula.leaves, strict=True), *formula.rest]
    tried: list[tuple[Cause, str, str, Tensor]] = []
    for name, x in inputs:
        real = x.is_floating_point()
        binary = real and bool(((x == 0) | (x == 1)).all()) or x.dtype == torch.bool
        if real or binary:
            cause, what = (Cause.MASK, "the mask is left out") if binary else (Cause.LEFT_OUT, f"{name} is left out")
            tried.append((cause, name, f"1 throughout: {what}", torch.ones_like(x)))
        if binary:
            tried.append((Cause.MASK, name, "its complement", ~x if x.dtype == torch.bool else 1 - x))
        elif not real:
            tried += [(Cause.SHIFTED, name, f"{k:+d} in every entry: one off", (x + k).clamp(min=0)) for k in (1, -1)]
    tried += [
        (Cause.REPLACED, name, f"{other} in its place", y)
        for name, x in inputs
        for other, y in inputs
        if other != name and x.shape == y.shape and x.dtype == y.dtype
    ]
    yield from told(
        e,
        (
            Guess(cause, f"it is the right gradient for {name} with {words}", p)
            for cause, name, words, x in tried[:TRIES]
            for p in _elsewhere(e, *_with(e, name, x))
        ),
    )


def _with(e: Evidence, name: str, x: Tensor) -> tuple[list[Tensor], Tensor, dict[str, Tensor]]:
    """The leaves, the cotangent and the other tensors, one of which is another now."""
    assert e.formula is not None
    leaves = [x if own == name else y for own, y in zip(e.formula.names, e.formula.leaves, strict=True)]
    return leaves, e.formula.u[0], {name: x} if name not in e.formula.names else {}


def _elsewhere(
    e: Evidence, leaves: Sequence[Tensor], u: Tensor, others: dict[str, Tensor] | None = None
) -> Iterator[Tensor]:
    """The right gradient at other leaves, if there is one."""
    assert e.formula is not None
    f = partial(e.formula.f, **others) if others else e.formula.f
    recorded = Recorded(f, leaves)
    if recorded.y is not None and recorded.y.shape == u.shape:
        yield recorded.pull(u)[e.formula.position]
