"""Schedules: functions k -> r_k of the step, counted from 0, for the numbers of an optimizer.

    sgd(lr=cosine(0.1, steps=1000))
    adam(warmup(cosine(1e-3, steps=900), steps=100))
    momentum(0.1, beta=piecewise(0.5, {100: 0.9}))

Any function will do, such as `lambda k: 0.1 * 0.99**k`: see `hyperparameters`. The ones here take the step as a number or,
as a compiled step gives it, as a tensor without axes.
"""

import math
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError, called, check_count, check_number, describe
from .hyperparameters import Schedule


def cosine(lr: float, steps: int, least: float = 0.0) -> Schedule:
    """Half a wave, r_k = least + (lr - least) (1 + cos(pi k / steps)) / 2, and `least` from then on.

    The same as torch's CosineAnnealingLR(T_max=steps, eta_min=least) up to its end. Loshchilov & Hutter, "SGDR: stochastic
    gradient descent with warm restarts" (2017), arXiv:1608.03983.

    Raises:
        InputError: lr or least is below 0, or steps no positive integer.
    """
    lr, steps, least = check_number("lr", lr), check_count("steps", steps), check_number("least", least)

    def rate(k: Tensor) -> Tensor:
        return least + (lr - least) * (1 + torch.cos(math.pi * k.clamp(max=steps) / steps)) / 2

    return _of_numbers(rate)


def piecewise(lr: float, values: Mapping[int, float]) -> Schedule:
    """Constant pieces, r_k = lr before the first key of `values`, and from each key on its value.

    The same as torch's MultiStepLR(milestones=keys) where each value is gamma times the one before.

    Raises:
        InputError: lr or a value is below 0, or a key no positive integer.
    """
    lr = check_number("lr", lr)
    if not isinstance(values, Mapping):
        raise InputError("values", describe(values), "a mapping of steps to numbers, such as {500: 0.01}")
    pieces = sorted((check_count("values", k), check_number(f"values[{k!r}]", value)) for k, value in values.items())

    def rate(k: Tensor) -> Tensor:
        rate = torch.full_like(k, lr)
        for start, value in pieces:
            rate = torch.where(k >= start, value, rate)
        return rate

    return _of_numbers(rate)


def warmup(lr: float | Schedule, steps: int) -> Schedule:
    """A linear rise to a number or to another schedule r, r_k = min(1, (k + 1) / (steps + 1)) r(max(0, k - steps)).

    So r begins when the rise has ended, after `steps` steps. The same as torch's LinearLR(start_factor=1 / (steps + 1),
    total_iters=steps), followed by r.

    Raises:
        InputError: lr is below 0, or steps no positive integer.
    """
    lr, steps = lr if callable(lr) else check_number("lr", lr), check_count("steps", steps)

    def rate(k: Any) -> Any:
        share, later = (k + 1) / (steps + 1), k - steps
        share, later = (share.clamp(max=1), later.clamp(min=0)) if isinstance(k, Tensor) else (min(1, share), max(0, later))
        found = called("lr(step)", lr, later) if callable(lr) else lr
        if not isinstance(found, (Real, Tensor)) or (isinstance(found, Tensor) and found.ndim):
            raise InputError("lr(step)", describe(found), "a number")
        return share * found

    return rate


def _of_numbers(rate: Callable[[Tensor], Tensor]) -> Schedule:
    """The same function of numbers, for which it gives numbers, and of tensors."""
    return lambda k: (
        rate(k.double()) if isinstance(k, Tensor) else rate(torch.tensor(k, dtype=torch.float64, device="cpu")).item()
    )
