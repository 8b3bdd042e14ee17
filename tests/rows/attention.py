import torch
from helpers import normal
from row import LayerRow, affine

import funcnn as fn

N = 5
X = normal(N, 4, 6)


def attending(heads, causal):
    def formula(params, x):
        qkv = affine(params["qkv"], x)
        q, k, v = (part.unflatten(-1, (heads, -1)) for part in qkv.split(x.shape[-1], -1))
        scores = torch.einsum("nthd,nshd->nhts", q, k) / q.shape[-1] ** 0.5
        if causal:
            scores = scores + torch.full(scores.shape[-2:], -torch.inf, dtype=x.dtype).triu(1)
        weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
        return affine(params["out"], torch.einsum("nhts,nshd->nthd", weights, v).flatten(2))

    return formula


ROWS = {
    "attention": LayerRow(fn.attention(6, 2), X, attending(2, False)),
    "attention, causal": LayerRow(fn.attention(6, 3, causal=True), X, attending(3, True)),
    "attention of one token": LayerRow(fn.attention(6, 1, causal=True), X[:, :1], attending(1, True)),
}
