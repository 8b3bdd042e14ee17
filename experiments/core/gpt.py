"""How small GPTs are trained, by ours and by torch's: AdamW of bounded gradients, whose rate warms up and then falls.

Matrices alone decay.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.optim import AdamW, lr_scheduler

import funcnn as fn


class Recipe(NamedTuple):
    """Its numbers: the steps, the largest and the least rate, the steps of warm-up, Adam's betas, the decay, the bound."""

    steps: int
    lr: float
    least: float
    warm_up: int
    betas: tuple[float, float]
    decay: float = 0.1
    bound: float = 1.0

    @property
    def falling(self) -> int:
        """The steps in which the rate falls."""
        return max(1, self.steps - self.warm_up)

    def transformation(self, params: Any) -> fn.Transformation:
        """The updates of such parameters."""
        rate = fn.warmup(fn.cosine(self.lr, self.falling, self.least), self.warm_up)
        decays = fn.tree.map(lambda w: self.decay if w.ndim > 1 else 0.0, params)
        return fn.chain(fn.clip_by_norm(self.bound), fn.adamw(rate, self.betas, weight_decay=decays))

    def classic_step(self, module: nn.Module, criterion: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Any], Tensor]:
        """One step of classic training, a function of the batch; the parameters change in place."""
        matrices = [parameter for parameter in module.parameters() if parameter.ndim > 1]
        others = [parameter for parameter in module.parameters() if parameter.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": self.decay}, {"params": others, "weight_decay": 0.0}]
        optimizer = AdamW(groups, lr=self.lr, betas=self.betas)
        rise = lr_scheduler.LinearLR(optimizer, 1 / (self.warm_up + 1), total_iters=self.warm_up)
        fall = lr_scheduler.CosineAnnealingLR(optimizer, self.falling, self.least)
        schedule = lr_scheduler.SequentialLR(optimizer, [rise, fall], [self.warm_up])

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
