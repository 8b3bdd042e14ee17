"""Tensor operations beside what they mean, entry by entry."""

from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Case(NamedTuple):
    """An operation as it is written, its result, and the formula of an entry, in words and as a function of the indices."""

    written: str
    result: Tensor
    formula: str
    entry: Callable[..., Tensor]

    def difference(self) -> float:
        """How far the result is from the definition: the largest difference of an entry. Raises where shapes disagree."""
        entries = [self.entry(*index) for index in product(*map(range, self.result.shape))]
        return (torch.stack(entries).reshape(self.result.shape) - self.result).abs().max().item()


def cases(generator: torch.Generator, **tensors: Any) -> dict[str, list[Case]]:
    """The operations by kind, on small random tensors: x, z (4, 3), w (3, 2), u, v (3,), images t (2, 3, 4, 2), b (3,)."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(**tensors)

    x, z, w, u, v, t, m = normal(4, 3), normal(4, 3), normal(3, 2), normal(3), normal(3), normal(2, 3, 4, 2), normal(3, 4)
    long = x.reshape(2, 6)
    return {
        "element-wise": [
            Case("x + z", x + z, "x[i,j] + z[i,j]", lambda i, j: x[i, j] + z[i, j]),
            Case("x * z", x * z, "x[i,j] z[i,j]", lambda i, j: x[i, j] * z[i, j]),
            Case("x.relu()", x.relu(), "max(x[i,j], 0)", lambda i, j: max(x[i, j], 0 * x[i, j])),
        ],
        "dot product": [
            Case("u @ v", u @ v, "sum_k u[k] v[k]", lambda: sum(u[k] * v[k] for k in range(3))),
            Case("x @ u", x @ u, "sum_k x[i,k] u[k]", lambda i: sum(x[i, k] * u[k] for k in range(3))),
        ],
        "contraction": [
            Case("x @ w", x @ w, "sum_k x[i,k] w[k,j]", lambda i, j: sum(x[i, k] * w[k, j] for k in range(3))),
            Case(
                "einsum('nhwc,hw->nc', t, m)",
                torch.einsum("nhwc,hw->nc", t, m),
                "sum_(h,w) t[n,h,w,c] m[h,w]",
                lambda n, c: sum(t[n, h, k, c] * m[h, k] for h in range(3) for k in range(4)),
            ),
        ],
        "reduction": [
            Case("x.sum(0)", x.sum(0), "sum_i x[i,j]", lambda j: sum(x[i, j] for i in range(4))),
            Case("x.amax(1)", x.amax(1), "max_j x[i,j]", lambda i: max(x[i])),
            Case("x.mean()", x.mean(), "sum_(i,j) x[i,j]/12", lambda: sum(x[i, j] for i in range(4) for j in range(3)) / 12),
        ],
        "reshape": [
            Case("x.reshape(2, 6)", long, "entry 6 i + j of x", lambda i, j: x[divmod(6 * i + j, 3)]),
            Case("x.T", x.T, "x[j,i]", lambda i, j: x[j, i]),
        ],
        "broadcasting": [
            Case("x + u", x + u, "x[i,j] + u[j]", lambda i, j: x[i, j] + u[j]),
            Case("u[:, None] + v", u[:, None] + v, "u[i] + v[j]", lambda i, j: u[i] + v[j]),
            Case("t * m[:, :, None]", t * m[:, :, None], "t[n,h,w,c] m[h,w]", lambda n, h, k, c: t[n, h, k, c] * m[h, k]),
        ],
    }
