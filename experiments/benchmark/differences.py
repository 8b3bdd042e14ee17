"""Finite differences of all parameters of a network: ours against a loop, gradcheck, SciPy and numdifftools."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

import funcnn as fn
from experiments.benchmark import peers
from experiments.benchmark.measure import Race, Row
from experiments.core.scene import on_random_data, scene, with_second
from funcnn import tree

STEP = 6e-6
SOME = 300  # parameters that slow peers are timed on, where all of them would take minutes


def run(race: Race, generator: torch.Generator) -> Iterator[Row]:
    """float64, central: 2,410 parameters against every peer, 101,770 against the loop, and ours against ours."""
    yield from differences_of("tiny", 1 / 100, race, generator)
    yield from differences_of("middle", 1 / 30, race, generator)
    yield with_softmax(race, generator)
    yield with_replaced_backward(race, generator)


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
    exact = flat(tree.leaves(fn.func_grad(objective)(params, batch)[1]))
    count = len(x) if size == "tiny" else SOME
    looped = partial(loop, value, x, count)
    share = (1, count / len(x))
    same = ([ours()[:count]], [looped()], 1e-6)
    yield race("differences", what, "Python loop", ours, looped, same=same, target=target, rounds=5, per_call=share)
    if size == "middle":
        return
    gradcheck = partial(torch.autograd.gradcheck, value, (x.clone().requires_grad_(),), eps=1e-6)  # slow by default
    name, same = "gradcheck (slow mode)", ([ours()], [exact], 1e-8)
    yield race("differences", what, name, ours, gradcheck, same=same, target=1 / 500, rounds=9)
    checked = partial(fn.check, fn.explicit(objective), params, batch)
    same = ([checked().ok], [gradcheck()], 0.0)
    yield race("differences", f"check of {what}", name, checked, gradcheck, same=same, target=1 / 50, rounds=9)
    if race.device != "cpu":
        return
    if peers.installed("scipy"):
        theirs = partial(peers.scipy_gradient, value, x)
        yield race("differences", what, "SciPy", ours, theirs, same=([ours()], [theirs()], 1e-6), rounds=3)
    if peers.installed("numdifftools"):
        theirs, share = partial(peers.numdifftools_gradient, value, x, SOME), (1, SOME / len(x))
        same = ([ours()[:SOME]], [theirs()], 1e-6)
        yield race("differences", what, "numdifftools", ours, theirs, same=same, rounds=2, per_call=share)


def with_softmax(race: Race, generator: torch.Generator) -> Row:
    """What an activation costs that mixes its columns, where a moved parameter changes one: softmax against tanh."""
    objective, params, batch = with_second(fn.softmax, generator, torch.float64, race.device)
    other, start, data = with_second(fn.tanh, generator, torch.float64, race.device)
    ours = partial(fn.finite_difference(objective), params, batch)
    theirs = partial(fn.finite_difference(other), start, data)
    same = (tree.leaves(ours()[1]), tree.leaves(fn.func_grad(objective)(params, batch)[1]), 1e-6)
    return race("differences", "softmax between layers", "tanh in its place", ours, theirs, same=same, target=1.5)


def with_replaced_backward(race: Race, generator: torch.Generator) -> Row:
    """Differences never see a backward rule, so another one must cost nothing: the network against itself."""
    layer = fn.mlp((64, 32, 10))
    replaced = layer._replace(backward=lambda residuals, dy: layer.backward(residuals, dy))
    own, params, batch = on_random_data(layer, (32, 64, 10), generator, torch.float64, race.device)
    ours, theirs = (
        partial(fn.finite_difference(objective), params, batch)
        for objective in (fn.supervised(replaced, fn.softmax_cross_entropy()), own)
    )
    same = (tree.leaves(ours()[1]), tree.leaves(theirs()[1]), 0.0)
    return race("differences", "backward replaced", "the network itself", ours, theirs, same=same, target=1.1)


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
