"""Systems of equations.

ridge        w = M^-1 A^T b, M = A^T A + c; with z = M^-1 u:  db = A z,  dA = (b - A w) z^T - A z w^T
triangular   L x = b, L the lower triangle:  db = L^-T u,  dL = -tril(db x^T)
"""

from functools import partial

import torch
from torch import Tensor

from experiments.kernels.kernel import Bug, Inputs, Kernel, changed, cut, draws

RIDGE = 0.5


def ridge(a: Tensor, b: Tensor) -> Tensor:
    """Regularised least squares."""
    return torch.linalg.solve(a.T @ a + RIDGE * torch.eye(a.shape[1], dtype=a.dtype), a.T @ b)


def ridge_rule(
    a: Tensor, b: Tensor, u: Tensor, plus: float = RIDGE, normal: float = 1, residual: float = 1
) -> tuple[Tensor, Tensor]:
    """The ridge in z, the path of M and that of the residual stand as in the right rule."""
    w = ridge(a, b)
    z = torch.linalg.solve(a.T @ a + plus * torch.eye(a.shape[1], dtype=a.dtype), u)
    return torch.outer(b - residual * a @ w, z) - normal * torch.outer(a @ z, w), a @ z


def triangular(lower: Tensor, b: Tensor) -> Tensor:
    """Solves with the lower triangle; what is above the diagonal is not read."""
    return torch.linalg.solve_triangular(lower.tril(), b, upper=False)


def triangular_rule(
    lower: Tensor, b: Tensor, u: Tensor, diagonal: int = 0, turn: bool = True, sign: float = -1
) -> tuple[Tensor, Tensor]:
    """The diagonal up to which dL reaches, the transpose of L, and the sign of dL stand as in the right rule."""
    x, matrix = triangular(lower, b), lower.tril()
    db = torch.linalg.solve(matrix.T if turn else matrix, u)
    return sign * (db @ x.T).tril(diagonal), db


def well_conditioned(seed: int) -> Inputs:
    """A matrix that is far from singular, and three right sides."""
    lower, b = draws((4, 4), (4, 3))(seed)
    return lower + 3 * torch.eye(4, dtype=lower.dtype), b


KERNELS = [
    Kernel(
        "ridge",
        ridge,
        ridge_rule,
        draws((6, 3), (6,)),
        [
            Bug("the ridge left out of the backward solve", "term constant", partial(ridge_rule, plus=0)),
            Bug("the normal matrix held constant", "term", partial(ridge_rule, normal=0, residual=0)),
            Bug("A z w^T with the other sign", "sign term", partial(ridge_rule, normal=-1)),
            Bug("b in place of the residual", "term replaced", partial(ridge_rule, residual=0)),
            Bug("the last row of dA is not written", "border", changed(ridge_rule, 0, lambda g, *_: cut(g, -1))),
        ],
    ),
    Kernel(
        "triangular_solve",
        triangular,
        triangular_rule,
        well_conditioned,
        [
            Bug("dL over all of the matrix", "mask part", partial(triangular_rule, diagonal=3)),
            Bug("dL without its diagonal", "mask part zero", partial(triangular_rule, diagonal=-1)),
            Bug("solved with L, not its transpose", "transposed", partial(triangular_rule, turn=False)),
            Bug("dL with the other sign", "sign", partial(triangular_rule, sign=1)),
            Bug(
                "dL by b, not by x",
                "replaced",
                changed(triangular_rule, 0, lambda g, lower, b, u: -(triangular_rule(lower, b, u)[1] @ b.T).tril()),
            ),
        ],
    ),
]
