"""LeNet-5 and the decoder of a small GPT as one writes them with torch's modules, the other side of comparisons.

`leaves_of` lists the parameters of such a module in the order of the leaves of funcnn's tree, each as the tree has it.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from funcnn import tree


def leaves_of(module: nn.Module, of_gradients: bool = False) -> list[Tensor]:
    """The parameters of a module, or their gradients, views in the order of the tree's leaves: a bias before its matrix."""

    def own(parameter: Any) -> list[Tensor]:
        return [] if parameter is None else [parameter.grad if of_gradients else parameter.detach()]

    if isinstance(module, nn.Linear):
        return [*own(module.bias), *(leaf.T for leaf in own(module.weight))]
    if isinstance(module, (nn.Conv2d, nn.LayerNorm, nn.BatchNorm1d)):
        return own(module.bias) + own(module.weight)
    if isinstance(module, nn.Embedding):
        return own(module.weight)
    if isinstance(module, nn.ParameterList):
        return [leaf for parameter in module for leaf in own(parameter)]
    if isinstance(module, nn.RNNBase):  # whose second bias is no parameter of ours
        return [*own(module.bias_ih_l0), *(leaf.T for leaf in own(module.weight_hh_l0) + own(module.weight_ih_l0))]
    return [leaf for child in module.children() for leaf in leaves_of(child, of_gradients)]


def copied(params: Any, module: nn.Module) -> nn.Module:
    """The module itself, after its parameters became those of a tree, where these lie."""
    module = module.to(tree.leaves(params)[0].device)
    for ours, theirs in zip(tree.leaves(params), leaves_of(module), strict=True):
        theirs.copy_(ours)
    return module


def lenet() -> nn.Sequential:
    """LeNet-5 as funcnn.lenet()."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        *(nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10)),
    )


class Attention(nn.Module):
    """Causal self-attention, by torch's own fused kernel."""

    def __init__(self, features: int, heads: int) -> None:
        """In the order of the tree: out before qkv."""
        super().__init__()
        self.out, self.qkv = nn.Linear(features, features), nn.Linear(features, 3 * features)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, D) -> (N, T, D)."""
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).split(x.shape[-1], -1))
        return self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


class Residual(nn.Module):
    """x + f(x)."""

    def __init__(self, *inner: nn.Module) -> None:
        """Of modules in series."""
        super().__init__()
        self.inner = nn.Sequential(*inner)

    def forward(self, x: Tensor) -> Tensor:
        """X + f(x)."""
        return x + self.inner(x)


class Positions(nn.Module):
    """Adds the first rows of a table."""

    def __init__(self, length: int, features: int) -> None:
        """A row for every position."""
        super().__init__()
        self.table = nn.Embedding(length, features)
        self.of_each = False  # whether the rows are looked up for each sample, and not for all at once

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, D) -> (N, T, D)."""
        places = torch.arange(x.shape[1], device=x.device)
        return x + self.table(places.repeat(len(x), 1) if self.of_each else places)


class LSTM(nn.LSTM):
    """The outputs alone, (N, T, D) -> (N, T, H), with one bias: the second is 0 and stays there."""

    def __init__(self, in_features: int, hidden: int) -> None:
        """One layer."""
        super().__init__(in_features, hidden, batch_first=True)
        nn.init.zeros_(self.bias_hh_l0).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """All of the h_t."""
        return super().forward(x)[0]


def transformer(vocabulary: int, length: int, features: int, heads: int, depth: int) -> nn.Sequential:
    """The decoder as funcnn.transformer(...)."""

    def block() -> tuple[nn.Module, nn.Module]:
        up, down = nn.Linear(features, 4 * features), nn.Linear(4 * features, features)
        attend = Residual(nn.LayerNorm(features), Attention(features, heads))
        return attend, Residual(nn.LayerNorm(features), up, nn.GELU(), down)

    ends = nn.LayerNorm(features), nn.Linear(features, vocabulary)
    halves = [half for _ in range(depth) for half in block()]
    return nn.Sequential(nn.Embedding(vocabulary, features), Positions(length, features), *halves, *ends)
