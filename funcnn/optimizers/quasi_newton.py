"""BFGS: Newton's method for those who have gradients only. It learns the inverse Hessian H from how the gradient changes.

Newton's step is -A^-1 g, with A the Hessian. Along a step s the gradient changes by y = A s to first order, so an
approximation H of A^-1 should satisfy H y = s. Of all symmetric matrices that do, the update takes the one nearest to
the last H, in a norm that makes the result independent of the scale of the parameters:

    H <- (I - r s y^T) H (I - r y s^T) + r s s^T,        r = 1 / (s^T y)

It keeps H positive definite, so that -H g leads downhill, where s^T y > 0. A step length alpha with both of Wolfe's
conditions makes sure of that, p = -H g being the direction:

    L(w + alpha p) <= L(w) + decrease alpha g^T p        it is short enough to lower the loss
    g(w + alpha p)^T p >= curvature g^T p                and long enough for the slope to have flattened

Nocedal & Wright, *Numerical Optimization* (2006), chapter 6: equations 6.17 (the update) and 6.20 (the first scale).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .. import tree
from ..errors import check_count, check_number
from ..memory import check_memory
from ..types import At, Optimizer, Params, Step, loadable
from .hyperparameters import Hyperparameter, scheduled

MATRICES = 5  # (n, n), held at once while H is updated


@loadable
class BFGSState(NamedTuple):
    """H (n, n) for all n parameters as one vector, how often it was updated, and what the last search did."""

    inverse_hessian: Tensor
    updates: int = 0
    alpha: float = 0.0
    evaluations: int = 0


@scheduled
def bfgs(
    lr: Hyperparameter = 1.0,
    decrease: Hyperparameter = 1e-4,
    curvature: Hyperparameter = 0.9,
    max_evaluations: int = 60,
) -> Optimizer:
    """Broyden, Fletcher, Goldfarb and Shanno (1970): w <- w - alpha H g, H updated by what the gradient did on the way.

    The search starts with alpha = lr, doubles it where the slope is still steep and goes back halfway where the loss
    is too high (Lewis & Overton 2013, "Nonsmooth optimization via quasi-Newton methods"). Every trial is one value and
    gradient, on the batch of the step, so that y compares gradients of the same function. alpha is 0 and w stays where
    no trial lowers the loss. Memory and time of a step grow with n^2; it looks at numbers, so it runs eagerly.

    Raises:
        InputError: lr is not positive, decrease outside [0, 1) or curvature outside [decrease, 1); (at the start) more
            parameters than there is memory for.
    """
    lr, decrease = check_number("lr", lr, minimum=math.ulp(0)), check_number("decrease", decrease, below=1)
    curvature = check_number("curvature", curvature, minimum=decrease, below=1)  # else no step may satisfy both
    max_evaluations = check_count("max_evaluations", max_evaluations)

    def init(params: Params) -> BFGSState:
        w, _ = tree.ravel(params)
        held = MATRICES * len(w) ** 2 * w.itemsize
        check_memory("params", f"{len(w)} numbers, for which bfgs keeps matrices", held, w.device)
        return BFGSState(_identity(w))

    def step(at: At, params: Params, state: BFGSState) -> Step:
        value, grads = at(params)
        (w, unravel), (g, _) = tree.ravel(params), tree.ravel(grads)
        h, updates = state.inverse_hessian, state.updates
        if not updates or not g @ h @ g > 0:  # nothing is known yet, or rounding has cost H its definiteness
            h, updates = _identity(w) / g.norm().clamp(min=1), 0  # a first step of length lr at most
        p = -(h @ g)

        def along(alpha: float) -> tuple[float, Tensor]:
            loss, grads = at(unravel(w + alpha * p))
            return loss.item(), tree.ravel(grads)[0]

        def short(alpha: float, loss: float) -> bool:
            return bool(loss <= value.item() + decrease * alpha * (g @ p).item())

        def long(gradient: Tensor) -> bool:
            return bool(gradient @ p >= curvature * (g @ p))

        alpha, there, evaluations = _search(along, short, long, lr, max_evaluations)
        if not alpha:
            return Step(params, BFGSState(h, updates, 0.0, evaluations), value)
        s, y = alpha * p, there - g
        if s @ y > 0:
            h, updates = _updated(h if updates else (s @ y) / (y @ y) * _identity(w), s, y), updates + 1
        return Step(unravel(w + s), BFGSState(h, updates, alpha, evaluations), value)

    return Optimizer(init, step)


def _identity(w: Tensor) -> Tensor:
    return torch.eye(len(w), dtype=w.dtype, device=w.device)


def _updated(h: Tensor, s: Tensor, y: Tensor) -> Tensor:
    """The H nearest to the last one, (n, n), that maps y (n,) to s (n,): the products of the formula multiplied out."""
    r, hy = 1 / (s @ y), h @ y
    return h - r * (torch.outer(hy, s) + torch.outer(s, hy)) + r * (1 + r * (y @ hy)) * torch.outer(s, s)


def _search(
    along: Callable[[float], tuple[float, Tensor]],
    short: Callable[[float, float], bool],
    long: Callable[[Tensor], bool],
    alpha: float,
    max_evaluations: int,
) -> tuple[float, Tensor, int]:
    """(alpha, gradient there, evaluations) of the first trial that is neither too long nor too short.

    Where there is none, of the last that is not too long, and of none at all alpha is 0.
    """
    low, high = 0.0, math.inf
    found = torch.zeros(0)
    for evaluations in range(1, max_evaluations + 1):
        loss, gradient = along(alpha)
        if not short(alpha, loss):
            high = alpha
        elif long(gradient):
            return alpha, gradient, evaluations
        else:
            low, found = alpha, gradient
        alpha = 2 * low if high == math.inf else (low + high) / 2
    return low, found, max_evaluations
