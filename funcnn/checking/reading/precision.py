"""A computation in fewer digits than it is given.

Few numbers of float64 are numbers of float32: a gradient whose entries all are, where those of the reference are not, has
been rounded to it. Where only a part of the computation is rounded, it is found by rounding that part: the cotangent, a
leaf, what is handed down along an edge.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from ...causes import Cause
from ..evidence import Evidence, Said
from ..tape import replay
from .graph import Reading, read

COARSE = (torch.bfloat16, torch.float16, torch.float32)
LARGEST = 0.2  # a relative error that rounding may make


def rounded_result(e: Evidence) -> Iterator[Said]:
    """Every entry is a number of a coarser type."""
    for r in read(e):
        if r.error.norm() > LARGEST * r.r.norm():
            return
        for dtype in COARSE:
            fine = r.r != _rounded(r.r, dtype)
            if int(fine.sum()) >= 4 and torch.equal(r.g, _rounded(r.g, dtype)):
                digits = f"every entry is a number of {_name(dtype)}, though all operands have the digits of float64"
                yield Cause.PRECISION, f"precision: {digits}: the rule computes, or rounds its result, in {_name(dtype)}"


def rounded_inside(e: Evidence) -> Iterator[Said]:
    """One tensor is rounded on the way."""
    for r in read(e):
        if r.error.norm() > LARGEST * r.r.norm():
            return
        for dtype in COARSE:
            for what, p in _parts(r, dtype):
                if r.explains(p):
                    yield Cause.PRECISION, f"precision: {what} rounded to {_name(dtype)} on the way"
            for edge in r.edges:
                if r.mistaken(edge.source, edge.down, _rounded(edge.down, dtype)[None]):
                    place = r.words.phrase(edge.source)
                    yield (
                        Cause.PRECISION,
                        f"precision: what is handed down to {place} is rounded to {_name(dtype)} on the way",
                    )


def _parts(r: Reading, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    leaves, u = r.formula.leaves, r.formula.u
    coarse, coarse_u = [_rounded(leaf, dtype) for leaf in leaves], [_rounded(each, dtype) for each in u]
    yield "the cotangent is", r.pull_outputs(coarse_u)
    yield "all inputs are", _gradient(r, coarse, u)
    yield "the inputs and the cotangent are", _gradient(r, coarse, coarse_u)
    if len(leaves) > 1:
        for i, name in enumerate(r.formula.names):
            yield f"{name} is", _gradient(r, [*leaves[:i], coarse[i], *leaves[i + 1 :]], u)


def _gradient(r: Reading, leaves: list[Tensor], u: tuple[Tensor, ...] | list[Tensor]) -> Tensor:
    with torch.enable_grad():
        x = leaves[r.formula.position].detach().clone().requires_grad_()
        y = replay(r.tape, [x if i == r.formula.position else leaf for i, leaf in enumerate(leaves)])
        pairs = [(each, w) for each, w in zip(y, u, strict=True) if each.requires_grad]
        grads = torch.autograd.grad([y for y, _ in pairs], x, [w for _, w in pairs], materialize_grads=True)
    return grads[0]


def _rounded(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.to(dtype).to(x.dtype) if x.is_floating_point() else x


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
