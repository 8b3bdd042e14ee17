"""How the time of a step grows with the batch, the width, the depth and the number of parameters."""

from functools import partial
from itertools import repeat
from typing import Any, NamedTuple

import torch
from torch import nn

import funcnn as fn
from experiments.core.classic import classic_step, copy_params
from experiments.core.scene import products
from experiments.core.timing import interleaved
from funcnn.plots import COLORS, figure

LR = 0.01
SWEEPS: dict[str, list[tuple[int, list[int]]]] = {  # of: (N, sizes of the layers)
    "batch size N": [(n, [256, 256, 10]) for n in (4, 16, 64, 256, 1024, 4096)],
    "width D = H": [(128, [h, h, 10]) for h in (4, 16, 64, 256, 1024, 4096)],
    "depth (hidden layers)": [(64, [64] * (depth + 1) + [10]) for depth in (1, 4, 16, 64, 256, 1000)],
}


class Point(NamedTuple):
    """One network: where it stands on its axis, its parameters, its matrix multiplications, and seconds per step."""

    x: int
    parameters: int
    flops: int
    explicit: float
    classic: float


def run(threads: int, generator: torch.Generator, device: str) -> dict[str, Any]:
    """Every sweep's points, the share of the machine's best matmul that each reaches, and the slopes of the large half."""
    rate = matmul_rate(device)
    axes = {"batch size N": 0, "width D = H": 1, "depth (hidden layers)": 2}
    points = {
        name: [measure(axes[name], n, sizes, generator, device) for n, sizes in sweep] for name, sweep in SWEEPS.items()
    }
    points["parameters"] = [point._replace(x=point.parameters) for point in points["width D = H"]]
    slopes = {name: {side: slope(path, side) for side in ("explicit", "classic")} for name, path in points.items()}
    shares = {name: [point.flops / rate / point.explicit for point in path] for name, path in points.items()}
    plain = {name: [point._asdict() for point in path] for name, path in points.items()}
    return {"threads": threads, "flops per second": rate, "points": plain, "slopes": slopes, "shares": shares}


def measure(axis: int, samples: int, sizes: list[int], generator: torch.Generator, device: str) -> Point:
    """A step of explicit and of classic on one network, in turns."""
    layer = fn.mlp(sizes)
    params = layer.init(generator, dtype=torch.float32, device=device)
    modules: list[nn.Module] = []
    for before, after in zip(sizes[:-1], sizes[1:], strict=True):
        modules += [nn.Linear(before, after), nn.Sigmoid()]
    module = nn.Sequential(*modules[:-1]).to(device=device, dtype=torch.float32)
    copy_params(params, module)
    inputs = torch.randn(samples, sizes[0], generator=generator, dtype=torch.float32)
    batch = (inputs.to(device), torch.zeros(samples, dtype=torch.int64, device=device))
    step_fn = fn.explicit(fn.supervised(layer, fn.softmax_cross_entropy()))
    sides = {
        "explicit": partial(next, fn.train(step_fn, fn.sgd(LR), params, repeat(batch))),
        "classic": partial(classic_step(module, nn.CrossEntropyLoss(), LR), batch),
    }
    timing = interleaved(sides, rounds=5, slice_seconds=0.01, device=device)
    x, parameters = (samples, sizes[0], len(sizes) - 2)[axis], sum(leaf.numel() for leaf in fn.tree.leaves(params))
    return Point(x, parameters, products(params, samples), timing.seconds("explicit"), timing.seconds("classic"))


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
    drawing, axes = figure(len(growth["points"]), height=3.6)
    for axis, (name, path) in zip(axes, growth["points"].items(), strict=True):
        x = [point["x"] for point in path]
        for side, color, dash in (("classic", COLORS[5], "-"), ("explicit", COLORS[1], "--")):
            label = f"{side}, slope {growth['slopes'][name][side]:.2f}"
            axis.loglog(x, [1e6 * p[side] for p in path], color=color, linestyle=dash, marker=".", label=label)
        bound = [1e6 * p["flops"] / growth["flops per second"] for p in path]
        axis.loglog(x, bound, color="black", linewidth=1, linestyle=":", label="matmuls alone")
        axis.set(xlabel=name, ylabel="time per step (µs)")
        axis.legend(frameon=False, fontsize="small")
    return drawing, f"Growth of the time per step at {growth['threads']} threads; slopes over the larger half."
