"""Indices, which repeat: what is read in several places gets the sum of their gradients.

embedding, gather     y = w[i]: dw[i] += u          bag: y = <w[i_1], ..., w[i_k]>: dw[i_j] += u / k
scatter add           y = x, y[i] += v: dx = u, dv = u[i]
routing               e the k largest of the logits l of a token, p = softmax(l), y = sum_e p_e x w_e:
                      dx = sum_e p_e u w_e^T,  dw_e += p_e x u^T,  dp_e = <u, x w_e>,  dl = p (dp - <p, dp>)
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from experiments.kernels.kernel import Bug, Kernel, changed, cut, draws, followed, upstream

WORDS = torch.tensor([[3, 1, 3], [0, 3, 1]])
BAGS = torch.tensor([[3, 1, 3], [0, 2, 1], [4, 4, 4]])
COLUMNS = torch.tensor([[0, 3, 3, 1], [2, 2, 0, 2], [4, 1, 0, 1]])


def rows(w: Tensor, index: Tensor, u: Tensor, add: bool = True) -> Tensor:
    """The rows u added up by index, or the last one of each."""
    flat, g = u.reshape(-1, w.shape[1]), torch.zeros_like(w)
    if add:
        return g.index_add(0, index.flatten(), flat)
    for i, row in zip(index.flatten(), flat, strict=True):
        g[i] = row
    return g


def bag_rule(w: Tensor, index: Tensor, u: Tensor, count: float = 3, add: bool = True) -> Tensor:
    """Every word of a bag gets u / count."""
    return rows(w, index, (u / count)[:, None].expand(-1, 3, -1), add)


def gather_rule(x: Tensor, index: Tensor, u: Tensor, axis: int = 1, add: bool = True) -> Tensor:
    """Along the columns."""
    zeros = torch.zeros_like(x)
    return zeros.scatter_add(axis, index, u) if add else zeros.scatter(axis, index, u)


def winners(index: Tensor) -> Tensor:
    """Which entries of the index have no equal one to their right."""
    equal = index[:, :, None] == index[:, None, :]
    return ~equal.triu(1).any(2)


def route(x: Tensor, logits: Tensor, w: Tensor, k: int) -> Tensor:
    """Tokens x (N, D), logits (N, E), experts w (E, D, H)."""
    p = logits.softmax(1)
    top = p.topk(k, 1).indices
    return sum(p.gather(1, top[:, j : j + 1]) * torch.einsum("nd,ndh->nh", x, w[top[:, j]]) for j in range(k))


def route_rule(
    x: Tensor,
    logits: Tensor,
    w: Tensor,
    u: Tensor,
    k: int,
    *,
    gate: float = 1,
    project: float = 1,
    held: bool = False,
    add: bool = True,
    used: int = 9,
) -> Any:
    """The options are mistakes: not weighted, no normaliser, gates held constant, last token wins, experts left out."""
    p = logits.softmax(1)
    dx, dw, dp = torch.zeros_like(x), torch.zeros_like(w), torch.zeros_like(p)
    for e in p.topk(k, 1).indices[:, :used].unbind(1):
        weight = p.gather(1, e[:, None]) ** gate
        dx += weight * torch.einsum("nh,ndh->nd", u, w[e])
        outer = torch.einsum("nd,nh->ndh", weight * x, u)
        dw = dw.index_add(0, e, outer) if add else dw.index_copy(0, e, outer)
        dp.scatter_add_(1, e[:, None], torch.einsum("nh,nd,ndh->n", u, x, w[e])[:, None])
    dlogits = p * (dp - project * (p * dp).sum(1, keepdim=True))
    return dx, 0 * dlogits if held else dlogits, dw


KERNELS = [
    Kernel(
        "embedding",
        lambda w, index: w[index],
        rows,
        followed(draws((5, 4)), WORDS),
        [
            Bug("the last of equal words wins", "repeats overwritten term row", partial(rows, add=False)),
            Bug(
                "averaged over equal words",
                "count factor row",
                lambda w, i, u: rows(w, i, u) / i.flatten().bincount(minlength=5).clamp(min=1)[:, None],
            ),
            Bug("word 0 taken for padding", "mask row border", lambda w, i, u: cut(rows(w, i, u), 0)),
            Bug("indices one off", "shift", lambda w, i, u: rows(w, (i + 1) % 5, u)),
            Bug("positions read in columns", "order transposed", lambda w, i, u: rows(w, i, u.transpose(0, 1))),
        ],
    ),
    Kernel(
        "embedding_bag",
        lambda w, index: w[index].mean(1),
        bag_rule,
        followed(draws((6, 4)), BAGS),
        [
            Bug("not divided by the size of the bag", "count factor", partial(bag_rule, count=1)),
            Bug("divided by the number of words", "count factor", partial(bag_rule, count=6)),
            Bug("the last write wins", "repeats overwritten term row", partial(bag_rule, add=False)),
            Bug("the first word of a bag gets all", "row border term", lambda w, i, u: rows(w, i[:, 0], u)),
            Bug("the last bag is left out", "border row term", lambda w, i, u: bag_rule(w, i[:-1], u[:-1])),
        ],
    ),
    Kernel(
        "gather",
        lambda x, index: x.gather(1, index),
        gather_rule,
        followed(draws((3, 5)), COLUMNS),
        [
            Bug("the last write wins", "repeats overwritten term", partial(gather_rule, add=False)),
            Bug("indices one off", "shift", lambda x, i, u: gather_rule(x, (i + 1) % 5, u)),
            Bug(
                "read again, not scattered",
                "transposed direction order",
                lambda x, i, u: gather_rule(x, i, u.gather(1, i % 4)),
            ),
            Bug("rows of the index reversed", "order direction row", lambda x, i, u: gather_rule(x, i.flip(0), u)),
            Bug("u ignored", "upstream", upstream(gather_rule, torch.ones_like)),
        ],
    ),
    Kernel(
        "scatter_add",
        lambda x, v, index: x.scatter_add(1, index, v),
        lambda x, v, index, u: (u.clone(), u.gather(1, index)),
        followed(draws((3, 5), (3, 4)), COLUMNS),
        [
            Bug(
                "dx zeroed where v is added",
                "mask zero repeats overwritten",
                lambda x, v, i, u: (u.scatter(1, i, 0.0), u.gather(1, i)),
            ),
            Bug("dv from the first columns", "shift order part", lambda x, v, i, u: (u.clone(), u[:, :4].clone())),
            Bug(
                "dv averaged over equal indices",
                "count factor repeats",
                lambda x, v, i, u: (
                    u.clone(),
                    u.gather(1, i) / torch.zeros_like(x).scatter_add(1, i, torch.ones_like(v)).gather(1, i),
                ),
            ),
            Bug(
                "dv to the last of equal indices only",
                "repeats overwritten mask term",
                lambda x, v, i, u: (u.clone(), u.gather(1, i) * winners(i)),
            ),
            Bug("dx held constant", "zero", lambda x, v, i, u: (torch.zeros_like(x), u.gather(1, i))),
        ],
    ),
    *[
        Kernel(
            f"routing_top{k}",
            partial(route, k=k),
            partial(route_rule, k=k),
            draws((6, 4), (6, 3), (3, 4, 5)),
            [
                Bug("dx and dw not weighted by p", "once factor", partial(route_rule, k=k, gate=0)),
                Bug("gates held constant", "zero term", partial(route_rule, k=k, held=True)),
                Bug("softmax without its normaliser", "term projection", partial(route_rule, k=k, project=0)),
                Bug("dw of the last token of an expert", "repeats overwritten term", partial(route_rule, k=k, add=False)),
                *more,
            ],
        )
        for k, more in (
            (
                1,
                [
                    Bug(
                        "dw of the first expert not written",
                        "border part",
                        changed(partial(route_rule, k=1), 2, lambda g, *_: cut(g, 0)),
                    )
                ],
            ),
            (2, [Bug("the second expert forgotten", "term part", partial(route_rule, k=2, used=1))]),
        )
    ],
]
