"""Rows of a table: the embedding of tokens, and the positions that are added to them."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor

from ..errors import InputError, check_count, check_device, check_dtype, check_generator, describe, is_dense
from ..types import Init, Layer, Params, Residuals
from .columns import Column, Forward
from .factors import ByParts, Rows
from .guarded import guarded

INTEGERS = frozenset({torch.int64, torch.int32})


class Chosen:
    """The N matrices sum_t e(x_nt) dy_nt^T (V, D), not multiplied out: e(v) is 1 in row v, so row v sums the dy of token v.

    It is an `Outer` whose first factor is known by the places of its ones; |G_n|^2 = sum_ts [x_nt = x_ns] <dy_nt, dy_ns>.
    """

    __slots__ = ("x", "dy", "vocabulary")

    def __init__(self, x: Int[Tensor, "N *T"], dy: Float[Tensor, "N *T D"], vocabulary: int) -> None:
        """Keeps the tokens and what comes back to each."""
        self.x, self.dy, self.vocabulary = x, dy, vocabulary

    @property
    def shape(self) -> tuple[int, ...]:
        """(V, D)."""
        return self.vocabulary, self.dy.shape[-1]

    def total(self) -> Float[Tensor, "V D"]:
        """Their sum: a token that is repeated accumulates."""
        rows = self.dy.reshape(-1, self.dy.shape[-1])
        return rows.new_zeros(self.shape).index_add(0, self.x.reshape(-1), rows)

    def each(self) -> Float[Tensor, "N V D"]:
        """All of them."""
        samples = len(self.x)
        offset = self.vocabulary * torch.arange(samples, device=self.x.device).reshape(-1, *[1] * (self.x.ndim - 1))
        return Chosen(self.x + offset, self.dy, samples * self.vocabulary).total().reshape(samples, *self.shape)

    def norms(self, dtype: torch.dtype) -> Float[Tensor, " N"]:
        """The Euclidean norm of each, computed in a dtype."""
        x, dy = self.x.reshape(len(self.x), -1), self.dy.reshape(len(self.x), -1, self.dy.shape[-1]).to(dtype)
        same = x[:, :, None] == x[:, None, :]
        return ((dy @ dy.mT) * same).sum((1, 2)).clamp(min=0).sqrt()

    def weighted(self, weights: Float[Tensor, " N"]) -> Float[Tensor, "V D"]:
        """The sum of c_n times each."""
        scaled = weights.to(self.dy.dtype).reshape(-1, *[1] * (self.dy.ndim - 1)) * self.dy
        return Chosen(self.x, scaled, self.vocabulary).total()


def _normal(rows: int, features: int) -> Init:
    """Standard normal rows."""

    def init(generator: Generator, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Params:
        check_generator(generator)
        check_dtype(dtype)
        check_device(device)
        w = torch.randn(rows, features, generator=generator, dtype=torch.float64, device=generator.device)
        return {"w": w.to(device=device or torch.get_default_device(), dtype=dtype or torch.get_default_dtype())}

    return init


def embedding(num_embeddings: int, features: int) -> Layer:
    """The rows y_t = W[x_t] of a table W (V, D), at integer tokens x (N, ...) from 0 to V - 1; y has shape (N, ..., D).

    Row v of dL/dW is the sum of dL/dy_t over all t with x_t = v. Tokens are integers, so there is no dx: it is ().
    Parameters `{"w": W}`, standard normal as torch.nn.Embedding's.

    Raises:
        InputError: a size is no positive integer; (when called) tokens that are no int64 or int32, or out of range.
    """
    vocabulary, features = check_count("num_embeddings", num_embeddings), check_count("features", features)
    title = f"embedding({vocabulary}, {features})"

    def fits(x: Tensor) -> None:
        if not is_dense(x) or x.dtype not in INTEGERS or not x.ndim:
            raise InputError(f"inputs of {title}", describe(x), "tokens of shape (N, ...), of int64")

    def out_of_range(x: Tensor) -> InputError | None:
        smallest, largest = torch.aminmax(x)
        if 0 <= smallest and largest < vocabulary:
            return None
        wrong = smallest if smallest < 0 else largest
        return InputError(f"inputs of {title}", f"the token {int(wrong)}", f"tokens from 0 to {vocabulary - 1}")

    def forward(params: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Residuals]:
        w = params["w"]
        try:  # on a CPU torch looks at the tokens by itself, at no cost
            return torch.embedding(w, x), (x, w)
        except (IndexError, RuntimeError) as error:
            raise out_of_range(x) or error from None

    def summands(residuals: tuple[Tensor, Tensor], dy: Tensor) -> dict[str, Chosen]:
        return {"w": Chosen(residuals[0], dy, vocabulary)}

    def moves(params: dict[str, Tensor], x: Tensor) -> dict[str, Any]:
        def w(entry: Tensor, h: Tensor) -> Column:  # w[v, d] + h moves y_d by h where the token is v
            token, h = (leaf.reshape(-1, *[1] * x.ndim) for leaf in (entry // features, h))
            return Column(entry % features, h * (x == token))

        return {"w": w}

    layer = Layer(_normal(vocabulary, features), Forward(forward, True, moves), ByParts(summands, lambda kept, dy: ()))
    return guarded(
        layer,
        title,
        params={"w": "V D"},
        fits=fits,
        tokens=True,
        like=lambda residuals: residuals[1],
        shape=lambda residuals: (*residuals[0].shape, features),
        V=vocabulary,
        D=features,
    )


def positions(length: int, features: int) -> Layer:
    """A learned row for every position: y_nt = x_nt + W[t], x (N, T, D) with T of at most `length`, W (length, D).

    dL/dW[t] = sum_n dL/dy_nt for t < T, and 0 beyond; dx = dy. Parameters `{"w": W}`, standard normal.

    Raises:
        InputError: a size is no positive integer; (when called) x has other axes, no token or more than `length`.
    """
    length, features = check_count("length", length), check_count("features", features)
    title = f"positions({length}, {features})"

    def fits(x: Tensor) -> None:
        if x.ndim != 3 or not 1 <= x.shape[1] <= length:
            raise InputError(f"inputs of {title}", describe(x), f"shape (N, T, {features}), T from 1 to {length}")

    def forward(params: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Residuals]:
        return x + params["w"][: x.shape[1]], x.new_zeros(()).expand(x.shape)

    def summands(residuals: Tensor, dy: Tensor) -> dict[str, Rows]:
        return {"w": Rows(F.pad(dy, (0, 0, 0, length - dy.shape[1])))}

    layer = Layer(_normal(length, features), Forward(forward, True), ByParts(summands, lambda kept, dy: dy))
    return guarded(layer, title, params={"w": "T D"}, x="N ... D", like=lambda kept: kept, fits=fits, T=length, D=features)
