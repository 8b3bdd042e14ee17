"""What LeCun's network of 1989 has beyond a library's layers, written as one writes layers of one's own.

    surrounded   x in a frame of background, as wide as half of a kernel
    units        a bias for every unit, where a convolution has one for every map
    connected    a convolution each of whose maps sees some of the maps below it, by a table

Each is its equation, its pullback and what it knows of itself: `fn.laws` holds the claims against their definitions and
`fn.check_vjp` the pullback against the forward rule, in the tests as anywhere else.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad

import funcnn as fn


def surrounded(width: int, value: float) -> fn.Layer:
    """Images x (N, C, H, W) in a frame of a constant, y (N, C, H + 2 z, W + 2 z), from which nothing comes back.

    dL/dx = dL/dy[:, :, z : -z, z : -z]
    """

    def framed(x: Tensor, value: float) -> Tensor:
        return pad(x, [width] * 4, value=value)

    def inputs(residuals: Any, dy: Tensor) -> Tensor:
        return dy[..., width:-width, width:-width]

    def carry(params: Any, x: Tensor, y: Tensor) -> Any:
        def spread(column: fn.Column) -> Any:  # a channel that moves by d moves by d within a frame that stays
            if column.scale is not None:
                return framed(column.copies(x), value)
            return column._replace(change=framed(column.change, 0))

        return spread

    def none(generator: torch.Generator, *, dtype: Any = None, device: Any = None) -> Any:
        return ()

    title = f"surrounded({width}, {value:g})"
    forward = fn.Forward(lambda params, x: (framed(x, value), ()), True, carry=carry, axes=(1,), title=title)
    return fn.Layer(none, forward, fn.ByParts(lambda residuals, dy: (), inputs, title=title))


def units(*size: int) -> fn.Layer:
    """The shift y = x + b of maps x (N, C, H, W), with a bias for every unit, b (C, H, W), which starts at 0.

    dL/db = sum_n dL/dy_n          dL/dx = dL/dy
    """

    def init(generator: torch.Generator, *, dtype: Any = None, device: Any = None) -> Any:
        return {"b": torch.zeros(size, dtype=dtype, device=device)}

    def forward(params: Any, x: Tensor) -> Any:
        return x + params["b"], ()

    def summands(residuals: Any, dy: Tensor) -> Any:
        return {"b": fn.Rows(dy)}

    def moves(params: Any, x: Tensor) -> Any:
        places = torch.arange(math.prod(size[1:]), device=x.device)

        def b(entry: Tensor, h: Tensor) -> fn.Column:  # b[c, i, j] + h moves channel c by h at (i, j)
            channel, place = entry // len(places), entry % len(places)
            change = torch.where(places == place[:, None], h[:, None], 0).reshape(-1, 1, *size[1:])
            return fn.Column(channel, change.expand(-1, len(x), *size[1:]), axis=1)

        return {"b": b}

    def carry(params: Any, x: Tensor, y: Tensor) -> Any:
        return lambda column: column if column.scale is None else column.copies(x) + params["b"]

    title = f"units({', '.join(map(str, size))})"
    forward = fn.Forward(forward, True, moves, carry, axes=(1,), title=title)
    return fn.Layer(init, forward, fn.ByParts(summands, lambda residuals, dy: dy, title=title))


def connected(convolution: fn.Layer, table: Tensor) -> fn.Layer:
    """A convolution whose map o sees the map c below it where table[o, c], (O, C) of bool with M maps in every row.

    It is the given one, without bias, with kernels w' (O, C, *K) made of the w (O, M, *K) that there are. The m-th map that
    o sees is the c with P[o, m, c] = 1, and all else in P is 0. A linear map, so that its pullback is its transpose:

        w'[o, c] = sum_m P[o, m, c] w[o, m]          dL/dw[o, m] = sum_c P[o, m, c] dL/dw'[o, c]

    The rest is the convolution's own. Weights start as in one of M maps.
    """
    channels, chosen = table.shape[1], [row.nonzero().flatten().tolist() for row in table]
    seen = len(chosen[0])

    def picks(like: Tensor) -> Tensor:  # P, made anew: what a compiled step takes in from outside must be an argument
        return one_hot(torch.tensor(chosen, device=like.device), channels).to(like)

    def whole(params: Any) -> Any:
        return {"w": torch.einsum("omc,om...->oc...", picks(params["w"]), params["w"])}

    def init(generator: torch.Generator, *, dtype: Any = None, device: Any = None) -> Any:
        w = convolution.init(generator, dtype=dtype, device=device)["w"]  # uniform within 1 / sqrt(C K)
        return {"w": math.sqrt(channels / seen) * w[:, :seen]}

    def forward(params: Any, x: Tensor) -> Any:
        return convolution.forward(whole(params), x)

    def summands(residuals: Any, dy: Tensor) -> Any:
        each = convolution.backward.summands(residuals, dy)["w"].each()  # (N, O, C, *K)
        return {"w": fn.Rows(torch.einsum("omc,noc...->nom...", picks(each), each))}

    def moves(params: Any, x: Tensor) -> Any:
        size, known = params["w"][0, 0].numel(), convolution.forward.moves(whole(params), x)["w"]

        def w(entry: Tensor, h: Tensor) -> fn.Column:  # w[o, m, k] is entry k of w'[o, c], with c the m-th that o sees
            kernel, place = entry // size, entry % size
            below = kernel // seen * channels + torch.tensor(chosen, device=entry.device).flatten()[kernel]
            return known(below * size + place, h)

        return {"w": w}

    def carry(params: Any, x: Tensor, y: Tensor) -> Any:
        return convolution.forward.carry(whole(params), x, y)

    title = f"connected({convolution!r}, {seen} of {channels})"
    forward = fn.Forward(forward, True, moves, carry, axes=(1,), title=title)
    return fn.Layer(init, forward, fn.ByParts(summands, convolution.backward.inputs, title=title))
