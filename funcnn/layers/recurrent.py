"""Recurrent layers: a cell, applied to one token after the other, and back-propagation through time.

A cell makes the state s_t after a token of the state before it and of the token x_t (N, D); the first part of the state,
h_t (N, H), is the output. With gates in G blocks of H columns

    a_t = x_t W_x + b                   for all tokens in one product, (N, T, G H)
    s_t = cell(a_t, s_{t-1})            token by token from s_0 = 0; the cell adds m_t = h_{t-1} W_h to a_t

Backwards, h_t reaches the loss on two ways, as an output and through the next token:

    ds_t = (dy_t, 0) + what the next token hands back       from the last token to the first
    da_t, dm_t, and what this one hands back to s_{t-1}     from ds_t, by the cell

    dL/dW_x = sum_t x_t^T da_t    dL/db = sum_t 1^T da_t    dL/dW_h = sum_t h_{t-1}^T dm_t    dL/dx_t = da_t W_x^T

the last line again in one product each. Every token on the way multiplies by W_h^T and by slopes of the cell: the influence
of a token on a later one shrinks or grows geometrically with their distance (Bengio, Simard & Frasconi, "Learning long-term
dependencies with gradient descent is difficult", 1994). The rule is Werbos's: "Backpropagation through time: what it does
and how to do it", 1990.

Inside, the axis of tokens is the first, so that the numbers of a token lie together in memory.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Inexact
from torch import Generator, Tensor

from .. import kernels
from ..errors import InputError, check_count, describe
from ..kernels import sigmoid_pullback, tanh_pullback
from ..types import Layer, Params, Residuals
from .columns import Forward
from .dense import uniform_within
from .factors import ByParts, Outer, Rows
from .guarded import guarded

Parts: TypeAlias = tuple[Tensor, ...]


class Cell(NamedTuple):
    """What happens at one token.

    states     how many tensors (N, H) a state has, h the first
    sizes      the axes of the parameters by name, G being all columns of the gates
    forward    (params, a, before) -> (after, what else the way back needs)
    backward   (params, before, after, kept, dafter) -> ((da, dm), dbefore), of da alone (da,) where both are the same
    """

    states: int
    sizes: dict[str, str]
    forward: Callable[[Params, Tensor, Parts], tuple[Parts, Parts]]
    backward: Callable[[Params, Parts, Parts, Parts, Parts], tuple[Parts, Parts]]


SIZES = {"wx": "D G", "wh": "H G", "b": "G"}


def rnn(in_features: int, hidden: int) -> Layer:
    """The simple recurrent layer (Elman, 1990): h_t = tanh(x_t W_x + b + h_{t-1} W_h), from h_0 = 0.

    x (N, T, D), y (N, T, H), all of the h_t. With dh_t the gradient of h_t on both its ways,

        da_t = dm_t = dh_t (1 - h_t^2)        dh_{t-1} = dy_{t-1} + dm_t W_h^T

    Parameters `{"wx": (D, H), "wh": (H, H), "b": (H,)}`, uniform in [-1/sqrt(H), 1/sqrt(H)] at the start, as torch.nn.RNN's,
    which has two biases where this has their sum.

    Truncation is the caller's. Every call starts from h_0 = 0 and goes back to its first token, so whoever trains on a long
    text cuts it into chunks of T tokens, and across their borders no gradient flows:

        chunks = zip(text.split(T, dim=1), following.split(T, dim=1))      # two (N, length, D) and (N, length)
        steps = train(step_fn, optimizer, params, chunks)

    Raises:
        InputError: a size is no positive integer; a parameter or x has the wrong shape, dtype or device; no tokens.
    """

    def forward(params: dict[str, Tensor], a: Tensor, before: Parts) -> tuple[Parts, Parts]:
        (h,) = before
        return (torch.addmm(a, h, params["wh"]).tanh(),), ()

    def backward(params: dict[str, Tensor], before: Parts, after: Parts, kept: Parts, dafter: Parts) -> tuple[Parts, Parts]:
        (h,), (dh,) = after, dafter
        da = tanh_pullback(h, dh)
        return (da,), (da @ params["wh"].T,)

    return _recurrent("rnn", in_features, hidden, 1, Cell(1, SIZES, forward, backward))


def lstm(in_features: int, hidden: int) -> Layer:
    """Long short-term memory (Hochreiter & Schmidhuber, 1997; the forget gate is of Gers, Schmidhuber & Cummins, 2000).

    With a = x_t W_x + b + h_{t-1} W_h in four blocks of H columns, s the logistic function and h_0 = c_0 = 0,

        i = s(a_i)    f = s(a_f)    g = tanh(a_g)    o = s(a_o)
        c_t = f c_{t-1} + i g                        h_t = o tanh(c_t)

    Backwards, c_t reaches the loss through h_t and through c_{t+1}:

        dc_t <- dc_t + dh_t o (1 - tanh(c_t)^2)
        di = dc_t g    df = dc_t c_{t-1}    dg = dc_t i    do = dh_t tanh(c_t)
        da_i = di i (1 - i)    da_f = df f (1 - f)    da_g = dg (1 - g^2)    da_o = do o (1 - o)
        dc_{t-1} = dc_t f      dh_{t-1} = dy_{t-1} + da W_h^T

    Where f is near 1, dc goes from token to token undiminished. Shapes, start and truncation as of `rnn`; parameters
    `{"wx": (D, 4 H), "wh": (H, 4 H), "b": (4 H,)}`, the gates in the order i, f, g, o, as torch.nn.LSTM's.

    Raises:
        InputError: as `rnn`.
    """

    def forward(params: dict[str, Tensor], a: Tensor, before: Parts) -> tuple[Parts, Parts]:
        h, c = before
        a_if, a_g, a_o = torch.addmm(a, h, params["wh"]).split([2 * hidden, hidden, hidden], 1)
        i_f, g, o = a_if.sigmoid(), a_g.tanh(), a_o.sigmoid()
        i, f = i_f.chunk(2, 1)
        c = torch.addcmul(f * c, i, g)
        tanh_c = c.tanh()
        return (o * tanh_c, c), (i_f, g, o, tanh_c)

    def backward(params: dict[str, Tensor], before: Parts, after: Parts, kept: Parts, dafter: Parts) -> tuple[Parts, Parts]:
        (_, c), (i_f, g, o, tanh_c), (dh, dc) = before, kept, dafter
        i, f = i_f.chunk(2, 1)
        dc = dc + tanh_pullback(tanh_c, dh * o)
        di, df, dg, do = dc * g, dc * c, dc * i, dh * tanh_c
        da = torch.cat([sigmoid_pullback(i, di), sigmoid_pullback(f, df), tanh_pullback(g, dg), sigmoid_pullback(o, do)], 1)
        return (da,), (da @ params["wh"].T, dc * f)

    return _recurrent("lstm", in_features, hidden, 4, Cell(2, SIZES, forward, backward))


def gru(in_features: int, hidden: int) -> Layer:
    """The gated recurrent unit (Cho et al., 2014), its reset gate after the product, as torch.nn.GRU and cuDNN have it.

    With a = x_t W_x + b and m = h_{t-1} W_h in three blocks of H columns, and s the logistic function,

        r = s(a_r + m_r)    z = s(a_z + m_z)    n = tanh(a_n + r (m_n + b_n))
        h_t = (1 - z) n + z h_{t-1}                                              h_0 = 0

    Backwards:

        dn = dh_t (1 - z)       dz = dh_t (h_{t-1} - n)
        da_n = dn (1 - n^2)     dm_n = da_n r             dr = da_n (m_n + b_n)     db_n = dm_n
        da_r = dm_r = dr r (1 - r)                        da_z = dm_z = dz z (1 - z)
        dh_{t-1} = dy_{t-1} + dh_t z + dm W_h^T

    Shapes, start and truncation as of `rnn`; parameters `{"wx": (D, 3 H), "wh": (H, 3 H), "b": (3 H,), "bn": (H,)}`, the
    gates in the order r, z, n. Torch has two biases of r and z as well, where this has their sum.

    Raises:
        InputError: as `rnn`.
    """

    def forward(params: dict[str, Tensor], a: Tensor, before: Parts) -> tuple[Parts, Parts]:
        (h,) = before
        (a_rz, a_n), (m_rz, m_n) = (x.split([2 * hidden, hidden], 1) for x in (a, h @ params["wh"]))
        r_z = (a_rz + m_rz).sigmoid()
        r, z = r_z.chunk(2, 1)
        m_n = m_n + params["bn"]
        n = torch.addcmul(a_n, r, m_n).tanh()
        return (n.lerp(h, z),), (r_z, n, m_n)

    def backward(params: dict[str, Tensor], before: Parts, after: Parts, kept: Parts, dafter: Parts) -> tuple[Parts, Parts]:
        (h,), (r_z, n, m_n), (dh,) = before, kept, dafter
        r, z = r_z.chunk(2, 1)
        da_n = tanh_pullback(n, dh * (1 - z))
        da_r, da_z = sigmoid_pullback(r, da_n * m_n), sigmoid_pullback(z, dh * (h - n))
        da, dm = torch.cat([da_r, da_z, da_n], 1), torch.cat([da_r, da_z, da_n * r], 1)
        return (da, dm), (torch.addmm(dh * z, dm, params["wh"].T),)

    return _recurrent("gru", in_features, hidden, 3, Cell(1, SIZES | {"bn": "H"}, forward, backward))


def _recurrent(name: str, in_features: int, hidden: int, gates: int, cell: Cell) -> Layer:
    """The layer that applies a cell to one token after the other."""
    in_features, hidden = check_count("in_features", in_features), check_count("hidden", hidden)
    sizes, title = {"D": in_features, "H": hidden, "G": gates * hidden}, f"{name}({in_features}, {hidden})"

    def init(generator: Generator, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Params:
        uniform = uniform_within(1 / math.sqrt(hidden), generator, dtype, device)

        def drawn(axes: str) -> Tensor:  # transposed, as dense: the weights of a unit lie side by side in memory
            leaf = uniform(*(sizes[axis] for axis in reversed(axes.split())))
            return leaf.T if leaf.ndim == 2 else leaf

        return {key: drawn(axes) for key, axes in cell.sizes.items()}

    def forward(params: dict[str, Tensor], x: Tensor) -> tuple[Inexact[Tensor, "N T H"], Residuals]:
        fits(x)
        x = x.transpose(0, 1).contiguous()
        a = kernels.affine(x, params["wx"], params["b"])
        states, kept = [(torch.zeros_like(a[0, :, :hidden]),) * cell.states], []
        for a_t in a.unbind():
            after, rest = cell.forward(params, a_t, states[-1])
            states.append(after)
            kept.append(rest)
        h, *others = _stacked(states)
        return h[1:].transpose(0, 1), (x, params, (h, *others), _stacked(kept))

    def through_time(residuals: Residuals, dy: Tensor) -> tuple[Tensor, Tensor]:
        """(da, dm) of all tokens, (T, N, G H)."""
        x, params, states, kept = residuals
        state, rest = _of_token(states), _of_token(kept)
        gates, dstate = [], (torch.zeros_like(dy[:, 0]),) * cell.states
        for t in reversed(range(len(x))):
            dafter = (dy[:, t] + dstate[0], *dstate[1:])
            da_dm, dstate = cell.backward(params, state(t), state(t + 1), rest(t), dafter)
            gates.append(da_dm)
        stacked = _stacked(gates[::-1])
        return stacked[0], stacked[-1]

    def summands(residuals: Residuals, dy: Tensor) -> dict[str, Outer | Rows]:
        x, _, (h, *_), _ = residuals
        x, h, da, dm = (part.transpose(0, 1) for part in (x, h[:-1], *through_time(residuals, dy)))
        own: dict[str, Outer | Rows] = {"wx": Outer(x, da), "wh": Outer(h, dm), "b": Rows(da.sum(1))}
        return own | {"bn": Rows(dm[..., -hidden:].sum(1))} if "bn" in cell.sizes else own

    def inputs(residuals: Residuals, dy: Tensor) -> Float[Tensor, "N T D"]:
        da, _ = through_time(residuals, dy)
        return kernels.matmul(da, residuals[1]["wx"].T).transpose(0, 1)

    def fits(x: Tensor) -> None:
        if x.ndim != 3 or not x.shape[1]:
            raise InputError(f"inputs of {title}", describe(x), f"shape (N, T, {in_features}) with at least one token")

    layer = Layer(init, Forward(forward, True), ByParts(summands, inputs))
    return guarded(
        layer,
        title,
        params=cell.sizes,
        x="N T D",
        y="N T H",
        like=lambda residuals: residuals[0].transpose(0, 1),
        **sizes,
    )


def _stacked(tokens: list[Parts]) -> Parts:
    """One tensor (T, N, ...) for each part that the tokens have."""
    return tuple(torch.stack(parts) for parts in zip(*tokens, strict=True))


def _of_token(stacked: Parts) -> Callable[[int], Parts]:
    """The parts of token t."""
    parts = [part.unbind() for part in stacked]
    return lambda t: tuple(part[t] for part in parts)
