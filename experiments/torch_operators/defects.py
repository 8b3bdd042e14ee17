"""Torch's defects that were found here, each in a few lines: what torch says, and what its own values say.

The report shows the lines as they stand below, and a test runs them. The functions are linear in what is moved, so that
their differences are exact, but for the loss.
"""

import inspect
import textwrap
import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Defect(NamedTuple):
    """The operators that have it, which of torch's derivatives or transforms is wrong, and how to see it."""

    operators: tuple[str, ...]
    kind: str
    words: str
    show: Callable[[], tuple[Tensor, Tensor]]

    @property
    def lines(self) -> str:
        """What `show` does, as it stands in this file."""
        return textwrap.dedent(inspect.getsource(self.show).partition("\n")[2]).strip()

    def shown(self) -> tuple[Tensor, Tensor] | None:
        """What torch says and what is right, or None where this torch has no such operator."""
        try:
            with warnings.catch_warnings():  # some are deprecated
                warnings.simplefilter("ignore")
                return self.show()
        except AttributeError:
            return None


def _as_strided_scatter() -> tuple[Tensor, Tensor]:
    src = torch.tensor([5.0])

    def f(x: Tensor) -> Tensor:
        return torch.as_strided_scatter(x, src, size=(1,), stride=(1,))

    x = torch.tensor([2.0, 3.0])
    (gradient,) = torch.func.vjp(f, x)[1](torch.ones(2))
    return gradient, (f(x + 1) - f(x - 1)) / 2


def _cosine_similarity() -> tuple[Tensor, Tensor]:
    y, v = torch.tensor([3.0, 4.0]).double(), torch.tensor([1.0, 0.0]).double()

    def f(x: Tensor) -> Tensor:
        return nn.functional.cosine_similarity(x, y, dim=0, eps=1.0)

    x = torch.tensor([0.1, 0.2]).double()  # shorter than eps: <x, y> / (eps |y|), which is linear in x
    (gradient,) = torch.func.vjp(f, x)[1](torch.ones(()).double())
    return gradient @ v, (f(x + 0.1 * v) - f(x - 0.1 * v)) / 0.2


def _scatter_reduce() -> tuple[Tensor, Tensor]:
    index, src = torch.tensor([0]), torch.tensor([5.0])

    def f(x: Tensor) -> Tensor:
        return torch.scatter_reduce(x, 0, index, src, reduce="prod")

    x = torch.tensor([2.0, 3.0])
    _, tangent = torch.func.jvp(f, (x,), (torch.ones(2),))
    return tangent, (f(x + 1) - f(x - 1)) / 2


def _triangular_solve() -> tuple[Tensor, Tensor]:
    b = torch.tensor([[1.0], [2.0]])

    def f(a: Tensor) -> Tensor:
        return torch.triangular_solve(b, a, upper=True).solution

    a, v = torch.tensor([[1.0, 3.0], [0.0, 2.0]]), torch.tensor([[0.0, 0.0], [1.0, 0.0]])  # v is where nobody looks
    _, tangent = torch.func.jvp(f, (a,), (v,))
    return tangent, (f(a + v) - f(a - v)) / 2


def _linear_cross_entropy() -> tuple[Tensor, Tensor]:
    w, y, chunks = torch.eye(2).double(), torch.tensor([0]), nn.LinearCrossEntropyOptions(batch_chunk_size=1)

    def f(x: Tensor) -> Tensor:
        return nn.functional.linear_cross_entropy(x, w, y, options=chunks)

    x, v = torch.zeros(1, 2).double(), torch.tensor([[1.0, 0.0]]).double()
    _, tangent = torch.func.jvp(f, (x,), (v,))
    return tangent, (f(x + 1e-4 * v) - f(x - 1e-4 * v)) / 2e-4


def _index_fill() -> tuple[Tensor, Tensor]:
    x, index = torch.tensor([0.0, 0.0]), torch.tensor([0])

    def f(value: Tensor) -> Tensor:
        return torch.index_fill(x, 0, index, value)

    values = torch.tensor([5.0, 6.0])
    return torch.func.vmap(f)(values), torch.stack([f(value) for value in values])


DEFECTS = (
    Defect(
        ("as_strided_scatter",),
        "backward",
        "the gradient of what is written into goes where it was overwritten, and is 0 where it was kept",
        _as_strided_scatter,
    ),
    Defect(
        ("nn.functional.cosine_similarity",),
        "backward",
        "where a vector is shorter than eps the gradient is that of a division by its length, not by eps",
        _cosine_similarity,
    ),
    Defect(("scatter_reduce.prod",), "forward mode", "the tangent is 0", _scatter_reduce),
    Defect(("triangular_solve",), "forward mode", "a tangent in the triangle that is not read counts", _triangular_solve),
    Defect(
        ("nn.functional.linear_cross_entropy.chunked", "nn.functional.linear_cross_entropy.chunked_none"),
        "forward mode",
        "the tangent is 0",
        _linear_cross_entropy,
    ),
    Defect(("index_fill",), "vmap", "all values are written into one and the same x", _index_fill),
)
