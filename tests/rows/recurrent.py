import torch
from helpers import normal
from row import LayerRow

import funcnn as fn

N = 5
X = normal(N, 4, 3)


def logistic(x):
    return 1 / (1 + (-x).exp())


def of_tokens(cell, states):
    """The outputs of a cell, (params, a, *state) -> state, from a state of zeros."""

    def formula(params, x):
        zeros = x.new_zeros(len(x), len(params["wh"]))
        outputs, state = [], [zeros] * states
        for t in range(x.shape[1]):
            state = cell(params, x[:, t] @ params["wx"] + params["b"], *state)
            outputs.append(state[0])
        return torch.stack(outputs, 1)

    return formula


def elman(params, a, h):
    return [(a + h @ params["wh"]).tanh()]


def lstm(params, a, h, c):
    i, f, g, o = (a + h @ params["wh"]).chunk(4, -1)
    c = logistic(f) * c + logistic(i) * g.tanh()
    return [logistic(o) * c.tanh(), c]


def gru(params, a, h):
    (ar, az, an), (mr, mz, mn) = a.chunk(3, -1), (h @ params["wh"]).chunk(3, -1)
    r, z = logistic(ar + mr), logistic(az + mz)
    return [(1 - z) * (an + r * (mn + params["bn"])).tanh() + z * h]


ROWS = {
    "rnn": LayerRow(fn.rnn(3, 2), X, of_tokens(elman, 1)),
    "rnn of one token": LayerRow(fn.rnn(3, 2), X[:, :1], of_tokens(elman, 1)),
    "lstm": LayerRow(fn.lstm(3, 2), X, of_tokens(lstm, 2)),
    "lstm of width 1": LayerRow(fn.lstm(1, 1), X[..., :1], of_tokens(lstm, 2)),
    "gru": LayerRow(fn.gru(3, 2), X, of_tokens(gru, 1)),
    "gru of one token": LayerRow(fn.gru(3, 1), X[:, :1], of_tokens(gru, 1)),
}
