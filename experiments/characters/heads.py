"""What the heads of a transformer look at: the weights P with which each place reads from those before it.

    [Q K V] = norm(x) W_qkv + b_qkv        P = softmax(Q K^T / sqrt(d)), -inf above the diagonal, each head by itself

The library never keeps P, so here it is computed again from the parameters, layer by layer.
"""

import math
from typing import Any

import torch
from torch import Tensor

import funcnn as fn


def maps(layer: fn.Layer, params: Any, tokens: Tensor, heads: int) -> Tensor:
    """The weights of every layer and head of an `fn.transformer`, tokens (N, T) -> (N, depth, heads, T, T)."""
    found, x = [], tokens
    for part, own in zip(layer.forward.layers, params, strict=True):
        if isinstance(own, tuple) and "qkv" in own[1]:
            norm, attention = own
            found.append(weights(attention["qkv"], fn.layer_norm(x.shape[-1])(norm, x), heads))
        x = part(own, x)
    return torch.stack(found, 1)


def weights(qkv: dict[str, Tensor], x: Tensor, heads: int) -> Tensor:
    """P of one attention, X (N, T, D) -> (N, heads, T, T)."""
    q, k, _ = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (x @ qkv["w"] + qkv["b"]).chunk(3, -1))
    later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
    return torch.softmax((q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(later, -torch.inf), -1)


def weight_by_distance(maps: Tensor) -> Tensor:
    """The mean weight of the last place for the one d before it, (N, depth, heads, T, T) -> (depth, heads, T)."""
    return maps[..., -1, :].flip(-1).mean(0)
