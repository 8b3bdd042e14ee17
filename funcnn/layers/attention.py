"""Attention: every token reads from the tokens before it, as much from each as its query agrees with its key.

With d = D / heads features a head, and for each head by itself, in rows of tokens,

    S = Q K^T / sqrt(d)          (T, T), -inf above the diagonal where it is causal
    P = exp(S - l)               l_t = log sum_s exp S_ts, so the rows of P sum to 1
    Y = P V                      (T, d)

and back, the Jacobian of a row of a softmax being diag(p) - p p^T, with delta_t = <dY_t, Y_t> = <dP_t, P_t>,

    dV = P^T dY        dP = dY V^T        dS = P * (dP - delta)        dQ = dS K / sqrt(d)        dK = dS^T Q / sqrt(d)

Vaswani et al., "Attention is all you need" (2017), arXiv:1706.03762. That Y and l are enough to have P again, so that no
matrix of T x T numbers is kept, is of Dao et al., "FlashAttention" (2022), arXiv:2205.14135; torch's kernel of that name
computes the same where a tensor is plain.
"""

import math

import torch
from jaxtyping import Inexact
from torch import Tensor

from .. import fused
from ..errors import InputError, check_count, check_flag
from ..types import Layer, Residuals
from .branches import named
from .columns import Forward
from .combine import no_params, serial
from .dense import dense
from .factors import ByParts
from .guarded import guarded


def attention(features: int, heads: int, *, causal: bool = False) -> Layer:
    """Multi-head self-attention with its projections, X (N, T, D) -> (N, T, D).

        [Q K V] = X W_qkv + b_qkv        Y = attend(Q, K, V), each head by itself        out = Y W_out + b_out

    Parameters `{"qkv": {"w": (D, 3 D), "b": (3 D,)}, "out": {"w": (D, D), "b": (D,)}}`: the columns of qkv in that order,
    each head's d = D / heads side by side. The equations of the middle, and its derivative, stand above.

    Raises:
        InputError: features or heads no positive integer, or heads that do not divide the features; (when called) x has
            another shape than (N, T, D), or no tokens.
    """
    features, heads = check_count("features", features), check_count("heads", heads)
    causal = check_flag("causal", causal)
    if features % heads:
        raise InputError("heads", heads, f"a divisor of the features, {features}")
    title = f"attention({features}, {heads}{', causal=True' if causal else ''})"
    layers = dense(features, 3 * features), attend(features, heads, causal, title), dense(features, features)
    return named(serial(*layers), {"qkv": 0, "out": 2}, title)


def attend(features: int, heads: int, causal: bool, title: str = "attend") -> Layer:
    """The middle of it, without parameters: queries, keys and values (N, T, 3 D) -> Y (N, T, D)."""
    scale = 1 / math.sqrt(features // heads)

    def split(qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        samples, tokens, _ = qkv.shape
        q, k, v = qkv.reshape(samples, tokens, 3, heads, features // heads).permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v  # each (N, heads, T, d)

    def scores(q: Tensor, k: Tensor) -> Tensor:
        s = scale * (q @ k.mT)
        if not causal:
            return s
        later = torch.ones(s.shape[-2:], dtype=torch.bool, device=s.device).triu(1)
        return s.masked_fill(later, -torch.inf)

    def forward(params: tuple[()], qkv: Inexact[Tensor, "N T E"]) -> tuple[Tensor, Residuals]:
        q, k, v = split(qkv)
        if qkv.is_cpu and not fused.watched(qkv):
            y, total = fused.attend(q, k, v, causal)
        else:
            s = scores(q, k)
            p = torch.softmax(s, -1)
            y, total = p @ v, torch.logsumexp(s, -1)
        return y.transpose(1, 2).flatten(2), (qkv, y, total)

    def inputs(residuals: tuple[Tensor, Tensor, Tensor], dy: Tensor) -> Tensor:
        (qkv, y, total), (samples, tokens, _) = residuals, dy.shape
        (q, k, v), dy = split(qkv), dy.reshape(samples, tokens, heads, -1).transpose(1, 2)
        if qkv.is_cpu and not fused.watched(qkv, dy):
            dq, dk, dv = fused.attend_pullback(dy, q, k, v, y, total, causal)
        else:
            p = torch.exp(scores(q, k) - total.unsqueeze(-1))
            ds = scale * p * (dy @ v.mT - (dy * y).sum(-1, keepdim=True))
            dq, dk, dv = ds @ k, ds.mT @ q, p.mT @ dy
        return torch.stack([part.transpose(1, 2) for part in (dq, dk, dv)], 2).flatten(2)  # (N, T, 3, heads, d)

    def fits(qkv: Tensor) -> None:
        if qkv.ndim != 3 or not qkv.shape[1]:
            found = f"shape {(*qkv.shape[:-1], features)}"  # of what was projected, which is what the caller knows
            raise InputError(f"inputs of {title}", found, f"shape (N, T, {features}), T of at least 1")

    layer = Layer(no_params, Forward(forward, True), ByParts(lambda residuals, dy: (), inputs))
    return guarded(
        layer, title, x="N ... E", y="N ... D", like=lambda residuals: residuals[0], fits=fits, E=3 * features, D=features
    )
