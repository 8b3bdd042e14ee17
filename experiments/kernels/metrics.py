"""Norms, angles, distances, products.

clipped      y = x min(1, c / |x|):  u within, c / |x| (u - x <x, u> / |x|^2) beyond, row by row
cosine       y = <a, b> / |a| |b|:  da = u (b / |a| |b| - y a / |a|^2)
distances    d_ij = |a_i - b_j|:  da_i = sum_j u_ij (a_i - b_j) / d_ij,  db_j = -sum_i ...
outer        y_nij = a_ni b_nj:  da = u b,  db = u^T a
"""

from functools import partial

import torch
from torch import Tensor

from experiments.kernels.kernel import Bug, Kernel, changed, cut, draws, exchanged, upstream

LIMIT = 2.0


def clip_rule(x: Tensor, u: Tensor, project: float = 1, within: bool = True) -> Tensor:
    """Project and within (u where |x| < c) are as they stand in the right rule."""
    n = x.norm(dim=1, keepdim=True)
    beyond = LIMIT / n * (u - project * x * (x * u).sum(1, keepdim=True) / n**2)
    return torch.where(n < LIMIT, u, beyond) if within else beyond


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Along the last axis."""
    return (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))


def cosine_rule(a: Tensor, b: Tensor, u: Tensor, project: float = 1, power: int = 2) -> tuple[Tensor, Tensor]:
    """Project and power (of |a| in the second term) are as they stand in the right rule."""
    na, nb = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    y, u = cosine(a, b)[..., None], u[..., None]
    return u * (b / (na * nb) - project * y * a / na**power), u * (a / (na * nb) - project * y * b / nb**power)


def distances(a: Tensor, b: Tensor) -> Tensor:
    """All pairs."""
    return (a[:, None] - b).norm(dim=-1)


def distance_rule(a: Tensor, b: Tensor, u: Tensor, power: int = 1, sign: float = -1) -> tuple[Tensor, Tensor]:
    """Power (of d) and sign (of db) are as they stand in the right rule."""
    g = (u / distances(a, b) ** power)[..., None] * (a[:, None] - b)
    return g.sum(1), sign * g.sum(0)


def outer_rule(a: Tensor, b: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Sample by sample."""
    return torch.einsum("nij,nj->ni", u, b), torch.einsum("nij,ni->nj", u, a)


KERNELS = [
    Kernel(
        "clip_norm",
        lambda x: x * (LIMIT / x.norm(dim=1, keepdim=True)).clamp(max=1),
        clip_rule,
        draws((6, 5)),
        [
            Bug("the norm held constant", "term projection", partial(clip_rule, project=0)),
            Bug("u whether clipped or not", "branch term slope", lambda x, u: u.clone()),
            Bug("within as beyond", "branch", partial(clip_rule, within=False)),
            Bug("nothing where clipped", "branch zero mask", lambda x, u: u * (x.norm(dim=1, keepdim=True) < LIMIT)),
            Bug("the projection has the other sign", "sign projection", partial(clip_rule, project=-1)),
        ],
    ),
    Kernel(
        "cosine",
        cosine,
        cosine_rule,
        draws((3, 4, 5), (3, 4, 5)),
        [
            Bug("norms held constant", "term projection", partial(cosine_rule, project=0)),
            Bug("|a| for |a|^2", "factor once", partial(cosine_rule, power=1)),
            Bug("the sign of the second term", "sign projection", partial(cosine_rule, project=-1)),
            Bug("da and db exchanged", "exchanged", exchanged(cosine_rule, 0, 1)),
            Bug(
                "db not divided by the norms",
                "factor once",
                changed(cosine_rule, 1, lambda g, a, b, u: g * a.norm(dim=-1, keepdim=True) * b.norm(dim=-1, keepdim=True)),
            ),
        ],
    ),
    Kernel(
        "distances",
        distances,
        distance_rule,
        draws((4, 3), (5, 3)),
        [
            Bug("not divided by d", "factor once", partial(distance_rule, power=0)),
            Bug("divided by d^2", "factor twice", partial(distance_rule, power=2)),
            Bug("db with the sign of da", "sign", partial(distance_rule, sign=1)),
            Bug(
                "of squares: 2 (a - b)",
                "factor replaced",
                lambda a, b, u: tuple(2 * g for g in distance_rule(a, b, u, power=0)),
            ),
            Bug(
                "da leaves out the last b",
                "border term",
                changed(distance_rule, 0, lambda g, a, b, u: distance_rule(a, b[:-1], u[:, :-1])[0]),
            ),
        ],
    ),
    Kernel(
        "outer",
        lambda a, b: torch.einsum("ni,nj->nij", a, b),
        outer_rule,
        draws((3, 4), (3, 5)),
        [
            Bug(
                "db of the first sample's a",
                "row",
                changed(outer_rule, 1, lambda g, a, b, u: torch.einsum("nij,i->nj", u, a[0])),
            ),
            Bug("da averaged over j", "count factor", changed(outer_rule, 0, lambda g, *_: g / 5)),
            Bug("u ignored", "upstream", upstream(outer_rule, torch.ones_like)),
            Bug("u read as its transpose", "transposed order", upstream(outer_rule, lambda u: u.mT.reshape(u.shape))),
            Bug("the last entry of da is not written", "border", changed(outer_rule, 0, lambda g, *_: cut(g, ..., -1))),
        ],
    ),
]
