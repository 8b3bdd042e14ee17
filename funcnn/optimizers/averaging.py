"""Averages of the points that an optimizer went through: they are nearer to the minimum than the noisy last one."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import kernels, tree
from ..errors import called
from ..types import At, Optimizer, Params, State, Step, loadable
from .descent import lift_optimizer
from .hyperparameters import Hyperparameter, at_step, number


@loadable
class Averaged(NamedTuple):
    """The average a, the number of steps t in it, and the state of the optimizer itself."""

    average: Params
    steps: Tensor
    state: State


def averaged(optimizer_fn: Any, beta: Hyperparameter | None = None) -> Optimizer:
    """The same optimizer, whose state keeps an average of its points w_1, ..., w_t too, `step.state.average`.

        a <- a + (w - a) / t               without beta: their mean (Polyak & Juditsky 1992)
        a <- a + (1 - beta) (w - a)        with: an exponential one, which is w at t = 1

    The parameters of a step stay those of the optimizer. The start is no part of the average, which is w_0 until the first
    step. The same as torch.optim.swa_utils.AveragedModel, with get_ema_multi_avg_fn(beta) where there is a beta.

    Raises:
        InputError: as `train` for an optimizer_fn; beta outside [0, 1).
    """
    optimizer = lift_optimizer(optimizer_fn)

    def share(k: Any) -> Any:
        """That of w_t at t = k + 1."""
        if beta is None:
            return 1 / (k + 1)
        own = 1 - number("beta", at_step(k, "beta", beta), below=1)
        return torch.where(k == 0, 1.0, own) if isinstance(k, Tensor) else own if k else 1.0

    share(0)

    def init(params: Params) -> Averaged:
        start = called("optimizer_fn.init(params)", optimizer.init, params)
        return Averaged(tree.clone(params), torch.zeros((), dtype=torch.float64, device="cpu"), start)

    def step(at: At, params: Params, state: Averaged) -> Step:
        params, inner, value = optimizer.step(at, params, state.state)
        own = share(state.steps if kernels.under_transform() else int(state.steps))
        average = tree.map(lambda a, w: kernels.between(a, w, own), state.average, params)
        return Step(params, Averaged(average, state.steps + 1, inner), value)

    return Optimizer(init, step)
