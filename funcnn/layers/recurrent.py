"""Recurrent layers: what happens at one token, forward and back. The way along the tokens is the same for all: `scan`."""

import torch
from torch import Tensor

from ..kernels import sigmoid_pullback, tanh_pullback
from ..types import Layer
from .scan import Cell, Parts, scan

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

    return scan("rnn", in_features, hidden, 1, Cell(1, SIZES, forward, backward))


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

    return scan("lstm", in_features, hidden, 4, Cell(2, SIZES, forward, backward))


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

    return scan("gru", in_features, hidden, 3, Cell(1, SIZES | {"bn": "H"}, forward, backward))
