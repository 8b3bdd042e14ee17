"""The optimizer that small GPTs are trained with, as a Transformation and as torch's: AdamW with a schedule and a bound.

At step t = 0, 1, ... of n, with w steps of warm-up,

    g <- g min(1, c / (|g| + 1e-6))                     |g| over all parameters; torch's 1e-6 keeps 0 / 0 away
    r = lr (t + 1) / (w + 1) for t < w, else b + (lr - b) (1 + cos(pi (t - w) / (n - w))) / 2
    w <- w - r m_hat / (sqrt(v_hat) + eps) - r d w      d = 0 but for matrices

with the moments of Adam: Loshchilov & Hutter, "Decoupled weight decay regularization" (2019), arXiv:1711.05101.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import funcnn as fn


class AdamW(NamedTuple):
    """Its numbers: the rates lr and b, the steps of warm-up and in all, Adam's betas, the decay d and the bound c."""

    steps: int
    lr: float
    least: float
    warm_up: int
    betas: tuple[float, float]
    decay: float = 0.1
    bound: float = 1.0

    def rate(self, t: Tensor) -> Tensor:
        """The learning rate of step t."""
        done = (t - self.warm_up) / max(1, self.steps - self.warm_up)
        cosine = self.least + (self.lr - self.least) * (1 + torch.cos(math.pi * done)) / 2
        return torch.where(t < self.warm_up, self.lr * (t + 1) / (self.warm_up + 1), cosine)

    def transformation(self) -> fn.Transformation:
        """The updates of it, made of Adam's at rate 1. The state is Adam's."""
        adam = fn.adam(1.0, self.betas)

        def update(grads: Any, state: Any, params: Any) -> tuple[Any, Any]:
            norm = fn.tree.dot(grads, grads).sqrt()
            grads = fn.tree.map(lambda g: g * (self.bound / (norm + 1e-6)).clamp(max=1), grads)
            rate = self.rate(state.steps)
            updates, state = adam.update(grads, state, params=params)

            def step(u: Tensor, w: Tensor) -> Tensor:
                return rate.to(w.dtype) * (u - self.decay * w if w.ndim > 1 else u)

            return fn.tree.map(step, updates, params), state

        return fn.Transformation(adam.init, update)

    def classic_step(self, module: nn.Module, criterion: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Any], Tensor]:
        """One step of classic training, a function of the batch; the parameters change in place."""
        matrices = [parameter for parameter in module.parameters() if parameter.ndim > 1]
        others = [parameter for parameter in module.parameters() if parameter.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": self.decay}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=self.lr, betas=self.betas)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: self.rate(torch.tensor(t)).item() / self.lr)

        def step(batch: Any) -> Tensor:
            inputs, targets = batch
            optimizer.zero_grad()
            loss = criterion(module(inputs), targets)
            loss.backward()
            nn.utils.clip_grad_norm_(module.parameters(), self.bound)
            optimizer.step()
            schedule.step()
            return loss.detach()

        return step
