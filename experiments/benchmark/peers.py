"""The alternatives that a user would pick instead, each as plain functions. Those not installed are left out and named."""

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from experiments.core.classic import classic_step, copy_params
from funcnn import tree

PACKAGES = {"backpack": "backpack-for-pytorch"}  # where the package is not named as the module
OPTIONAL = ("jax", "opacus", "backpack", "scipy", "numdifftools")


def installed(name: str) -> bool:
    """Whether an optional peer can be imported."""
    return importlib.util.find_spec(name) is not None


def missing() -> list[str]:
    """The packages of the peers that are not installed."""
    return [PACKAGES.get(name, name) for name in OPTIONAL if not installed(name)]


def network(params: Any, sizes: tuple[int, ...]) -> nn.Sequential:
    """The same network as an nn.Module, with the same parameters."""
    _, features, hidden, classes = sizes
    module = nn.Sequential(nn.Linear(features, hidden), nn.Sigmoid(), nn.Linear(hidden, classes))
    module = module.to(device=params[0]["w"].device, dtype=params[0]["w"].dtype)
    copy_params(params, module)
    return module


def classic(params: Any, batch: Any, sizes: tuple[int, ...], lr: float) -> tuple[nn.Sequential, Callable[[], Any]]:
    """Classic PyTorch: the module, and a function that takes one step."""
    return stepping(network(params, sizes), batch, lr)


def deep_classic(params: Any, batch: Any, lr: float) -> tuple[nn.Sequential, Callable[[], Any]]:
    """The same for dense layers with a tanh after each, as many as there are parameters for."""
    sizes = [own["w"].shape for own in params if own]
    module = nn.Sequential(*(made for before, after in sizes for made in (nn.Linear(before, after), nn.Tanh())))
    module = module.to(device=params[0]["w"].device, dtype=params[0]["w"].dtype)
    copy_params(params, module)
    return stepping(module, batch, lr)


def stepping(module: nn.Sequential, batch: Any, lr: float) -> tuple[nn.Sequential, Callable[[], Any]]:
    """The module, and a function that takes one step on the batch."""
    step = classic_step(module, nn.CrossEntropyLoss(), lr)
    return module, lambda: step(batch)


def jax_steps(params: Any, batch: Any, lr: float, count: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """JAX: one jitted step, and `count` steps inside one lax.scan; each returns (parameters, values)."""
    import jax
    from jax import numpy as jnp

    def as_jax(x: torch.Tensor) -> Any:
        return jnp.asarray(x.detach().cpu().contiguous().numpy())

    (first, _, last), (inputs, targets) = params, batch
    start = [{name: as_jax(leaf) for name, leaf in dense.items()} for dense in (first, last)]
    x, t = as_jax(inputs), as_jax(targets)

    def loss(params: Any, x: Any, t: Any) -> Any:
        hidden = jax.nn.sigmoid(x @ params[0]["w"] + params[0]["b"])
        log_p = jax.nn.log_softmax(hidden @ params[1]["w"] + params[1]["b"])
        return -jnp.take_along_axis(log_p, t[:, None], 1).mean()

    def step(params: Any, batch: Any) -> Any:
        value, grads = jax.value_and_grad(loss)(params, *batch)
        return jax.tree.map(lambda w, g: w - lr * g, params, grads), value

    jitted, scanned = jax.jit(step), jax.jit(lambda params, batches: jax.lax.scan(step, params, batches))
    stacked = jnp.stack([x] * count), jnp.stack([t] * count)

    return (
        lambda: jax.block_until_ready(jitted(start, (x, t))),
        lambda: jax.block_until_ready(scanned(start, stacked)),
    )


def from_jax(params: Any) -> list[torch.Tensor]:
    """The leaves of a JAX tree as tensors."""
    import jax

    return [torch.tensor(leaf.__array__()) for leaf in jax.tree.leaves(params)]


def opacus_gradients(params: Any, batch: Any, sizes: tuple[int, ...]) -> Callable[[], list[torch.Tensor]]:
    """Opacus: per-sample gradients by hooks, in the order of the tree's leaves (b, w of each layer)."""
    from opacus import GradSampleModule

    module, criterion = GradSampleModule(network(params, sizes), loss_reduction="sum"), nn.CrossEntropyLoss(reduction="sum")

    def gradients() -> list[torch.Tensor]:
        module.zero_grad(set_to_none=True)
        criterion(module(batch[0]), batch[1]).backward()
        (w1, b1, w2, b2) = (p.grad_sample for p in module.parameters())
        return [b1, w1.mT, b2, w2.mT]

    return gradients


def backpack_gradients(params: Any, batch: Any, sizes: tuple[int, ...]) -> Callable[[], list[torch.Tensor]]:
    """BackPACK: per-sample gradients by its BatchGrad extension, in the order of the tree's leaves."""
    from backpack import backpack, extend
    from backpack.extensions import BatchGrad

    module, criterion = extend(network(params, sizes)), extend(nn.CrossEntropyLoss(reduction="sum"))

    def gradients() -> list[torch.Tensor]:
        module.zero_grad()
        with backpack(BatchGrad()):
            criterion(module(batch[0]), batch[1]).backward()
        (w1, b1, w2, b2) = (p.grad_batch for p in module.parameters())
        return [b1, w1.mT, b2, w2.mT]

    return gradients


def vmapped_gradients(objective: Any, params: Any, batch: Any) -> Callable[[], list[torch.Tensor]]:
    """torch.func: vmap over the samples of grad."""

    def value(params: Any, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return objective.value(params, (x[None], t[None]))

    mapped = torch.func.vmap(torch.func.grad(value), (None, 0, 0))
    return lambda: tree.leaves(mapped(params, *batch))


def scipy_gradient(value: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """SciPy's central differences of all parameters."""
    from scipy.optimize._numdiff import approx_derivative

    slopes = approx_derivative(lambda point: value(torch.from_numpy(point)).item(), x.numpy(), method="3-point")
    return torch.from_numpy(slopes)


def numdifftools_gradient(value: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, count: int) -> torch.Tensor:
    """The extrapolated differences of numdifftools, of the first `count` parameters."""
    import numdifftools

    def of_head(head: Any) -> float:
        return value(torch.cat([torch.from_numpy(head), x[count:]])).item()

    return torch.from_numpy(numdifftools.Gradient(of_head)(x[:count].numpy()))
