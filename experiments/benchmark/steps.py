"""A training step, everything included: ours eager and compiled, against classic PyTorch, torch.func.grad and JAX.

Ours is always a step of `train`. On some processors the matrix products alone take most of a step of either side: how long
they take at the machine's best rate stands beside the times.
"""

from collections.abc import Iterator
from functools import partial
from itertools import repeat
from typing import Any

import torch

import funcnn as fn
from experiments.benchmark import peers
from experiments.benchmark.growth import matmul_rate
from experiments.benchmark.measure import Race, Row
from experiments.core.classic import as_params
from experiments.core.scene import SIZES, deep, products, scene
from funcnn import tree

LR, COUNT = 0.1, 8
EAGER = {"tiny": 0.5, "middle": 0.55, "large": 0.5}
COMPILED = {"tiny": 0.22, "middle": 0.5, "large": 0.45}


def run(race: Race, generator: torch.Generator) -> Iterator[Row]:
    """Two sizes: eager against classic and func.grad, compiled against classic and JAX, eight steps against JAX's scan."""
    rate = matmul_rate(race.device)
    for size in ("tiny", "middle"):
        yield from steps_of(size, race, generator, rate)


def run_large(race: Race, generator: torch.Generator) -> Iterator[Row]:
    """The same of the large size, and a network of many layers."""
    rate = matmul_rate(race.device)
    yield from steps_of("large", race, generator, rate)
    yield steps_of_many_layers(race, generator, rate)


def steps_of(size: str, race: Race, generator: torch.Generator, rate: float) -> Iterator[Row]:
    """The rows of one size."""
    objective, params, batch = scene(size, generator, torch.float32, race.device)
    step_fn, optimizer = fn.explicit(objective), fn.sgd(LR)
    expected = tree.leaves(next(fn.train(step_fn, optimizer, params, [batch])).params)
    module, classic = peers.classic(params, batch, SIZES[size], LR)
    classic()
    row = partial(race, "step", products=products(params, len(batch[1])) / rate)
    eager = partial(next, fn.train(step_fn, optimizer, params, repeat(batch)))
    same = (expected, tree.leaves(as_params(module)), 1e-5)
    yield row(f"eager, {size}", "classic PyTorch", eager, classic, same=same, target=EAGER[size])

    theirs: Any = fn.train(fn.func_grad(objective), optimizer, params, repeat(batch))
    same = (expected, tree.leaves(next(theirs).params), 1e-5)
    yield row(f"eager, {size}", "torch.func.grad", eager, partial(next, theirs), same=same)

    steps: Any = fn.train(step_fn, fn.compiled(optimizer), params, repeat(batch))
    same, compiled = (tree.leaves(next(steps).params), expected, 1e-5), partial(next, steps)
    yield row(f"compiled, {size}", "classic PyTorch", compiled, classic, same=same, target=COMPILED[size])
    if not peers.installed("jax") or race.device != "cpu":
        return
    jitted, scanned = peers.jax_steps(params, batch, LR, COUNT)
    same = (expected, peers.from_jax(jitted()[0]), 1e-5)
    yield row(f"compiled, {size}", "JAX jit", compiled, jitted, same=same, target=1.0)
    stacked = tuple(torch.stack([leaf] * COUNT) for leaf in batch)
    several = partial(fn.compiled_scan(step_fn, optimizer), params, (), stacked)
    same = (tree.leaves(several().params), peers.from_jax(scanned()[0]), 1e-4)
    what, per_call = f"compiled, {COUNT} steps a call, {size}", (COUNT, COUNT)
    yield row(what, "JAX scan", several, scanned, same=same, target=1.0, per_call=per_call)


def steps_of_many_layers(race: Race, generator: torch.Generator, rate: float) -> Row:
    """A hundred small layers, eager: what a layer costs beside its arithmetic."""
    objective, params, batch = deep(generator, torch.float32, race.device)
    module, classic = peers.deep_classic(params, batch, LR)
    classic()
    steps: Any = fn.train(fn.explicit(objective), fn.sgd(LR), params, repeat(batch))
    same = (tree.leaves(next(steps).params), tree.leaves(as_params(module)), 1e-5)
    took = products(params, len(batch[1])) / rate
    what, eager = f"eager, {len(params) // 2} layers", partial(next, steps)
    return race("step", what, "classic PyTorch", eager, classic, same=same, target=0.5, products=took)
