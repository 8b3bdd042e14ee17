"""Objectives with their data, and their true gradients: classic autograd's, sample by sample where that is asked for."""

from typing import Any

import torch
from torch import Generator, Tensor

from experiments.fuzz.formulas import counts, differentiable, gradients, leaves, of_leaves, plain, plain_batch, rows_of
from experiments.fuzz.rows.networks import normal, weights


def smooth(params: Any, batch: Any) -> Tensor:
    """An objective of the user's own."""
    x, t = batch
    return (((x @ params["w"] + params["b"]).tanh() - t) ** 2).mean()


def of_words(params: Any, batch: Any) -> Tensor:
    """One of a batch with names and a number."""
    lengths = torch.tensor([float(len(name)) for name in batch["name"]], dtype=torch.float64)
    errors = (batch["x"] @ params["w"] + params["b"] - batch["t"]) ** 2
    return (lengths[:, None] * errors).mean() * batch["rate"]


def words(g: Generator) -> tuple[Any, Any]:
    """(params, batch)."""
    return weights(g), {"x": normal(g, 5, 4), "t": normal(g, 5, 3), "name": ["a", "bb", "c", "dd", "eee"], "rate": 0.5}


def by_hand(params: Any, batch: Any) -> Any:
    """Its gradient."""
    x, t = batch
    y = (x @ params["w"] + params["b"]).tanh()
    slope = 2 / y.numel() * (y - t) * (1 - y * y)
    return ((y - t) ** 2).mean(), {"w": x.T @ slope, "b": slope.sum(0)}


def task(g: Generator) -> tuple[Any, Any]:
    """(params, batch)."""
    return weights(g), (normal(g, 5, 4), normal(g, 5, 3))


def differentiated(f: Any, params: Any, batch: Any) -> Any:
    """(value, gradients) of an objective by classic autograd; every sample of a batch is there."""
    params, batch = plain(params), plain_batch(batch)
    own = set(counts(batch))
    if len(own) > 1 or 0 in own or not all(leaf.is_floating_point() for leaf in leaves(params)):
        raise TypeError("no batch")
    with torch.enable_grad():
        differentiable(params)
        value = f(params, batch)
    if value.shape != ():
        raise TypeError("no scalar")
    return value.detach(), gradients(value, params)


def each(f: Any, params: Any, batch: Any) -> list[Any]:
    """The gradient of every sample by itself."""
    batch = plain_batch(batch)
    return [differentiated(f, params, rows_of(batch, [n]))[1] for n in range(counts(batch)[0])]


def stacked(f: Any, params: Any, batch: Any) -> Any:
    """Those of all, side by side."""
    rows = [leaves(one) for one in each(f, params, batch)]
    return of_leaves(plain(params), [torch.stack(parts) for parts in zip(*rows, strict=True)])


def norms(f: Any, params: Any, batch: Any) -> Tensor:
    """Their norms."""
    return torch.stack([torch.cat([leaf.flatten() for leaf in leaves(one)]).norm() for one in each(f, params, batch)])


def clipped_mean(f: Any, params: Any, batch: Any, most: float) -> Any:
    """The mean of what is left of them."""
    factors = (most / norms(f, params, batch)).clamp(max=1)
    value, _ = differentiated(f, params, batch)
    every = stacked(f, params, batch)
    means = [(factors.to(leaf.dtype).reshape(-1, *[1] * (leaf.ndim - 1)) * leaf).mean(0) for leaf in leaves(every)]
    return value, of_leaves(every, means)
