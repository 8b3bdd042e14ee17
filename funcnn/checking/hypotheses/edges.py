"""A path of the forward graph that the rule leaves out, counts twice, or counts with the other sign.

The gradient is a sum over paths; those through an edge e add c_e = J^T e'. If they are counted k times,

    g = r + (k - 1) c_e        k = 0: the value is treated as a constant; k = -1: a sign; k = 2: twice
"""

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from ..evidence import Cause, Evidence
from .graph import Reading, read
from .words import REDUCED

MOST_PAIRS = 30  # paths of which all pairs are tried


def edge_cut(e: Evidence) -> Iterator[Cause]:
    """One path is counted k times, k = 0 above all."""
    for r in read(e):
        for name, path in paths(r):
            k = 1 + ((r.error * path).sum() / path.square().sum()).item()
            if not r.explains(r.r + (k - 1) * path, spare=1):
                continue
            yield from _told(name, k)


def pair_cut(e: Evidence) -> Iterator[Cause]:
    """Two paths are left out."""
    for r in read(e):
        found = paths(r)[:MOST_PAIRS]
        if len(found) < 2:
            return
        flat = torch.stack([path.flatten() for _, path in found])
        gram, along, size = flat @ flat.mT, flat @ r.error.flatten(), r.error.square().sum()
        left = size + 2 * (along[:, None] + along) + gram.diag()[:, None] + gram.diag() + 2 * gram
        for i, j in itertools.combinations(range(len(found)), 2):
            if left[i, j] <= 1e-6 * size and r.explains(r.r - found[i][1] - found[j][1]):
                names = f"{found[i][0]} and {found[j][0]}"
                yield "path", f"the paths through {names} are missing: both are treated as constants"


def paths(r: Reading) -> list[tuple[str, Tensor]]:
    """Different summands of the gradient with what they run through: reductions first, then in the order of the forward."""
    size = r.r.norm()
    candidates = []
    for edge, path in zip(r.edges, r.paths, strict=True):
        maker = r.words.makers.get(r.words.core(edge.source))
        if maker is None:  # the leaf itself, as it is used here
            name, rank = f"the use of {r.words.phrase(edge.source)} in {_use(r, edge.node)}", 2
        else:
            name, rank = r.words.phrase(edge.source), 0 if maker.name in REDUCED else 1
        candidates.append((rank, name, path))
    for index, whole in r.adjoint.items():  # a value as a whole, where it is used more than once
        if index >= r.tape.leaves and sum(edge.source == index for edge in r.edges) > 1:
            maker = r.words.makers.get(r.words.core(index))
            rank = 0 if maker is not None and maker.name in REDUCED else 1
            candidates.append((rank, r.words.phrase(index), r.pull(index, whole)))
    found: list[tuple[str, Tensor]] = []
    for _, name, path in sorted(candidates, key=lambda each: each[0]):
        new = all((path - other).norm() > 1e-6 * path.norm() for _, other in found)
        if new and path.norm() > 1e-9 * size and (path - r.r).norm() > 1e-6 * size:
            found.append((name, path))
    return found


def _use(r: Reading, node: int) -> str:
    return r.words.phrase(r.tape.nodes[node].outs[0])


def _told(name: str, k: float) -> Iterator[Cause]:
    def near(x: float) -> bool:
        return abs(k - x) <= 1e-4 * max(1.0, abs(x))

    if near(0):
        yield "path", f"the path through {name} is missing: it is treated as a constant"
    elif near(-1):
        yield "path sign", f"the path through {name} has the other sign"
    elif near(2):
        yield "path", f"the path through {name} counts twice"
    else:
        yield "path factor", f"the path through {name} counts {k:.5g} times: a factor there"
