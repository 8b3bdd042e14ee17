"""Memory and state: strides, what is written into, buffers that are used again, what is left from another call."""

from typing import Any

import torch
from torch import Tensor

from experiments.kernels.operands import Case, Mistake, made, normal, saving


def flat(u: Tensor) -> Tensor:
    """The numbers as they lie in memory: what a kernel sees that takes u to be contiguous."""
    storage = u.new_empty(0).set_(u.untyped_storage())
    return storage[(u.storage_offset() + torch.arange(u.numel())) % len(storage)].view(u.shape)


def cube(mistake: str = "") -> Any:
    """Returns x^3 / 3, and knows what can go wrong with memory in dx = u x^2."""
    buffer, held, seen = torch.zeros(4, 3, dtype=torch.float64), {}, {}

    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        held["x"] = x.detach()
        seen.setdefault(x.shape, x.detach().clone())
        y = x**3 / 3
        if mistake == "x":
            x.detach().mul_(x.detach())
        if mistake == "y":
            return held.setdefault("y", torch.zeros_like(y)).copy_(y).detach()
        return y

    def backward(ctx: Any, u: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        g = u * x * x
        if mistake == "contiguous":
            return flat(u) * x * x
        if mistake == "view":
            return (u.view(-1) * x.reshape(-1) ** 2).view(x.shape)
        if mistake == "u":
            return u.mul_(x * x)
        if mistake == "saved":
            return x.detach().mul_(x.clone()).mul_(u)
        if mistake == "static":
            return buffer.copy_(g)
        if mistake == "sum":
            return buffer.add_(g).clone()
        if mistake == "last":
            return u * held["x"] ** 2
        if mistake == "shape":
            return u * seen[x.shape] ** 2
        if mistake == "random":
            return g * (1 + 1e-3 * torch.rand_like(g))
        if mistake == "first":
            return u.flatten()[0] * x * x
        return g

    return made(forward, backward)


def squares(mistake: str = "") -> Any:
    """The sum of x^3 / 3 by two kernels, of which the second hands an expanded u to the first."""
    product = cube()
    total = saving(lambda x: x.sum(), lambda x, u: u.expand(x.shape))
    return lambda x: total.apply(product.apply(x))


def transposed(mistake: str = "") -> Any:
    """Saves a transposed view of x, and y is a transposed view too: y = (x^T w)^T."""

    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        turned = x.mT
        ctx.save_for_backward(turned, w)
        return (turned @ w).mT

    def backward(ctx: Any, u: Tensor) -> Any:
        turned, w = ctx.saved_tensors
        return w @ (u if mistake != "flat" else flat(u)), turned.mT @ u.mT

    return made(forward, backward)


def in_place(mistake: str = "") -> Any:
    """Writes e^x into x, a copy."""

    def forward(ctx: Any, x: Tensor) -> Tensor:
        x.exp_()
        ctx.mark_dirty(x)
        ctx.save_for_backward(x)
        return x

    def backward(ctx: Any, u: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return u * y.exp() if mistake == "again" else u * y

    function = made(forward, backward)
    return lambda x: function.apply(x * 1.0)


def twice(mistake: str = "") -> Any:
    """The same Function twice in a chain: y = (x^3 / 3)^3 / 3."""
    function = cube("last" if mistake == "last" else "")
    return lambda x: function.apply(function.apply(x))


def blocks(mistake: str = "") -> Any:
    """The product x w, its dw = x^T u block by block of two rows, added up in one buffer."""

    def backward(x: Tensor, w: Tensor, u: Tensor) -> Any:
        dw = torch.zeros_like(w)
        for start in range(0, len(x), 2):
            part = x[start : start + 2].T @ u[start : start + 2]
            dw = part if mistake == "overwritten" else dw.addmm_(x[start : start + 2].T, u[start : start + 2])
        return torch.mm(u, w.T, out=torch.empty_like(x)), dw

    return saving(torch.mm, backward)


def broadcast(mistake: str = "") -> Any:
    """The sum x + b, whose dx is u itself."""
    return saving(torch.add, lambda x, b, u: (u, u.sum(0)))


X = normal(4, 3)
CASES = [
    Case(
        "memory",
        cube,
        lambda: (X.clone(),),
        lambda x: x**3 / 3,
        (
            Mistake("u is taken to be contiguous", "strides", "contiguous"),
            Mistake("u.view(-1): refuses other strides", "strides", "view"),
            Mistake("writes into x in forward", "overwritten", "x"),
            Mistake("writes into x in backward", "overwritten", "saved"),
            Mistake("writes into u", "overwritten", "u"),
            Mistake("returns a static buffer", "stale overwritten", "static"),
            Mistake("adds to a buffer from call to call", "repeated stale", "sum"),
            Mistake("random rounding, 1e-3", "repeated", "random"),
        ),
    ),
    Case(
        "state",
        cube,
        lambda: (X.clone(),),
        lambda x: x**3 / 3,
        (
            Mistake("x is that of the last call", "stale", "last"),
            Mistake("x is that of the first call with this shape", "stale", "shape"),
            Mistake("y is a static buffer", "stale overwritten", "y"),
            Mistake("u is taken to be the same everywhere", "upstream", "first"),
        ),
    ),
    Case(
        "expanded_upstream",
        squares,
        lambda: (X.clone(),),
        lambda x: (x**3 / 3).sum(),
    ),
    Case(
        "saved_transposed",
        transposed,
        lambda: (X.clone(), normal(4, 5)),
        lambda x, w: (x.mT @ w).mT,
        (Mistake("u is taken to be contiguous", "strides", "flat"),),
    ),
    Case(
        "mark_dirty",
        in_place,
        lambda: (X.clone(),),
        torch.exp,
        (Mistake("x is e^x already", "elsewhere twice overwritten", "again"),),
    ),
    Case(
        "chained",
        twice,
        lambda: (X.clone(),),
        lambda x: (x**3 / 3) ** 3 / 3,
        (Mistake("x is that of the last call", "stale", "last"),),
    ),
    Case(
        "blocks",
        blocks,
        lambda: (normal(5, 3), normal(3, 4)),
        torch.mm,
        (Mistake("the last block overwrites the others", "overwritten border term", "overwritten"),),
    ),
    Case("returns_upstream", broadcast, lambda: (X.clone(), normal(3)), torch.add),
]
