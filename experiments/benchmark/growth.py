"""How the time of a step grows: an mlp with its batch, width and depth, a transformer with its tokens, width and depth."""

from collections.abc import Callable
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple

import torch
from torch import nn

import funcnn as fn
from experiments.benchmark.network_peers import classic
from experiments.benchmark.presentation import at
from experiments.core import modules
from experiments.core.scene import products
from experiments.core.timing import interleaved
from funcnn.plots import COLORS, figure

LR = 0.01
SIZES = (4, 16, 64, 256, 1024, 4096)
VOCABULARY, HEADS = 65, 4


class Network(NamedTuple):
    """A network, the same in torch, a batch, and the floating point operations of a step's products by its parameters."""

    layer: fn.Layer
    module: nn.Module
    batch: Any
    flops: Callable[[Any], int]


class Point(NamedTuple):
    """One network: where it stands on its axis, its parameters, its matrix multiplications, and seconds per step."""

    x: int
    parameters: int
    flops: int
    explicit: float
    classic: float


def mlp(samples: int, sizes: list[int], generator: torch.Generator) -> Network:
    """An mlp on random data."""
    pairs = zip(sizes[:-1], sizes[1:], strict=True)
    made = [part for before, after in pairs for part in (nn.Linear(before, after), nn.Sigmoid())]
    inputs = torch.randn(samples, sizes[0], generator=generator, dtype=torch.float32)
    batch = inputs, torch.zeros(samples, dtype=torch.int64)
    return Network(fn.mlp(sizes), nn.Sequential(*made[:-1]), batch, lambda params: products(params, samples))


def transformer(tokens: int, features: int, depth: int, generator: torch.Generator) -> Network:
    """A transformer on a text of random tokens; its matrices meet every token three times, and so do keys and values."""
    sizes = (VOCABULARY, tokens, features, HEADS, depth)
    batch = tuple(torch.randint(VOCABULARY, (1, tokens), generator=generator) for _ in range(2))

    def flops(params: Any) -> int:
        matrices = sum(leaf.numel() for leaf in fn.tree.leaves(params[2:]) if leaf.ndim == 2)
        return 6 * tokens * matrices + 6 * depth * tokens**2 * features  # causal: half of 2 products, forward and twice back

    return Network(fn.transformer(*sizes), modules.transformer(*sizes), batch, flops)


# of: (what stands on the axis, the network)
SWEEPS: dict[str, list[tuple[int, Callable[[torch.Generator], Network]]]] = {
    "batch size N": [(n, partial(mlp, n, [256, 256, 10])) for n in SIZES],
    "width D = H": [(h, partial(mlp, 128, [h, h, 10])) for h in SIZES],
    "depth (hidden layers)": [(depth, partial(mlp, 64, [64] * (depth + 1) + [10])) for depth in (1, 4, 16, 64, 256, 1000)],
    "tokens T of a transformer": [(t, partial(transformer, t, 128, 2)) for t in (16, 64, 256, 1024)],
    "width D of a transformer": [(d, partial(transformer, 64, d, 2)) for d in (32, 64, 128, 256, 512)],
    "depth of a transformer": [(depth, partial(transformer, 64, 64, depth)) for depth in (1, 2, 4, 8, 16)],
}


def run(threads: int, generator: torch.Generator, device: str) -> dict[str, Any]:
    """Every sweep's points, the share of the machine's best matmul that each reaches, and the slopes of the large half."""
    rate = matmul_rate(device)
    points = {name: [measure(x, make(generator), generator, device) for x, make in sweep] for name, sweep in SWEEPS.items()}
    points["parameters"] = [point._replace(x=point.parameters) for point in points["width D = H"]]
    slopes = {name: {side: slope(path, side) for side in ("explicit", "classic")} for name, path in points.items()}
    shares = {name: [point.flops / rate / point.explicit for point in path] for name, path in points.items()}
    plain = {name: [point._asdict() for point in path] for name, path in points.items()}
    return {"threads": threads, "flops per second": rate, "points": plain, "slopes": slopes, "shares": shares}


def measure(x: int, network: Network, generator: torch.Generator, device: str) -> Point:
    """A step of explicit and of classic on one network, in turns."""
    params = network.layer.init(generator, dtype=torch.float32, device=device)
    module = modules.copied(params, network.module.to(dtype=torch.float32))
    batch = tuple(leaf.to(device) for leaf in network.batch)
    step_fn = fn.explicit(fn.supervised(network.layer, fn.softmax_cross_entropy()))
    sides = {
        "explicit": partial(next, fn.train(step_fn, fn.sgd(LR), params, repeat(batch))),
        "classic": classic(module, batch, LR),
    }
    timing = interleaved(sides, rounds=5, slice_seconds=0.01, seconds=4, device=device)
    parameters = sum(leaf.numel() for leaf in fn.tree.leaves(params))
    return Point(x, parameters, network.flops(params), timing.seconds("explicit"), timing.seconds("classic"))


def matmul_rate(device: str) -> float:
    """The best rate of this machine: products of square matrices, as the library computes them."""
    a = torch.randn(1024, 1024, dtype=torch.float32, device=device)
    layer, params = fn.dense(1024, 1024), {"w": a, "b": a[0]}
    timing = interleaved({"product": lambda: fn.apply(layer, params, a)}, rounds=9, device=device)
    return 2 * 1024**3 / min(timing.rounds["product"])


def slope(path: list[Point], side: str) -> float:
    """The exponent d log(time) / d log(x) over the larger half of a sweep, by least squares."""
    large = path[len(path) // 2 :]
    x = torch.tensor([point.x for point in large], dtype=torch.float64).log()
    t = torch.tensor([getattr(point, side) for point in large], dtype=torch.float64).log()
    return (((x - x.mean()) * (t - t.mean())).sum() / (x - x.mean()).square().sum()).item()


def draw(growth: dict[str, Any]) -> tuple[Any, str]:
    """Time per step on logarithmic axes, the matmul bound under it, the slopes in the legend."""
    drawing, axes = figure(len(growth["points"]), rows=2, height=7.2)
    for axis, (name, path) in zip(axes, growth["points"].items(), strict=True):
        x = [point["x"] for point in path]
        for side, color, dash in (("classic", COLORS[5], "-"), ("explicit", COLORS[1], "--")):
            label = f"{side}, slope {growth['slopes'][name][side]:.2f}"
            axis.loglog(x, [1e6 * p[side] for p in path], color=color, linestyle=dash, marker=".", label=label)
        bound = [1e6 * p["flops"] / growth["flops per second"] for p in path]
        axis.loglog(x, bound, color="black", linewidth=1, linestyle=":", label="matmuls alone")
        axis.set(xlabel=name, ylabel="time per step (µs)")
        if name != "parameters":
            axis.set_xticks(x, x)
            axis.set_xticks([], minor=True)
        axis.legend(frameon=False, fontsize="small")
    return drawing, f"Growth of the time per step at {at(growth['threads'])}; slopes over the larger half."
