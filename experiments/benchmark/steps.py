"""A training step, everything included: ours eager and compiled, against classic PyTorch, torch.func.grad and JAX."""

from collections.abc import Iterator
from functools import partial
from itertools import repeat
from typing import Any

import torch

import funcnn as fn
from experiments.benchmark import peers
from experiments.benchmark.measure import Race, Row
from experiments.core.classic import as_params
from experiments.core.scene import SIZES, scene
from funcnn import tree

LR, COUNT = 0.1, 8
COMPILED = {"tiny": 0.35, "middle": 0.5, "large": 0.45}


def run(race: Race, generator: torch.Generator) -> Iterator[Row]:
    """Every size: eager against classic and func.grad, compiled against classic and JAX, eight steps against JAX's scan."""
    for size in SIZES:
        yield from steps_of(size, race, generator)


def steps_of(size: str, race: Race, generator: torch.Generator) -> Iterator[Row]:
    """The rows of one size."""
    objective, params, batch = scene(size, generator, torch.float32, race.device)
    step_fn, optimizer = fn.explicit(objective), fn.sgd(LR)
    expected = tree.leaves(next(fn.train(step_fn, optimizer, params, [batch])).params)
    module, classic = peers.classic(params, batch, SIZES[size], LR)
    classic()
    eager = partial(next, fn.train(step_fn, optimizer, params, repeat(batch)))
    same = (expected, tree.leaves(as_params(module)), 1e-5)
    yield race("step", f"eager, {size}", "classic PyTorch", eager, classic, same=same, target=0.6)

    theirs: Any = fn.train(fn.func_grad(objective), optimizer, params, repeat(batch))
    same = (expected, tree.leaves(next(theirs).params), 1e-5)
    yield race("step", f"eager, {size}", "torch.func.grad", eager, partial(next, theirs), same=same)

    fused = partial(fn.fused(step_fn, optimizer), params, (), batch)
    same = (tree.leaves(fused().params), expected, 1e-5)
    yield race("step", f"compiled, {size}", "classic PyTorch", fused, classic, same=same, target=COMPILED[size])
    if not peers.installed("jax") or race.device != "cpu":
        return
    jitted, scanned = peers.jax_steps(params, batch, LR, COUNT)
    same = (expected, peers.from_jax(jitted()[0]), 1e-5)
    yield race("step", f"compiled, {size}", "JAX jit", fused, jitted, same=same, target=1.0)
    stacked = tuple(torch.stack([leaf] * COUNT) for leaf in batch)
    several = partial(fn.fused(step_fn, optimizer, steps=COUNT), params, (), stacked)
    same = (tree.leaves(several().params), peers.from_jax(scanned()[0]), 1e-4)
    what, per_call = f"compiled, {COUNT} steps a call, {size}", (COUNT, COUNT)
    yield race("step", what, "JAX scan", several, scanned, same=same, target=1.0, per_call=per_call)
