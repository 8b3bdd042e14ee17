"""Weighted means, normalised: linear attention, soft experts, bags of embeddings.

linear attention  y = f(q) S / n, n = f(q) z, S = f(k)^T v, z = sum_s f(k_s), f = elu + 1; with g = u / n, a = <g, y>:
                  df(q) = g S^T - a z^T    df(k) = v (f(q)^T g)^T - f(q)^T a    dv = f(k) f(q)^T g
soft experts      y = sum_e p_e x W_e, p = softmax(x r):  dp_e = <u, x W_e>,  dx = sum_e p_e u W_e^T + p (dp - <p, dp>) r^T
bag               y = sum_k p_k w[i_k] / sum_k p_k:  dp_k = <u, w[i_k] - y> / sum p,  dw[i_k] += p_k u / sum p
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.kernels.kernel import Bug, Kernel, changed, cut, draws, exchanged, followed


def feature(x: Tensor) -> Tensor:
    """Positive features, elu + 1."""
    return F.elu(x) + 1


def slope(x: Tensor) -> Tensor:
    """Of the features."""
    return x.clamp(max=0).exp()


def linear_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Of (N, T, D), over all of T."""
    fq, fk = feature(q), feature(k)
    return fq @ (fk.mT @ v) / (fq @ fk.sum(1)[..., None])


def linear_attention_rule(
    q: Tensor, k: Tensor, v: Tensor, u: Tensor, of_q: float = 1, of_k: float = 1, divided: float = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """The paths through the normaliser, of q and of k, and the division of dv stand as in the right rule."""
    fq, fk = feature(q), feature(k)
    z = fk.sum(1)[..., None]
    n = fq @ z
    g = u / n
    a = (g * linear_attention(q, k, v)).sum(-1, keepdim=True)
    dq = g @ (fk.mT @ v).mT - of_q * a @ z.mT
    dk = v @ (fq.mT @ g).mT - of_k * (fq.mT @ a).mT
    return dq * slope(q), dk * slope(k), fk @ (fq.mT @ (u / n**divided))


def soft_experts(x: Tensor, r: Tensor, w: Tensor) -> Tensor:
    """Of x (N, D), the router r (D, E) and experts w (E, D, H)."""
    return torch.einsum("ne,nd,edh->nh", (x @ r).softmax(-1), x, w)


def soft_experts_rule(
    x: Tensor, r: Tensor, w: Tensor, u: Tensor, project: float = 1, routed: float = 1, power: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """The projection of the softmax, the path of the router to x, and the power of p in dw stand as in the right rule."""
    p = (x @ r).softmax(-1)
    dp = torch.einsum("nh,nd,edh->ne", u, x, w)
    ds = p * (dp - project * (p * dp).sum(-1, keepdim=True))
    dx = torch.einsum("ne,nh,edh->nd", p, u, w) + routed * ds @ r.T
    return dx, x.T @ ds, torch.einsum("ne,nd,nh->edh", p**power, x, u)


INDEX = torch.tensor([[0, 2, 2], [3, 1, 4], [2, 3, 3], [4, 0, 2]])


def bag(w: Tensor, p: Tensor, index: Tensor) -> Tensor:
    """The weighted means of rows of a table."""
    return (p[..., None] * w[index]).sum(1) / p.sum(1, keepdim=True)


def bag_rule(
    w: Tensor, p: Tensor, index: Tensor, u: Tensor, power: int = 1, mean: float = 1, write: bool = False
) -> tuple[Tensor, Tensor]:
    """The power of p in dw and the mean in dp stand as in the right rule; write: the last write wins."""
    total = p.sum(1, keepdim=True)
    rows = (p**power / total)[..., None] * u[:, None]
    dw = torch.zeros_like(w)
    for i, row in zip(index.flatten().tolist(), rows.flatten(0, 1), strict=True):
        dw[i] = row if write else dw[i] + row
    dp = ((w[index] - mean * bag(w, p, index)[:, None]) * u[:, None]).sum(-1) / total
    return dw, dp


def positive(seed: int) -> tuple[Tensor, ...]:
    """A table of 6 rows, the last in no bag, and positive weights."""
    w, p = draws((6, 3), (4, 3))(seed)
    return w, p.exp()


KERNELS = [
    Kernel(
        "linear_attention",
        linear_attention,
        linear_attention_rule,
        draws((2, 4, 3), (2, 4, 3), (2, 4, 5)),
        [
            Bug("the normaliser held constant", "term", partial(linear_attention_rule, of_q=0, of_k=0)),
            Bug("dk without the normaliser's path", "term", partial(linear_attention_rule, of_k=0)),
            Bug("dq without the slope", "slope factor", changed(linear_attention_rule, 0, lambda g, q, *_: g / slope(q))),
            Bug("dv not divided by n", "factor once", partial(linear_attention_rule, divided=0)),
            Bug("dq and dk exchanged", "exchanged", exchanged(linear_attention_rule, 0, 1)),
        ],
    ),
    Kernel(
        "soft_experts",
        soft_experts,
        soft_experts_rule,
        draws((5, 4), (4, 3), (3, 4, 2)),
        [
            Bug("dx without the router's path", "term", partial(soft_experts_rule, routed=0)),
            Bug("the softmax without its projection", "term projection", partial(soft_experts_rule, project=0)),
            Bug("dw not weighted by p", "factor once", partial(soft_experts_rule, power=0)),
            Bug("dw weighted by p twice", "twice", partial(soft_experts_rule, power=2)),
            Bug("dw of the last expert is not written", "border", changed(soft_experts_rule, 2, lambda g, *_: cut(g, -1))),
        ],
    ),
    Kernel(
        "weighted_bag",
        bag,
        bag_rule,
        followed(positive, INDEX),
        [
            Bug("the last write wins", "repeats", partial(bag_rule, write=True)),
            Bug("dw not weighted", "factor once", partial(bag_rule, power=0)),
            Bug("dp without the mean", "term mean projection", partial(bag_rule, mean=0)),
            Bug(
                "not divided by the sum of weights",
                "factor once",
                lambda w, p, index, u: bag_rule(w, p, index, u * p.sum(1, keepdim=True)),
            ),
            Bug("row 0 taken for padding", "mask zero border row", changed(bag_rule, 0, lambda g, *_: cut(g, 0))),
        ],
    ),
]
