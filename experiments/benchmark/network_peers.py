"""The peers of the transformer and of LeNet-5: JAX, torch.compile, Opacus by its hooks and by ghost clipping."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from experiments.benchmark.peers import from_jax
from experiments.core import modules
from experiments.core.beside import cross_entropy
from funcnn import tree

Step = Callable[[], Any]


def classic(module: nn.Module, batch: Any, lr: float, value: Any = None) -> Step:
    """A step of classic PyTorch; `value` is a function of the batch that is compiled, or nothing."""
    optimizer = torch.optim.SGD(module.parameters(), lr=lr)
    value = value or (lambda x, t: cross_entropy(module(x), t))

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = value(*batch)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def torch_compile(module: nn.Module, batch: Any, lr: float) -> Step:
    """The same with the loss and its gradient by torch.compile."""
    return classic(module, batch, lr, torch.compile(lambda x, t: cross_entropy(module(x), t)))


def jax_step(forward: Callable[[Any, Any], Any], params: Any, batch: Any, lr: float) -> Callable[[], list[Tensor]]:
    """A step of JAX, jitted: the leaves of the parameters after it."""
    import jax
    from jax import numpy as jnp

    start, (x, t) = tree.map(lambda leaf: jnp.asarray(leaf.contiguous().numpy()), (params, batch))

    def loss(params: Any, x: Any, t: Any) -> Any:
        log_p = jax.nn.log_softmax(forward(params, x))
        return -jnp.take_along_axis(log_p, t[..., None], -1).mean()

    @jax.jit
    def step(params: Any, x: Any, t: Any) -> Any:
        return jax.tree.map(lambda w, g: w - lr * g, params, jax.grad(loss)(params, x, t))

    return lambda: jax.block_until_ready(step(start, x, t))


def jax_transformer(heads: int) -> Callable[[Any, Any], Any]:
    """The decoder in jax.numpy, of funcnn's tree of parameters."""
    import jax
    from jax import numpy as jnp

    def affine(params: Any, x: Any) -> Any:
        return x @ params["w"] + params["b"]

    def norm(params: Any, x: Any) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        return centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * params["w"] + params["b"]

    def attention(params: Any, x: Any) -> Any:
        samples, tokens, features = x.shape
        q, k, v = jnp.split(affine(params["qkv"], x).reshape(samples, tokens, 3, heads, -1), 3, 2)
        scores = jnp.einsum("nthd,nshd->nhts", q[:, :, 0], k[:, :, 0]) / math.sqrt(features // heads)
        scores = jnp.where(jnp.tril(jnp.ones((tokens, tokens), bool)), scores, -jnp.inf)
        y = jnp.einsum("nhts,nshd->nthd", jax.nn.softmax(scores), v[:, :, 0])
        return affine(params["out"], y.reshape(x.shape))

    def forward(params: Any, x: Any) -> Any:
        tokens, places, *blocks, last, head = params
        y = tokens["w"][x] + places["w"][: x.shape[1]]
        for (before, attend), (between, up, _, down) in zip(blocks[::2], blocks[1::2], strict=True):
            y = y + attention(attend, norm(before, y))
            y = y + affine(down, jax.nn.gelu(affine(up, norm(between, y)), approximate=False))
        return affine(head, norm(last, y))

    return forward


def jax_lenet(params: Any, x: Any) -> Any:
    """LeNet-5 in JAX, of funcnn's tree of parameters."""
    import jax
    from jax import numpy as jnp

    def convolved(params: Any, x: Any, padding: int) -> Any:
        y = jax.lax.conv_general_dilated(x, params["w"], (1, 1), [(padding, padding)] * 2)
        y = jnp.tanh(y + params["b"][:, None, None])
        return jax.lax.reduce_window(y, 0.0, jax.lax.add, (1, 1, 2, 2), (1, 1, 2, 2), "VALID") / 4

    first, _, _, second, _, _, _, *denses = params
    y = convolved(second, convolved(first, x, 2), 0).reshape(len(x), -1)
    for index, dense in enumerate(denses[::2]):
        y = y @ dense["w"] + dense["b"]
        y = jnp.tanh(y) if index < 2 else y
    return y


def opacus_norms(params: Any, made: Callable[[], nn.Module], batch: Any, ghost: bool) -> Callable[[], Tensor]:
    """The norms of the samples' gradients by Opacus: of gradients that its hooks keep, or by ghost clipping."""
    from opacus import GradSampleModule
    from opacus.grad_sample import GradSampleModuleFastGradientClipping

    of_module = GradSampleModuleFastGradientClipping if ghost else GradSampleModule
    network = modules.copied(params, made())
    for child in network.children():
        if isinstance(child, modules.Positions):
            child.of_each = True  # its hooks look for the samples in everything that has parameters
    module: Any = of_module(network, loss_reduction="sum")
    samples, (x, t) = len(batch[0]), batch

    def norms() -> Tensor:
        module.zero_grad(set_to_none=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Full backward hook is firing")  # tokens have no gradient
            return norms_of(module(x))

    def norms_of(outputs: Tensor) -> Tensor:
        (cross_entropy(outputs, t) * samples).backward()
        if ghost:
            return module.get_norm_sample()
        squares = [p.grad_sample.flatten(1).square().sum(1) for p in module.parameters()]
        return torch.stack(squares).sum(0).sqrt()

    return norms


def vmapped_norms(params: Any, made: Callable[[], nn.Module], batch: Any) -> Callable[[], Tensor]:
    """The same by torch.func: vmap over the samples of grad."""
    module = modules.copied(params, made())
    own = {name: parameter.detach() for name, parameter in module.named_parameters()}

    def value(own: Any, x: Tensor, t: Tensor) -> Tensor:
        return cross_entropy(torch.func.functional_call(module, own, (x[None],)), t[None])

    mapped = torch.func.vmap(torch.func.grad(value), (None, 0, 0))

    def norms() -> Tensor:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "There is a performance drop")  # torch's attention has no rule for vmap
            return torch.stack([g.flatten(1).square().sum(1) for g in mapped(own, *batch).values()]).sum(0).sqrt()

    return norms


def after_jax(step: Callable[[], Any]) -> list[Tensor]:
    """The parameters after a step of JAX."""
    return from_jax(step())
