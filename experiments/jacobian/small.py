"""Small derivatives laid out in full: by rows of the backward rules, by torch.func.jacrev, and by their formulas.

The dense layer Y = X W + 1 b, with Y (N, M), X (N, D) and W (D, M), has three generalized Jacobians, mostly zeros:

    dY[n,m] / dX[i,d] = [n = i] W[d,m]      dY[n,m] / dW[d,k] = X[n,d] [m = k]      dY[n,m] / db[k] = [m = k]

Put into dx[j] = sum_i dy[i] dy[i]/dx[j] they leave two products and a sum: dX = dY W^T, dW = X^T dY, db = 1^T dY.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, einsum

import funcnn as fn
from funcnn.plots import figure, heat_map


class Case(NamedTuple):
    """One derivative dy/dx: of which function, where, its formula in words and evaluated, and what `backward` makes it."""

    function: Callable[[Tensor], Tensor]
    x: Tensor
    formula: str
    by_formula: Tensor
    by_hand: Tensor

    def facts(self) -> dict[str, Any]:
        """Its shape, the share of entries that are exactly 0, and how far the other ways to it are from `by_hand`."""
        others = self.by_formula, torch.func.jacrev(self.function)(self.x)
        return {
            "shape": tuple(self.by_hand.shape),
            "zeros": (self.by_hand == 0).double().mean().item(),
            "difference": max(far(self.by_hand, other) for other in others),
        }


def far(a: Tensor, b: Tensor) -> float:
    """The largest difference of two entries."""
    return fn.tree.max_difference(a, b).item()


def cases(layer: fn.Layer, params: Any, x: Tensor) -> dict[str, Case]:
    """A gradient, a Jacobian, and the three generalized Jacobians of the dense layer at (params, x)."""
    at, y, softmax, loss = partial(fn.apply, layer), fn.apply(layer, params, x), fn.softmax(), fn.half_squared_error()
    w, b, z, p, zeros = params["w"], params["b"], y[0], y[0].softmax(0), torch.zeros_like(y)
    n, m = (torch.eye(size).to(y) for size in y.shape)
    gradient, of_z = loss.backward(loss.forward(y, zeros)[1]), fn.jacobian(softmax, (), z)[1]
    of_params, of_x = fn.jacobian(layer, params, x)
    of_b = m.expand(len(y), *m.shape)
    return {
        "dL/dY": Case(lambda y: loss.forward(y, zeros)[0], y, "Y[n,m] / N", y / len(y), gradient),
        "dp/dz": Case(partial(fn.apply, softmax, ()), z, "diag(p) - p p^T", p.diag() - p.outer(p), of_z),
        "dY/dX": Case(lambda x: at(params, x), x, "[n = i] W[d,m]", einsum("ni,dm->nmid", n, w), of_x),
        "dY/dW": Case(lambda w: at({"w": w, "b": b}, x), w, "X[n,d] [m = k]", einsum("nd,mk->nmdk", x, m), of_params["w"]),
        "dY/db": Case(lambda b: at({"w": w, "b": b}, x), b, "[m = k]", of_b, of_params["b"]),
    }


def products(layer: fn.Layer, params: Any, x: Tensor, dy: Tensor, laid_out: dict[str, Case]) -> dict[str, float]:
    """How far the product formulas, and the layer's `backward`, are from the contraction sum_i dy[i] dy[i]/dx[j]."""
    (grads, dx), w = layer.backward(layer.forward(params, x)[1], dy), params["w"]
    ways = {"dX = dY W^T": (dy @ w.T, dx), "dW = X^T dY": (x.T @ dy, grads["w"]), "db = 1^T dY": (dy.sum(0), grads["b"])}
    jacobians = [laid_out[name].by_hand for name in ("dY/dX", "dY/dW", "dY/db")]
    contracted = [torch.tensordot(dy, jacobian, dims=dy.ndim) for jacobian in jacobians]
    return {rule: max(far(exact, way) for way in ways[rule]) for rule, exact in zip(ways, contracted, strict=True)}


def blocks(of_x: Tensor, w: Tensor) -> dict[str, float]:
    """Of dY/dX: the largest |dY[n]/dX[i]| with n != i, and how far the blocks with n = i are from W^T."""
    pairs, own = of_x.transpose(1, 2), torch.eye(len(of_x), dtype=torch.bool, device=of_x.device)  # pairs: (N, N, M, D)
    return {"elsewhere": pairs[~own].abs().max().item(), "on the diagonal": far(pairs[own], w.T.expand_as(pairs[own]))}


def draw(laid_out: dict[str, Case]) -> tuple[Any, str]:
    """dY/dX and dY/dW as matrices, a row for each entry of Y, a column for each of X or W, cut into blocks."""
    drawing, axes = figure(2)
    for axis, name in zip(axes, ("dY/dX", "dY/dW"), strict=True):
        n, m, rows, size = laid_out[name].by_hand.shape
        heat_map(axis, laid_out[name].by_hand.reshape(n * m, rows * size), label=f"entry of {name}")
        axis.set_yticks([m * k + m / 2 - 0.5 for k in range(n)], [f"Y[{k}]" for k in range(n)])
        axis.set_xticks([size * k + size / 2 - 0.5 for k in range(rows)], [f"{name[-1]}[{k}]" for k in range(rows)])
        axis.hlines([m * k - 0.5 for k in range(1, n)], -0.5, rows * size - 0.5, color="white")
        axis.vlines([size * k - 0.5 for k in range(1, rows)], -0.5, n * m - 0.5, color="white")
        axis.tick_params(length=0)
    return drawing, (
        "The generalized Jacobians as matrices; grey is exactly 0. In $dY/dX$ the blocks on the diagonal are $W^T$ "
        "and all others vanish: no sample depends on another. Block $(n, d)$ of $dY/dW$ is $X[n,d]$ times the identity."
    )
