"""Classic PyTorch, the other side of every comparison: nn.Linear, a loss module, `.backward()` and `torch.optim`."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def copy_params(params: Any, module: nn.Sequential) -> None:
    """Gives the module's linear layers the parameters of the corresponding dense layers (torch keeps W transposed)."""
    linears = [child for child in module if isinstance(child, nn.Linear)]
    with torch.no_grad():
        for dense, linear in zip((p for p in params if p), linears, strict=True):
            linear.weight.copy_(dense["w"].T)
            linear.bias.copy_(dense["b"])


def as_params(module: nn.Sequential) -> Any:
    """The module's parameters as funcnn's tree, for comparison."""
    return tuple(
        {"w": child.weight.detach().T, "b": child.bias.detach()} if isinstance(child, nn.Linear) else () for child in module
    )


def classic_step(
    module: nn.Module, criterion: Callable[..., Tensor], lr: float, kind: type[torch.optim.Optimizer] = torch.optim.SGD
) -> Callable[[Any], Tensor]:
    """One step of classic training, a function of the batch; the parameters change in place."""
    optimizer: Any = kind(module.parameters(), lr=lr)  # type: ignore[call-arg]

    def step(batch: Any) -> Tensor:
        inputs, targets = batch
        optimizer.zero_grad()
        loss = criterion(module(inputs), targets)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step
