"""Finite differences of all parameters of a network: ours against a loop, gradcheck, SciPy and numdifftools."""

from collections.abc import Callable, Iterator
from functools import partial
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

import funcnn as fn
from experiments.benchmark import peers
from experiments.benchmark.measure import Race, Row, relative_error
from experiments.benchmark.steps import scene
from experiments.timing import interleaved
from funcnn import tree

STEP = 6e-6
SOME = 300  # parameters that slow peers are timed on, where all of them would take minutes


def run(race: Race, generator: torch.Generator) -> Iterator[Row]:
    """float64, central: 2,410 parameters against every peer, 101,770 against what the loop would take."""
    yield from differences_of("tiny", 1 / 100, race, generator)
    yield from differences_of("middle", 1 / 30, race, generator)


def differences_of(size: str, target: float, race: Race, generator: torch.Generator) -> Iterator[Row]:
    """The rows of one size."""
    objective, params, batch = scene(size, generator, torch.float64, race.device)
    leaves, unflatten = tree.flatten(params)
    x, what = flat(leaves), f"{sum(leaf.numel() for leaf in leaves):,} parameters"

    def value(x: Tensor) -> Tensor:
        pieces = x.split([leaf.numel() for leaf in leaves])
        return objective.value(unflatten([p.reshape(leaf.shape) for p, leaf in zip(pieces, leaves, strict=True)]), batch)

    def ours() -> Tensor:
        return flat(tree.leaves(step_fn(params, batch)[1]))

    step_fn = fn.finite_difference(objective)
    error = relative_error(ours(), flat(tree.leaves(fn.func_grad(objective)(params, batch)[1])))
    if error > 1e-8:
        raise RuntimeError(f"finite differences, {size}: relative error {error:.1e}, more than 1e-8")
    count = len(x) if size == "tiny" else SOME
    looped = partial(loop, value, x, count)
    share = (1, count / len(x))
    same = ([ours()[:count]], [looped()], 1e-6)
    yield race("differences", what, "Python loop", ours, looped, same=same, target=target, rounds=5, per_call=share)
    if size == "middle":
        return
    yield gradcheck(race, what, ours, value, x)
    if race.device != "cpu":
        return
    if peers.installed("scipy"):
        theirs = partial(peers.scipy_gradient, value, x)
        yield race("differences", what, "SciPy", ours, theirs, same=([ours()], [theirs()], 1e-6), rounds=3)
    if peers.installed("numdifftools"):
        theirs, share = partial(peers.numdifftools_gradient, value, x, SOME), (1, SOME / len(x))
        same = ([ours()[:SOME]], [theirs()], 1e-6)
        yield race("differences", what, "numdifftools", ours, theirs, same=same, rounds=2, per_call=share)


def flat(leaves: list[Tensor]) -> Tensor:
    """All entries in one vector."""
    return torch.cat([leaf.reshape(-1) for leaf in leaves])


def loop(value: Callable[[Tensor], Tensor], x: Tensor, count: int) -> Tensor:
    """What anyone would write first: one parameter after another, two values each."""
    slopes = []
    for index in range(count):
        up, down = x.clone(), x.clone()
        up[index] += STEP
        down[index] -= STEP
        slopes.append((value(up) - value(down)) / (2 * STEP))
    return torch.stack(slopes)


def gradcheck(race: Race, what: str, ours: Callable[[], Tensor], value: Callable[[Tensor], Tensor], x: Tensor) -> Row:
    """torch.autograd.gradcheck in its slow mode, timed once, since it takes about ten seconds."""
    leaf = x.clone().requires_grad_()
    start = perf_counter()
    torch.autograd.gradcheck(value, (leaf,), eps=1e-6)  # raises where it disagrees
    seconds = perf_counter() - start
    times = interleaved({"ours": ours}, rounds=9, device=race.device).rounds["ours"]
    low, middle, high = np.quantile(times, [0.25, 0.5, 0.75]).tolist()
    ratios = (middle / seconds, low / seconds, high / seconds)
    return Row("differences", what, "gradcheck (slow mode)", race.threads, middle, seconds, *ratios, target=1 / 500)
