"""Linear algebra, X = A^-1.

solve      x = A^-1 b:  db = A^-T u,  dA = -db x^T
inverse    dA = -X^T U X^T            det   dA = u det A X^T            log |det|   dA = u X^T
Cholesky   A = L L^T:  P = tril(L^T U) with half its diagonal,  S = L^-T P L^-1,  dA = (S + S^T) / 2
exp        of 2 x 2 matrices A, batched: the upper right block of exp [[A^T, U], [0, A^T]] is dA
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from experiments.kernels.kernel import Bug, Inputs, Kernel, changed, draws, upstream


def solve_rule(a: Tensor, b: Tensor, u: Tensor, sign: float = -1, transposed: bool = True) -> tuple[Tensor, Tensor]:
    """Sign and transposed are as they stand in the right rule."""
    db = torch.linalg.solve(a.mT if transposed else a, u)
    return sign * db @ torch.linalg.solve(a, b).mT, db


def inverse_rule(a: Tensor, u: Tensor) -> Tensor:
    """-X^T U X^T."""
    x = a.inverse().mT
    return -x @ u @ x


def det_rule(a: Tensor, u: Tensor) -> Tensor:
    """U det A X^T, batched."""
    return (u * a.det())[:, None, None] * a.inverse().mT


def logdet_rule(a: Tensor, u: Tensor) -> Tensor:
    """U X^T, batched."""
    return u[:, None, None] * a.inverse().mT


def cholesky(a: Tensor) -> Tensor:
    """The factor of the symmetric part of A: any matrix near a definite one will do."""
    return torch.linalg.cholesky((a + a.mT) / 2)


def cholesky_rule(a: Tensor, u: Tensor, diagonal: float = 0.5, symmetric: bool = True, kept: bool = True) -> Tensor:
    """diagonal, symmetric and kept (of the triangle) are as they stand in the right rule."""
    factor = cholesky(a)
    p = factor.mT @ u
    p = p.tril() if kept else p
    p = p - (1 - diagonal) * torch.diag_embed(p.diagonal(dim1=-2, dim2=-1))
    s = torch.linalg.solve(factor.mT, torch.linalg.solve(factor.mT, p.mT).mT)
    return (s + s.mT) / 2 if symmetric else s


def exp_rule(a: Tensor, u: Tensor, transposed: bool = True) -> Tensor:
    """The upper right block."""
    turned = a.mT if transposed else a
    block = torch.cat([torch.cat([turned, u], -1), torch.cat([torch.zeros_like(u), turned], -1)], -2)
    return torch.matrix_exp(block)[..., :2, 2:].clone()


def near_identity(*shapes: tuple[int, ...], symmetric: bool = False) -> Callable[[int], Inputs]:
    """Matrices A well away from singular ones, and whatever else."""

    def inputs(seed: int) -> Inputs:
        a, *rest = draws(*shapes)(seed)
        a = a + 4 * torch.eye(a.shape[-1], dtype=a.dtype)
        return ((a @ a.mT if symmetric else a), *rest)

    return inputs


KERNELS = [
    Kernel(
        "solve",
        torch.linalg.solve,
        solve_rule,
        near_identity((4, 4), (4, 3)),
        [
            Bug("dA with the other sign", "sign", partial(solve_rule, sign=1)),
            Bug("solved with A, not A^T", "transposed", partial(solve_rule, transposed=False)),
            Bug("dA transposed", "transposed", changed(solve_rule, 0, lambda g, *_: g.mT.clone())),
            Bug("dA with b for x", "replaced", changed(solve_rule, 0, lambda g, a, b, u: -solve_rule(a, b, u)[1] @ b.mT)),
            Bug("dA with u for db", "replaced", changed(solve_rule, 0, lambda g, a, b, u: -u @ torch.linalg.solve(a, b).mT)),
            Bug("A held constant", "zero", changed(solve_rule, 0, lambda g, *_: 0 * g)),
        ],
    ),
    Kernel(
        "cholesky",
        cholesky,
        cholesky_rule,
        near_identity((2, 4, 4), symmetric=True),
        [
            Bug("the diagonal is not halved", "factor term", partial(cholesky_rule, diagonal=1.0)),
            Bug("not made symmetric", "transposed mask", partial(cholesky_rule, symmetric=False)),
            Bug("the upper triangle is kept", "mask term", partial(cholesky_rule, kept=False)),
            Bug("S + S^T, not halved", "factor twice", lambda a, u: 2 * cholesky_rule(a, u)),
            Bug("the lower triangle of the result only", "mask part", lambda a, u: cholesky_rule(a, u).tril()),
        ],
    ),
    Kernel(
        "inverse",
        torch.inverse,
        inverse_rule,
        near_identity((2, 3, 3)),
        [
            Bug("the sign", "sign", lambda a, u: -inverse_rule(a, u)),
            Bug("X for X^T on both sides", "transposed", lambda a, u: -a.inverse() @ u @ a.inverse()),
            Bug("X^T on the left only", "transposed", lambda a, u: -a.inverse().mT @ u @ a.inverse()),
            Bug("A^T for X^T", "replaced elsewhere", lambda a, u: -a.mT @ u @ a.mT),
            Bug("X^T on the right forgotten", "factor once term", lambda a, u: -a.inverse().mT @ u),
        ],
    ),
    Kernel(
        "det",
        torch.det,
        det_rule,
        near_identity((3, 3, 3)),
        [
            Bug("X for X^T", "transposed", lambda a, u: det_rule(a, u).mT.clone()),
            Bug("det forgotten", "factor once row", logdet_rule),
            Bug("the diagonal only", "term mask part", lambda a, u: det_rule(a, u) * torch.eye(3, dtype=a.dtype)),
            Bug(
                "det of the first matrix for all",
                "row factor",
                lambda a, u: (u * a[0].det())[:, None, None] * a.inverse().mT,
            ),
            Bug("in bfloat16 after the inverse", "precision", lambda a, u: det_rule(a, u).bfloat16().double()),
        ],
    ),
    Kernel(
        "logdet",
        lambda a: torch.linalg.slogdet(a)[1],
        logdet_rule,
        near_identity((3, 4, 4)),
        [
            Bug("X for X^T", "transposed", lambda a, u: logdet_rule(a, u).mT.clone()),
            Bug("times det, as of det", "factor once", lambda a, u: logdet_rule(a, u * a.det())),
            Bug("u ignored", "upstream", upstream(logdet_rule, torch.ones_like)),
            Bug("A for X", "replaced elsewhere", lambda a, u: u[:, None, None] * a.mT),
            Bug("twice, as of A A^T", "factor twice", lambda a, u: 2 * logdet_rule(a, u)),
        ],
    ),
    Kernel(
        "expm",
        torch.matrix_exp,
        exp_rule,
        draws((3, 2, 2)),
        [
            Bug("A for A^T", "transposed", partial(exp_rule, transposed=False)),
            Bug("as if A and U commuted", "term order", lambda a, u: torch.matrix_exp(a.mT) @ u),
            Bug("entry by entry", "elsewhere replaced", lambda a, u: u * a.exp()),
            Bug("in float16 after the exponential", "precision", lambda a, u: exp_rule(a, u).half().double()),
            Bug("the series cut after U + (A^T U + U A^T) / 2", "term", lambda a, u: u + (a.mT @ u + u @ a.mT) / 2),
        ],
    ),
]
