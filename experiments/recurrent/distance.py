"""What a loss tells of the states before it: |dL_T/dh_t| against the distance T - t, of recurrent layers.

The gradient goes back by one token by W_h^T and the slopes of the cell. Where those are 1, an rnn whose W_h is rho times an
orthogonal matrix multiplies its length by rho each time: it vanishes for rho < 1 and may explode for rho > 1, by less as
tanh saturates. An lstm has another way, through its cell, where each token multiplies by the forget gate.
Bengio, Simard & Frasconi, "Learning long-term dependencies with gradient descent is difficult" (1994).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

import funcnn as fn
from experiments.core.curves import style
from funcnn.plots import figure

KINDS: dict[str, Callable[[int, int], fn.Layer]] = {"rnn": fn.rnn, "lstm": fn.lstm}


class Reader(NamedTuple):
    """A recurrent layer between an embedding and a dense layer: a kind of it, and the parameters of the three."""

    kind: str
    embedding: Any
    own: Any
    dense: Any


def simple(radius: float, size: int, hidden: int, generator: Generator, tensors: dict[str, Any]) -> Reader:
    """An rnn with W_h a random orthogonal matrix times the radius, on letters that move its units by about 0.1."""
    w, table = (torch.randn(rows, hidden, generator=generator, dtype=torch.float64) for rows in (hidden, size))
    orthogonal = torch.linalg.qr(w)[0]
    own = {"wx": torch.eye(hidden), "wh": radius * orthogonal, "b": torch.zeros(hidden)}
    own = {name: leaf.to(**tensors) for name, leaf in own.items()}
    return Reader("rnn", {"w": (0.1 * table).to(**tensors)}, own, fn.dense(hidden, size).init(generator, **tensors))


def with_forget_bias(reader: Reader, bias: float) -> Reader:
    """The same lstm with another bias of the forget gate, the second block of four."""
    hidden = len(reader.own["wh"])
    b = reader.own["b"].clone()
    b[hidden : 2 * hidden] = bias
    return reader._replace(own=reader.own | {"b": b})


def last_slope(h: Tensor, dense: Any, targets: Tensor) -> Tensor:
    """The gradient dL/dh (N, H) of each sample's cross entropy, of logits by a dense layer."""
    loss, layer = fn.softmax_cross_entropy(), fn.dense(*dense["w"].shape)
    logits, kept = layer.forward(dense, h)
    return layer.backward(kept, len(h) * loss.backward(loss.forward(logits, targets)[1]))[1]


def through_time(reader: Reader, x: Tensor, y: Tensor) -> Tensor:
    """dL_T/dh_t (N, T, H) by the hand-derived rules, of the loss of the last of the letters y that follow x, (N, T) each.

    The layer is handed a_t = x_t W_x in place of x_t, and 1 in place of W_x: what its pullback calls dx_t is then da_t,
    and dL/dh_t = da_(t+1) W_h^T.
    """
    wx, wh = reader.own["wx"], reader.own["wh"]
    layer = KINDS[reader.kind](wx.shape[1], len(wh))
    a = reader.embedding["w"][x] @ wx
    h, kept = layer.forward(reader.own | {"wx": torch.eye(wx.shape[1]).to(wx)}, a)
    last = last_slope(h[:, -1], reader.dense, y[:, -1])
    dh = torch.zeros_like(h)
    dh[:, -1] = last
    da = layer.backward(kept, dh)[1]
    return torch.cat([da[:, 1:] @ wh.T, last[:, None]], 1)


def through_time_by_autograd(reader: Reader, x: Tensor, y: Tensor) -> Tensor:
    """The same by classic autograd, which keeps the gradient of every state of a loop over the letters."""
    wh, a = reader.own["wh"], reader.embedding["w"][x] @ reader.own["wx"] + reader.own["b"]
    h = c = a.new_zeros(len(x), len(wh), requires_grad=True)
    states = []
    for a_t in a.unbind(1):
        m = a_t + h @ wh
        if reader.kind == "rnn":
            h = m.tanh()
        else:
            i, f, g, o = m.chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        h.retain_grad()
        states.append(h)
    logits = h @ reader.dense["w"] + reader.dense["b"]
    torch.nn.functional.cross_entropy(logits, y[:, -1], reduction="sum").backward()
    return torch.stack([state.grad for state in states], 1)


def against_distance(gradients: Tensor) -> list[float]:
    """The mean length over the samples, at every distance from the last token, as a share of that at distance 0."""
    lengths = gradients.norm(dim=2).mean(0).flip(0)
    return (lengths / lengths[0]).tolist()


def per_token(shares: list[float]) -> float:
    """The factor by which a token multiplies the length, in the mean over all distances."""
    return shares[-1] ** (1 / (len(shares) - 1))


def draw_distances(curves: dict[str, list[float]]) -> tuple[Any, str]:
    """Each reader's curve, on a logarithmic axis."""
    drawing, (axis,) = figure(width=8.0, height=4.4)
    for index, (name, shares) in enumerate(curves.items()):
        axis.semilogy(shares, **style(index), label=name)
    axis.set(xlabel="distance T - t, in letters", ylabel=r"$|dL_T/dh_t|$ over $|dL_T/dh_T|$")
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return (
        drawing,
        "How much the loss of a letter tells the state after an earlier one: the length of the gradient, over that at "
        "distance 0. The largest lead to the first letters of a passage, where states are small and slopes near 1.",
    )
