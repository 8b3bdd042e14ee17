"""What no checker may complain about: correct networks, layers, losses and Functions, drawn at random.

A network has 1 to 5 dense layers and about 1 to 100,000 parameters, evenly spread over the decades. In one of four the
weights and inputs are small whole numbers (times a power of 2) and the units rectifiers, so that many a unit stands at 0
exactly, on its kink: there a gradient that torch takes for right must not be called wrong. Some networks fit their
targets exactly, so that every relative error is one of 0.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

import funcnn as fn
from experiments.bugs.corpus import CORPUS
from experiments.bugs.subject import Subject
from funcnn import tree

ACTIVATIONS = (fn.sigmoid, fn.tanh, fn.relu)
LOSSES = {
    "half squared error": fn.half_squared_error,
    "mean squared error": fn.mean_squared_error,
    "binary cross entropy": fn.binary_cross_entropy,
    "softmax cross entropy": fn.softmax_cross_entropy,
}
SOURCES = (fn.explicit, fn.explicit, fn.func_grad, fn.autograd)


class Correct(NamedTuple):
    """A correct subject, its name and size, and whether it stands on kinks."""

    name: str
    subject: Subject
    parameters: int
    kinks: bool


class Draw:
    """Random choices from a seed."""

    def __init__(self, seed: int) -> None:
        """A generator of its own for every network: each can be had without those before it."""
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self, low: float, high: float) -> float:
        """A number between low and high."""
        return low + (high - low) * torch.rand((), generator=self.generator, dtype=torch.float64).item()

    def choice(self, options: Any) -> Any:
        """One of the options."""
        options = list(options)
        return options[int(self.uniform(0, len(options)))]

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers in float64."""
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def whole(self, *shape: int) -> Tensor:
        """-1, 0 or 1, in float64."""
        return torch.randint(-1, 2, shape, generator=self.generator).double()


def network(seed: int) -> Correct:
    """The network of a seed, its gradient by the explicit rules, by torch.func.grad or by autograd."""
    draw = Draw(seed)
    kinks, depth = draw.uniform(0, 4) < 1, draw.choice(range(1, 6))
    width = math.sqrt(10 ** draw.uniform(0, 5) / depth)
    sizes = [max(1, round(width * draw.uniform(0.7, 1.3))) for _ in range(depth + 1)]
    samples, name = round(2 ** draw.uniform(0, 5)), draw.choice(LOSSES)
    layer = fn.mlp(sizes, fn.relu if kinks else draw.choice(ACTIVATIONS))
    params, x = layer.init(draw.generator, dtype=torch.float64), draw.normal(samples, sizes[0])
    if kinks:
        scale = 2.0 ** -round(math.log2(max(sizes)) / 2)
        params = tree.map(lambda leaf: scale * draw.whole(*leaf.shape), params)
        x = draw.whole(*x.shape)
    if name == "binary cross entropy":
        layer, params = fn.serial(layer, fn.sigmoid()), (params, ())
    targets = {
        "binary cross entropy": (draw.normal(samples, sizes[-1]) > 0).double(),
        "softmax cross entropy": torch.randint(sizes[-1], (samples,), generator=draw.generator),
    }.get(name, draw.normal(samples, sizes[-1]))
    step_fn = draw.choice(SOURCES)(fn.supervised(layer, LOSSES[name]()))
    if name.endswith("squared error") and draw.uniform(0, 8) < 1:
        targets = fn.apply(layer, params, x)  # at the minimum, where the gradient is 0
    count = sum(leaf.numel() for leaf in tree.leaves(params))
    described = f"network {seed} ({depth} layers, {count:,} parameters)"
    return Correct(described, Subject(step_fn, (params, (x, targets))), count, kinks and depth > 1)


def pairs(every: int = 1) -> Iterator[Correct]:
    """Layers, losses and Functions, or every n-th: the correct twins of the corpus, and layers of random sizes."""
    twins = {name.split(":")[0]: bug.right for name, bug in CORPUS.items() if bug.level != "network"}
    for where, right in list(twins.items())[::every]:
        yield Correct(where, right(), 0, where in ("relu at zeros", "abs at zeros", "maximum of ties"))
    for seed in range(0, 40, every):
        draw = Draw(seed)
        samples, features, units = (round(2 ** draw.uniform(0, 5)) for _ in range(3))
        kinds = (
            fn.sigmoid(),
            fn.tanh(),
            fn.relu(),
            fn.softmax(),
            fn.dense(features, units),
            fn.autoencoder([features, units]),
        )
        layer = draw.choice(kinds)
        inputs = layer.init(draw.generator, dtype=torch.float64), draw.normal(samples, features)
        yield Correct(f"layer {seed}", Subject(layer, inputs), 0, False)
