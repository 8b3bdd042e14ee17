"""Norms of each sample by itself: layer and rms norm.

All centre and scale a set of m numbers, and give each feature a scale w and, but for rms norm, a shift b of its own:

    mu = <x>,  r = 1 / sqrt(<(x - mu)^2> + eps),  xhat = r (x - mu),  y = xhat w + b         <a> = 1/m sum_i a_i

From the differentials dmu = <dx> and dr = -r^3 <(x - mu) dx>, for <(x - mu) dmu> = 0,

    dxhat = r (dx - dmu) + (x - mu) dr = r (dx - <dx> - xhat <xhat dx>)

a symmetric map of dx, so its transpose is the same map. With g = dL/dxhat = w dL/dy the pullback is

    dL/dx = r (g - <g> - xhat <xhat g>)      dL/dw = sum dy xhat      dL/db = sum dy

the sums over samples and positions. Rms norm does not centre: there mu = 0, and the term <g> falls away. A set of equal
numbers has variance 0: y = b there, and r = 1 / sqrt(eps). Squares leave the range of float32 from 1e19 on: r is 0 beyond,
and y = b.

Ba, Kiros & Hinton, "Layer normalization" (2016), arXiv:1607.06450; Zhang & Sennrich, "Root mean square layer normalization"
(2019), arXiv:1910.07467.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Inexact
from torch import Generator, Tensor

from ..errors import check_count, check_dtype, check_generator, check_number
from ..types import Layer, Params, Residuals
from .columns import Column, Forward, Move
from .factors import ByParts, Rows
from .guarded import guarded

LEAST = torch.finfo(torch.float32).tiny  # what is less float32 takes for 0, and a set of equal numbers has no scale then


def layer_norm(features: int, eps: float = 1e-5) -> Layer:
    """Each row of x (N, ..., D) centred and scaled over its D features: y = xhat w + b, with w (D,) and b (D,).

    Parameters `{"w": w, "b": b}`, which start at 1 and 0. The rule is that of the module, the mean over the last axis.

    Raises:
        InputError: features is no positive integer, eps no positive number; w, b or x has the wrong shape, dtype or device.
    """
    features, eps = check_count("features", features), check_number("eps", eps, LEAST)

    def forward(params: dict[str, Tensor], x: Inexact[Tensor, "N *T D"]) -> tuple[Tensor, Residuals]:
        w = params["w"]
        return F.layer_norm(x, (features,), w, params["b"], eps), (x, w)

    def summands(residuals: tuple[Tensor, ...], dy: Float[Tensor, "N *T D"]) -> dict[str, Rows]:
        xhat, _ = standardised(residuals[0], (-1,), eps)
        return {"w": Rows(over_positions((dy * xhat).to(dy.dtype))), "b": Rows(over_positions(dy))}

    def inputs(residuals: tuple[Tensor, ...], dy: Float[Tensor, "N *T D"]) -> Float[Tensor, "N *T D"]:
        x, w = residuals
        return standardised_pullback(*standardised(x, (-1,), eps), dy * w, (-1,))

    def moves(params: dict[str, Tensor], x: Inexact[Tensor, "*rows D"]) -> dict[str, Move]:
        plain = {"w": torch.ones_like(params["w"]), "b": torch.zeros_like(params["b"])}
        return {"w": scales_moved(forward(plain, x)[0]), "b": shifts_moved(x)}

    layer = Layer(scale_and_shift(features), Forward(forward, True, moves), ByParts(summands, inputs))
    return on_rows(layer, titled("layer_norm", features, eps=eps, default=1e-5), {"w": "D", "b": "D"}, features)


def rms_norm(features: int, eps: float = 1e-6) -> Layer:
    """Each row of x (N, ..., D) scaled over its D features: y = xhat w with xhat = x / sqrt(<x^2> + eps), and w (D,).

    Parameters `{"w": w}`, which starts at 1. The pullback is dL/dx = r (g - xhat <xhat g>) with g = w dL/dy.

    Raises:
        InputError: as `layer_norm`.
    """
    features, eps = check_count("features", features), check_number("eps", eps, LEAST)

    def forward(params: dict[str, Tensor], x: Inexact[Tensor, "N *T D"]) -> tuple[Tensor, Residuals]:
        w = params["w"]
        return F.rms_norm(x, (features,), w, eps), (x, w)

    def scaled(x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        r = torch.rsqrt((x * x).mean(-1, keepdim=True) + eps)
        return r * x, r

    def summands(residuals: tuple[Tensor, Tensor], dy: Float[Tensor, "N *T D"]) -> dict[str, Rows]:
        xhat, _ = scaled(residuals[0])
        return {"w": Rows(over_positions((dy * xhat).to(dy.dtype)))}

    def inputs(residuals: tuple[Tensor, Tensor], dy: Float[Tensor, "N *T D"]) -> Float[Tensor, "N *T D"]:
        x, w = residuals
        (xhat, r), g = scaled(x), dy * w
        return (r * (g - xhat * (xhat * g).mean(-1, keepdim=True))).to(dy.dtype)

    def moves(params: dict[str, Tensor], x: Inexact[Tensor, "*rows D"]) -> dict[str, Move]:
        return {"w": scales_moved(forward({"w": torch.ones_like(params["w"])}, x)[0])}

    layer = Layer(scale_and_shift(features, shift=False), Forward(forward, True, moves), ByParts(summands, inputs))
    return on_rows(layer, titled("rms_norm", features, eps=eps, default=1e-6), {"w": "D"}, features)


def standardised(x: Tensor, axes: tuple[int, ...], eps: float) -> tuple[Tensor, Tensor]:
    """(xhat, r), the means over some axes; in float32 at least, as torch's kernels compute."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    centred = x - x.mean(axes, keepdim=True)
    r = torch.rsqrt((centred * centred).mean(axes, keepdim=True) + eps)
    return r * centred, r


def standardised_pullback(xhat: Tensor, r: Tensor, g: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The gradient r (g - <g> - xhat <xhat g>), the means over some axes."""
    return (r * (g - g.mean(axes, keepdim=True) - xhat * (xhat * g).mean(axes, keepdim=True))).to(g.dtype)


def scale_and_shift(features: int, shift: bool = True) -> Callable[..., Params]:
    """The init of w = 1 and, with a shift, b = 0."""

    def init(generator: Generator, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Params:
        check_generator(generator)
        check_dtype(dtype)
        w, b = (torch.full((features,), number, dtype=dtype, device=device) for number in (1.0, 0.0))
        return {"w": w, "b": b} if shift else {"w": w}

    return init


def over_positions(rows: Float[Tensor, "N *T D"]) -> Float[Tensor, "N D"]:
    """The sum over the positions of each sample."""
    return rows if rows.ndim == 2 else rows.flatten(1, -2).sum(1)


def titled(name: str, *sizes: int, eps: float, default: float) -> str:
    """What a norm prints as."""
    return f"{name}({', '.join(map(str, sizes))}{'' if eps == default else f', eps={eps:g}'})"


def on_rows(layer: Layer, title: str, params: dict[str, str], features: int) -> Layer:
    """The rules of a norm of the rows of x (N, ..., D), behind checks of their operands."""
    return guarded(layer, title, params=params, x="N ... D", y="N ... D", like=lambda residuals: residuals[0], D=features)


def scales_moved(xhat: Inexact[Tensor, "*rows D"]) -> Move:
    """Where w[c] + h moves y_c by h xhat_c."""
    features = xhat.movedim(-1, 0).contiguous()
    return lambda entry, h: Column(entry, h.reshape(-1, *[1] * (xhat.ndim - 1)) * features[entry])


def shifts_moved(x: Inexact[Tensor, "*rows D"]) -> Move:
    """Where b[c] + h moves y_c by h."""
    return lambda entry, h: Column(entry, h.reshape(-1, *[1] * (x.ndim - 1)).expand(-1, *x.shape[:-1]))
