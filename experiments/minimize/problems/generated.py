"""A function of any dimension, as hard as one likes in two ways: as narrow as its condition, as rough as its waves."""

import math
from typing import Any

import torch
from torch import Tensor

import funcnn as fn

ROUGHNESS = 8.0  # how often as much as the bowl a wave bends along its direction: above 4.6 it has minima of its own


def generate_function(dimension: int, complexity: int, seed: int, condition: float = 10.0) -> fn.Objective:
    """A bowl with waves on it, of n = dimension variables, with K = complexity waves.

        f(x) = 1/L (1/2 x^T A x + sum_k a_k (1 - cos(u_k^T x)))
        df/dx = 1/L (A x + sum_k a_k sin(u_k^T x) u_k)

    A has eigenvalues from 1/condition to 1, evenly spaced in their logarithms, along axes that a reflection
    Q = I - 2 v v^T turns away from those of x. The waves run in random directions q_k, with u_k = w_k q_k and lengths
    2 pi / w_k from 1.5 to 2.5. Every wave is a term that is not convex, and with a_k w_k^2 = 8 q_k^T A q_k so strong that
    alone it makes three minima along its direction; K of them in many dimensions make about 3^K.

    f is nowhere negative, and its minimum is 0, at the origin. L bounds the curvature of what stands in the brackets, so
    that of f is nowhere above 1, and gradient descent with lr = 1 never goes up. The same seed draws the same function.

    Raises:
        InputError: dimension is no positive integer, complexity or seed no integer of at least 0, condition below 1;
            (when called) parameters that are no (..., n).
    """
    for place, x, least in (("dimension", dimension, 1), ("complexity", complexity, 0), ("seed", seed, 0)):
        if isinstance(x, bool) or not isinstance(x, int) or x < least:
            raise fn.InputError(place, repr(x), f"an integer of at least {least}")
    if not isinstance(condition, (int, float)) or not 1 <= condition < math.inf:
        raise fn.InputError("condition", repr(condition), "a number of at least 1")
    generator = torch.Generator().manual_seed(seed)

    def directions(count: int) -> Tensor:
        drawn = torch.randn(count, dimension, generator=generator, dtype=torch.float64)
        return torch.nn.functional.normalize(drawn)

    mirror, curvatures = directions(1)[0], torch.logspace(0, -math.log10(condition), dimension, dtype=torch.float64)

    def bowl(x: Tensor) -> Tensor:
        """The product A x = Q (curvatures * Q x) of every row."""
        return _reflect(curvatures.to(x) * _reflect(x, mirror.to(x)), mirror.to(x))

    q = directions(complexity)
    frequencies = 2 * math.pi / (1.5 + torch.rand(complexity, generator=generator, dtype=torch.float64))
    waves, depths = frequencies[:, None] * q, ROUGHNESS * (q * bowl(q)).sum(1) / frequencies**2
    root = depths.sqrt()[:, None] * waves  # R, for the curvature of the waves is at most |R^T R| = |R R^T|
    bound = 1 + torch.linalg.matrix_norm(root @ root.T, ord=2) if complexity else torch.ones(())

    def value(x: Tensor, batch: Any) -> Tensor:
        if x.ndim == 0 or x.shape[-1] != dimension:
            raise fn.InputError("params", f"shape {tuple(x.shape)}", f"shape (..., {dimension})")
        rises = depths.to(x) * (1 - (x @ waves.to(x).T).cos())
        total: Tensor = 0.5 * (x * bowl(x)).sum() + rises.sum()
        return total / bound.to(x)

    def value_and_grad(x: Tensor, batch: Any) -> tuple[Tensor, Tensor]:
        level = value(x, batch)
        slopes = depths.to(x) * (x @ waves.to(x).T).sin()
        return level, (bowl(x) + slopes @ waves.to(x)) / bound.to(x)

    return fn.Objective(value, value_and_grad)


def _reflect(x: Tensor, mirror: Tensor) -> Tensor:
    """The product Q x of every row, Q = I - 2 v v^T with v the mirror."""
    reflected: Tensor = x - 2 * (x @ mirror)[..., None] * mirror
    return reflected
