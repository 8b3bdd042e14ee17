"""Norms of each sample by itself: layer, rms and group norm. That over the batch is in `batch_norm`.

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
(2019), arXiv:1910.07467; Wu & He, "Group normalization" (2018), arXiv:1803.08494.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Inexact
from torch import Generator, Tensor

from .. import fused
from ..errors import InputError, check_count, check_device, check_dtype, check_generator, check_number, describe
from ..types import Layer, Params, Residuals
from .columns import Column, Forward, Move
from .factors import ByParts, Rows, totals
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
        y, mean, r = torch.native_layer_norm(x, (features,), params["w"], params["b"], eps)
        return y, (x, params["w"], mean, r)

    def summands(residuals: tuple[Tensor, ...], dy: Float[Tensor, "N *T D"]) -> dict[str, Rows]:
        xhat, _ = standardised(residuals[0], (-1,), eps)
        return {"w": Rows(over_positions((dy * xhat).to(dy.dtype))), "b": Rows(over_positions(dy))}

    def inputs(residuals: tuple[Tensor, ...], dy: Float[Tensor, "N *T D"]) -> Float[Tensor, "N *T D"]:
        x, w, *_ = residuals
        return standardised_pullback(*standardised(x, (-1,), eps), dy * w, (-1,))

    def whole(residuals: tuple[Tensor, ...], dy: Tensor, dx: bool = True) -> tuple[Params, Any]:
        if fused.watched(dy, *residuals):
            return totals(summands(residuals, dy)), inputs(residuals, dy) if dx else ()
        x, w, mean, r = residuals
        of_x, of_w, of_b = fused.layer_norm_pullback(x, w, mean, r, dy, dx)
        return {"w": of_w, "b": of_b}, of_x if dx else ()

    def moves(params: dict[str, Tensor], x: Inexact[Tensor, "*rows D"]) -> dict[str, Move]:
        plain = {"w": torch.ones_like(params["w"]), "b": torch.zeros_like(params["b"])}
        return {"w": scales_moved(forward(plain, x)[0]), "b": shifts_moved(x)}

    layer = Layer(scale_and_shift(features), Forward(forward, True, moves), ByParts(summands, inputs, whole))
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
        xhat, r = scaled(x)
        g = dy.to(r.dtype) * w
        return (r * (g - xhat * (xhat * g).mean(-1, keepdim=True))).to(dy.dtype)

    def moves(params: dict[str, Tensor], x: Inexact[Tensor, "*rows D"]) -> dict[str, Move]:
        return {"w": scales_moved(forward({"w": torch.ones_like(params["w"])}, x)[0])}

    layer = Layer(scale_and_shift(features, shift=False), Forward(forward, True, moves), ByParts(summands, inputs))
    return on_rows(layer, titled("rms_norm", features, eps=eps, default=1e-6), {"w": "D"}, features)


def group_norm(groups: int, channels: int, eps: float = 1e-5) -> Layer:
    """The channels of each sample of x (N, C, ...) in groups, each centred and scaled over its channels and all positions.

    Then y = xhat w + b with a w and a b for each channel, (C,) each. Parameters `{"w": w, "b": b}`, which start at 1 and 0.
    The rule is that of the module, the mean over a group, once x is looked at as (N, groups, C / groups * positions).

    Raises:
        InputError: groups or channels is no positive integer, or groups do not divide the channels; eps is no positive
            number; w, b or x has the wrong shape, dtype or device.
    """
    groups, channels = check_count("groups", groups), check_count("channels", channels)
    eps = check_number("eps", eps, LEAST)
    if channels % groups:
        raise InputError("groups", groups, f"a divisor of the {channels} channels")

    def in_groups(x: Inexact[Tensor, "N C *T"]) -> Inexact[Tensor, "N G m"]:
        return x.reshape(len(x), groups, -1)

    def forward(params: dict[str, Tensor], x: Inexact[Tensor, "N C *T"]) -> tuple[Tensor, Residuals]:
        y, mean, r = fused.group_norm(x, params["w"], params["b"], groups, eps)
        return y, (x, params["w"], mean, r)

    def summands(residuals: tuple[Tensor, ...], dy: Float[Tensor, "N C *T"]) -> dict[str, Rows]:
        xhat, _ = standardised(in_groups(residuals[0]), (-1,), eps)
        w, b = (dy * xhat.reshape(dy.shape)).to(dy.dtype), dy
        return {"w": Rows(w.reshape(*w.shape[:2], -1).sum(2)), "b": Rows(b.reshape(*b.shape[:2], -1).sum(2))}

    def inputs(residuals: tuple[Tensor, ...], dy: Float[Tensor, "N C *T"]) -> Float[Tensor, "N C *T"]:
        x, w, *_ = residuals
        g = in_groups(dy * per_channel(w, x))
        return standardised_pullback(*standardised(in_groups(x), (-1,), eps), g, (-1,)).reshape(x.shape)

    def whole(residuals: tuple[Tensor, ...], dy: Tensor, dx: bool = True) -> tuple[Params, Any]:
        if fused.watched(dy, *residuals):
            return totals(summands(residuals, dy)), inputs(residuals, dy) if dx else ()
        x, w, mean, r = residuals
        of_x, of_w, of_b = fused.group_norm_pullback(x, w, mean, r, dy, dx)
        return {"w": of_w, "b": of_b}, of_x if dx else ()

    layer = Layer(scale_and_shift(channels), Forward(forward, True), ByParts(summands, inputs, whole))
    return on_channels(layer, titled("group_norm", groups, channels, eps=eps, default=1e-5), channels)


def standardised(x: Tensor, axes: tuple[int, ...], eps: float) -> tuple[Tensor, Tensor]:
    """(xhat, r), the means over some axes; in float32 at least, as torch's kernels compute.

    Theirs have no derivatives of the mean and of r, so that a derivative of the pullback would be wrong in silence.
    """
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
        check_device(device)
        w, b = (torch.full((features,), number, dtype=dtype, device=device) for number in (1.0, 0.0))
        return {"w": w, "b": b} if shift else {"w": w}

    return init


def over_positions(rows: Float[Tensor, "N *T D"]) -> Float[Tensor, "N D"]:
    """The sum over the positions of each sample."""
    return rows if rows.ndim == 2 else rows.flatten(1, -2).sum(1)


def per_channel(w: Inexact[Tensor, " C"], x: Inexact[Tensor, "N C *T"]) -> Tensor:
    """The numbers w, one a channel, so that they meet the channels of x."""
    return w.reshape(-1, *[1] * (x.ndim - 2))


def titled(name: str, *sizes: int, eps: float, default: float) -> str:
    """What a norm prints as."""
    return f"{name}({', '.join(map(str, sizes))}{'' if eps == default else f', eps={eps:g}'})"


def on_rows(layer: Layer, title: str, params: dict[str, str], features: int) -> Layer:
    """The rules of a norm of the rows of x (N, ..., D), behind checks of their operands."""
    return guarded(layer, title, params=params, x="N ... D", y="N ... D", like=lambda residuals: residuals[0], D=features)


def on_channels(layer: Layer, title: str, channels: int, fits: Callable[[Tensor], None] | None = None) -> Layer:
    """The rules of a norm of the channels of x (N, C, ...), behind checks of their operands, and of what else `fits`."""

    def check(x: Tensor) -> None:
        if x.ndim < 2 or x.shape[1] != channels:
            raise InputError(f"inputs of {title}", describe(x), f"shape (N, {channels}, ...)")
        if fits is not None:
            fits(x)

    params: Any = {"w": "C", "b": "C"}
    return guarded(layer, title, params=params, like=lambda residuals: residuals[0], fits=check, C=channels)


def scales_moved(xhat: Inexact[Tensor, "*rows D"]) -> Move:
    """Where w[c] + h moves y_c by h xhat_c."""
    features = xhat.movedim(-1, 0).contiguous()
    return lambda entry, h: Column(entry, h.reshape(-1, *[1] * (xhat.ndim - 1)) * features[entry])


def shifts_moved(x: Inexact[Tensor, "*rows D"]) -> Move:
    """Where b[c] + h moves y_c by h."""
    return lambda entry, h: Column(entry, h.reshape(-1, *[1] * (x.ndim - 1)).expand(-1, *x.shape[:-1]))
