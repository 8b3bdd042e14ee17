"""Recurrent cells, batch first. s is the logistic function, s' = s (1 - s).

LSTM    c' = s(f) c + s(i) tanh(g),  h' = s(o) tanh(c'):  dc' = u_c + u_h s(o) (1 - tanh^2 c')
GRU     n = tanh(xn + s(r) hn),  h' = (1 - s(z)) n + s(z) h
RNN     h_t = tanh(x_t + h_{t-1} w):  g_t = (u_t + g_{t+1} w^T) (1 - h_t^2),  dx = g,  dw = sum_t h_{t-1}^T g_t
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from experiments.kernels.kernel import Bug, Kernel, changed, draws


def lstm(a: Tensor, c: Tensor) -> Tensor:
    """From the preactivations a = [i, f, g, o] (N, 4 H) and the cell c (N, H): [h', c'] (N, 2 H)."""
    i, f, g, o = a.chunk(4, 1)
    new = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return torch.cat([o.sigmoid() * new.tanh(), new], 1)


def lstm_rule(
    a: Tensor,
    c: Tensor,
    u: Tensor,
    *,
    later: float = 1,
    order: str = "ifgo",
    at: str = "new",
    kept: float = 1,
    slope: float = 1,
) -> tuple[Tensor, Tensor]:
    """The rule above; the options are mistakes: u_c lost, gates in another order, tanh' at c, dc kept, no s'(o)."""
    i, f, g, o = a.chunk(4, 1)
    si, sf, so, tg = i.sigmoid(), f.sigmoid(), o.sigmoid(), g.tanh()
    new = sf * c + si * tg
    uh, uc = u.chunk(2, 1)
    dc = later * uc + uh * so * (1 - {"new": new, "old": c}[at].tanh() ** 2)
    gates = {"i": dc * tg * si * (1 - si), "f": dc * c * sf * (1 - sf), "g": dc * si * (1 - tg**2)}
    gates["o"] = uh * new.tanh() * (so * (1 - so)) ** slope
    return torch.cat([gates[gate] for gate in order], 1), dc * sf**kept


def gru(a: Tensor, b: Tensor, h: Tensor) -> Tensor:
    """From a = [r, z, n] of the input and b = [r, z, n] of the state, (N, 3 H) each, and the state h (N, H): h'."""
    (ar, az, an), (br, bz, bn) = a.chunk(3, 1), b.chunk(3, 1)
    z = (az + bz).sigmoid()
    return (1 - z) * (an + (ar + br).sigmoid() * bn).tanh() + z * h


def gru_rule(
    a: Tensor,
    b: Tensor,
    h: Tensor,
    u: Tensor,
    *,
    reset: float = 1,
    gate: float = 1,
    old: bool = False,
    swapped: bool = False,
    curved: float = 1,
) -> Any:
    """The options are mistakes: dr lost, db not gated by r, z without n, z for 1 - z, no 1 - n^2."""
    (ar, az, an), (br, bz, bn) = a.chunk(3, 1), b.chunk(3, 1)
    r, z = (ar + br).sigmoid(), (az + bz).sigmoid()
    n = (an + r * bn).tanh()
    dn = u * (z if swapped else 1 - z) * (1 - n * n) ** curved
    dz = u * (h if old else h - n) * z * (1 - z)
    dr = reset * dn * bn * r * (1 - r)
    return torch.cat([dr, dz, dn], 1), torch.cat([dr, dz, dn * r**gate], 1), u * ((1 - z) if swapped else z)


def rnn(x: Tensor, w: Tensor) -> Tensor:
    """All h_t (N, T, H)."""
    h, steps = torch.zeros_like(x[:, 0]), []
    for t in range(x.shape[1]):
        h = (x[:, t] + h @ w).tanh()
        steps.append(h)
    return torch.stack(steps, 1)


def rnn_rule(
    x: Tensor, w: Tensor, u: Tensor, *, through: Any = lambda w: w.mT, window: int = 9, at: Any = None, lag: int = 1
) -> Any:
    """The options are mistakes: what g is carried by, truncation, where the slope is taken, dw with h_t."""
    y = rnn(x, w)
    h = torch.cat([torch.zeros_like(y[:, :1]), y], 1)
    slope = 1 - (y if at is None else at(x, y)) ** 2
    g, steps = torch.zeros_like(u[:, 0]), []
    for t in reversed(range(x.shape[1])):
        carried = g @ through(w) if (t + 1) % window else torch.zeros_like(g)
        g = (u[:, t] + carried) * slope[:, t]
        steps.append(g)
    g = torch.stack(steps[::-1], 1)
    return g, torch.einsum("nti,ntj->ij", h[:, 1 - lag : h.shape[1] - lag], g)


KERNELS = [
    Kernel(
        "lstm_step",
        lstm,
        lstm_rule,
        draws((5, 12), (5, 3)),
        [
            Bug("u of c' overwritten, not added to", "overwritten term upstream", partial(lstm_rule, later=0)),
            Bug("gates i and f exchanged", "exchanged order part", partial(lstm_rule, order="figo")),
            Bug("tanh' at c, not at c'", "elsewhere replaced", partial(lstm_rule, at="old")),
            Bug("dc without the forget gate", "once factor", partial(lstm_rule, kept=0)),
            Bug("s'(o) forgotten", "slope part factor once", partial(lstm_rule, slope=0)),
            Bug("dc is not returned", "zero", changed(lstm_rule, 1, lambda g, *_: 0 * g)),
        ],
    ),
    Kernel(
        "gru_step",
        gru,
        gru_rule,
        draws((5, 9), (5, 9), (5, 3)),
        [
            Bug("nothing through the reset gate", "term zero part", partial(gru_rule, reset=0)),
            Bug("b of n not gated by r", "once factor part", partial(gru_rule, gate=0)),
            Bug("dz without the candidate", "term part", partial(gru_rule, old=True)),
            Bug("z and 1 - z exchanged", "exchanged replaced", partial(gru_rule, swapped=True)),
            Bug("1 - n^2 forgotten", "slope factor once part", partial(gru_rule, curved=0)),
        ],
    ),
    Kernel(
        "rnn",
        rnn,
        rnn_rule,
        draws((3, 5, 4), (4, 4), scale=0.6),
        [
            Bug("w for its transpose", "transposed", partial(rnn_rule, through=lambda w: w)),
            Bug("nothing carried through time", "term", partial(rnn_rule, window=1)),
            Bug("truncated after 3 steps", "term border", partial(rnn_rule, window=3)),
            Bug("tanh' at the input", "elsewhere", partial(rnn_rule, at=lambda x, y: x.tanh())),
            Bug("dw with h_t for h_{t-1}", "shift replaced", partial(rnn_rule, lag=0)),
            Bug(
                "dw of the last step only",
                "border term",
                changed(rnn_rule, 1, lambda g, x, w, u: rnn(x, w)[:, -2].mT @ rnn_rule(x, w, u)[0][:, -1]),
            ),
        ],
    ),
]
