import torch
from helpers import labels, normal
from row import LayerRow, affine, series

import funcnn as fn

N = 5
TOKENS = torch.tensor([[0, 3, 0, 6], [1, 1, 1, 1], [2, 5, 4, 0], [6, 6, 0, 2], [3, 4, 5, 6]])
X = normal(N, 3, 4)


def chosen(params, x):
    return torch.nn.functional.one_hot(x, 7).to(params["w"].dtype) @ params["w"]


def placed(params, x):
    return x + params["w"][None, : x.shape[1]]


ROWS = {
    "embedding": LayerRow(fn.embedding(7, 3), labels(N, 7), chosen),
    "embedding of tokens": LayerRow(fn.embedding(7, 3), TOKENS, chosen),
    "positions": LayerRow(fn.positions(3, 4), X, placed),
    "positions, fewer than there are": LayerRow(fn.positions(6, 4), X, placed),
    "tokens in a network": LayerRow(
        fn.serial(fn.embedding(7, 4), fn.positions(5, 4), fn.dense(4, 3)), TOKENS, series(chosen, placed, affine)
    ),
}
