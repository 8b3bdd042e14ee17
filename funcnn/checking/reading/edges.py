"""A path of the forward graph that the rule leaves out, counts twice, or counts with the other sign.

The gradient is a sum over paths; those through an edge e add c_e = J^T e'. If they are counted k times,

    g = r + (k - 1) c_e        k = 0: the value is treated as a constant; k = -1: a sign; k = 2: twice
"""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ...causes import Cause
from ..evidence import Evidence, Said
from .graph import SEEN, Reading, read
from .words import REDUCED

PLAIN = (0, -1, 2)  # how often a path may count for a plain reason
MOST_PAIRS = 30  # paths of which all pairs are tried


class Path(NamedTuple):
    """A summand of the gradient: the value that it runs through, to which node, the cotangent, and what the probes see."""

    source: int
    node: int | None
    down: Tensor
    seen: Tensor


def edge_cut(e: Evidence) -> Iterator[Said]:
    """One path is counted k times, k = 0 above all."""
    for r in read(e):
        for path in paths(r):
            k = 1 + ((r.target @ path.seen) / path.seen.square().sum()).item()
            if (r.target - (k - 1) * path.seen).abs().max() > SEEN:
                continue
            whole = r.pull(path.source, path.down)
            k = 1 + ((r.error * whole).sum() / whole.square().sum()).item()
            plain = next((n for n in PLAIN if abs(k - n) < 1e-4), None)
            k = k if plain is None else plain
            if r.explains(r.r + (k - 1) * whole, spare=int(plain is None)):
                cause, sentence = _told(name(r, path), k, _sizes(r))
                part = _slab(r, (r.g == 0) & (r.r != 0))
                yield cause, f"{sentence}, so that {part} is 0, as if not written" if part else sentence


def pair_cut(e: Evidence) -> Iterator[Said]:
    """Two paths are left out."""
    for r in read(e):
        found = paths(r)[:MOST_PAIRS]
        if len(found) < 2:
            return
        seen = torch.stack([path.seen for path in found])
        left = (r.target + seen[:, None] + seen).abs().amax(2) <= SEEN
        for i, j in left.triu(1).nonzero()[:8].tolist():
            if r.explains(r.r - r.pull(found[i].source, found[i].down) - r.pull(found[j].source, found[j].down)):
                names = f"{name(r, found[i])} and {name(r, found[j])}"
                yield Cause.PATH, f"the paths through {names} are missing: both are treated as constants"


def paths(r: Reading) -> list[Path]:
    """Different summands of the gradient: those through reductions first, then in the order of the forward pass."""
    candidates, uses = [], Counter(edge.source for edge in r.edges)
    for edge, seen in zip(r.edges, r.own, strict=True):
        candidates.append((_rank(r, edge.source), Path(edge.source, edge.node, edge.down, seen)))
    for index, whole in r.adjoint.items():  # a value as a whole, where it is used more than once
        if index >= r.tape.leaves and uses[index] > 1:
            path = Path(index, None, whole, r.probed(index, whole[None])[0])
            candidates.append((_rank(r, index), path))
    candidates.sort(key=lambda each: each[0])
    seen = torch.stack([r.probed(r.formula.position, r.r[None])[0], *(path.seen for _, path in candidates)])
    size = seen.abs().amax(1)
    same = (seen[:, None] - seen).abs().amax(2) <= 1e-7 * size
    new = ~same.tril(-1).any(1) & (size > 1e-9 * size[0])
    return [path for (_, path), kept in zip(candidates, new[1:].tolist(), strict=True) if kept]


def name(r: Reading, path: Path) -> str:
    """What a path runs through, in words."""
    told = r.words.phrase(path.source)
    used = sum(edge.source == path.source for edge in r.edges)
    if path.node is not None and (used > 1 or r.words.core(path.source) < r.tape.leaves):
        return f"the use of {told} in {r.words.phrase(r.tape.nodes[path.node].outs[0])}"
    return told


def _rank(r: Reading, index: int) -> int:
    maker = r.words.makers.get(r.words.core(index))
    return 2 if maker is None else 0 if maker.name in REDUCED else 1


def _sizes(r: Reading) -> set[int]:
    """What an average may be over."""
    sizes = {value.numel() for value in r.live.values()} | {n for value in r.live.values() for n in value.shape}
    return {n for n in sizes if n > 2}


def _slab(r: Reading, lost: Tensor) -> str:
    """Which part of an axis it is, if it is one."""
    for axis in range(lost.ndim):
        lines = lost.movedim(axis, 0).reshape(lost.shape[axis], -1).any(1)
        inside = lines.reshape(-1, *[1] * (lost.ndim - 1 - axis)).expand_as(lost)
        if lines.any() and not lines.all() and bool((r.g[inside] == 0).all()):
            found = lines.nonzero()[:, 0].tolist()
            if found == list(range(found[0], found[-1] + 1)):
                where = "the border" if found[0] == 0 or found[-1] == len(lines) - 1 else "a part"
                return f"{where} of axis {axis}, {found[0]} to {found[-1]},"
    return ""


def _told(through: str, k: float, sizes: set[int]) -> Said:
    def near(x: float) -> bool:
        return abs(k - x) <= 1e-5 * max(1.0, abs(x))

    if near(0):
        return Cause.PATH, f"the path through {through} is missing: it is treated as a constant"
    if near(-1):
        return Cause.PATH_SIGN, f"the path through {through} has the other sign"
    if near(2):
        return Cause.PATH, f"the path through {through} counts twice"
    told = f"a factor: the path through {through} counts {k:.5g} times"
    for n in sorted(sizes):
        for value, what in (
            (n, f"a sum in place of a mean over {n}"),
            (1 / n, f"a mean over {n} in place of a sum"),
            (n / (n - 1), f"n / (n - 1) for n = {n}"),
            ((n - 1) / n, f"(n - 1) / n for n = {n}"),
        ):
            if near(value):
                return Cause.PATH_FACTOR, f"{told}, {what}"
    return Cause.PATH_FACTOR, told
