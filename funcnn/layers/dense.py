"""The dense layer: an affine map of the features."""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Inexact
from torch import Generator, Tensor

from .. import kernels
from ..errors import check_count, check_device, check_dtype, check_flag, check_generator
from ..types import Layer, Params, Residuals
from .columns import Carry, Column, Forward
from .factors import ByParts, Outer, Rows
from .guarded import guarded


def uniform_within(
    bound: float, generator: Generator, dtype: torch.dtype | None, device: torch.device | str | None
) -> Callable[..., Tensor]:
    """The function that draws tensors of a shape, uniform in [-bound, bound].

    Raises:
        InputError: generator is no Generator, dtype no floating dtype, or device none.
    """
    check_generator(generator)
    check_dtype(dtype)
    check_device(device)

    def uniform(*shape: int) -> Tensor:
        # Drawn in float64 where the generator lives: every dtype and device starts at the same point.
        unit = torch.rand(shape, generator=generator, dtype=torch.float64, device=generator.device)
        return (bound * (2 * unit - 1)).to(
            device=device or torch.get_default_device(), dtype=dtype or torch.get_default_dtype()
        )

    return uniform


def dense(in_features: int, out_features: int, *, bias: bool = True) -> Layer:
    """The affine map Y = X W + 1 b, with X (N, D), W (D, H), b (H,), Y (N, H); on tokens, X (N, T, D), of each of them.

    From the differential dY = dX W + X dW + 1 db:

        dL/dW = X^T dL/dY     (D, H)
        dL/db = 1^T dL/dY     (H,)
        dL/dX = dL/dY W^T     (N, D)

    Parameters `{"w": W, "b": b}`, without bias `{"w": W}`; both start uniform in [-1/sqrt(D), 1/sqrt(D)], so that the
    variance of the output does not grow with the fan-in D (torch.nn.Linear's rule).

    Raises:
        InputError: a size is no positive integer; w, b or x has the wrong shape, dtype or device.
    """
    in_features, out_features = check_count("in_features", in_features), check_count("out_features", out_features)
    bias = check_flag("bias", bias)

    def init(generator: Generator, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Params:
        uniform = uniform_within(1 / math.sqrt(in_features), generator, dtype, device)
        # Transposed: with the D weights of a unit side by side in memory, products with few columns run twice as fast.
        w = uniform(out_features, in_features).T
        return {"w": w, "b": uniform(out_features)} if bias else {"w": w}

    def forward(params: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Residuals]:
        w = params["w"]
        y = kernels.affine(x, w, params["b"]) if bias else kernels.matmul(x, w)
        return y, (x, w)

    def summands(residuals: tuple[Tensor, Tensor], dy: Tensor) -> dict[str, Outer | Rows]:
        x, _ = residuals
        if not bias:
            return {"w": Outer(x, dy)}
        return {"w": Outer(x, dy), "b": Rows(dy if dy.ndim == 2 else dy.flatten(1, -2).sum(1))}

    def inputs(residuals: tuple[Tensor, Tensor], dy: Float[Tensor, "*rows H"]) -> Float[Tensor, "*rows D"]:
        _, w = residuals
        return kernels.matmul(dy, w.T)

    def moves(params: dict[str, Tensor], x: Inexact[Tensor, "*rows D"]) -> dict[str, Any]:
        features = x.movedim(-1, 0).contiguous()
        per_row = [1] * (x.ndim - 1)

        def w(entry: Tensor, h: Tensor) -> Column:  # w[d, c] + h moves y_c by h x_d
            return Column(entry % out_features, h.reshape(-1, *per_row) * features[entry // out_features])

        def b(entry: Tensor, h: Tensor) -> Column:  # b[c] + h moves y_c by h
            return Column(entry, h.reshape(-1, *per_row).expand(-1, *x.shape[:-1]))

        return {"w": w, "b": b} if bias else {"w": w}

    def carry(params: dict[str, Tensor], x: Tensor, y: Inexact[Tensor, "*rows H"]) -> Carry:
        weights, base = params["w"].T.contiguous(), y.movedim(-1, 0).contiguous().unsqueeze(1)  # (H, D), (H, 1, *rows)
        shift = params["b"].reshape(-1, *[1] * y.ndim) if bias else 0

        def spread(column: Column) -> Tensor:  # x_c + d moves y by d w[c]; s x makes it s (y - b) + b
            start = base if column.scale is None else shift + column.scale * (base - shift)
            rows = weights[:, column.feature].reshape(out_features, -1, *[1] * (y.ndim - 1))
            return torch.addcmul(start, column.change, rows).movedim(0, -1)

        return spread

    layer = Layer(init, Forward(forward, True, moves, carry), ByParts(summands, inputs))
    return guarded(
        layer,
        f"dense({in_features}, {out_features}{'' if bias else ', bias=False'})",
        params={"w": "D H", "b": "H"} if bias else {"w": "D H"},
        x="N ... D",
        y="N ... H",
        like=lambda residuals: residuals[0],
        D=in_features,
        H=out_features,
    )
