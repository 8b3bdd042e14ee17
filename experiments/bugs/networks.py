"""Whole networks with a wrong gradient: what becomes of g on its way from the backward rules to the optimizer.

A rule is given the right gradients g, the parameters w and the gradients `old` of the step before (at other parameters, on
another batch), as dicts by the name of the leaf. `g | {B1: 2 * g[B1]}` is g with one leaf replaced. The network is
4-5-5-3 with tanh on 7 samples. The wide one, 40-25-3, has 1,000 entries in its first weight; the deep one has six layers
of sigmoids, and a gradient that all but vanishes on its way to the first.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import funcnn as fn
from experiments.bugs.mistakes import Mistake, Rule, bugs, labels, normal, without
from experiments.bugs.subject import Subject
from funcnn import Cause, tree

W1, B1, W2, B2 = "params[0]['w']", "params[0]['b']", "params[2]['w']", "params[2]['b']"
NETWORKS = {
    "network": fn.mlp((4, 5, 5, 3), fn.tanh),
    "wide network": fn.mlp((40, 25, 3), fn.tanh),
    "deep network": fn.mlp((4, 5, 5, 5, 5, 5, 3), fn.sigmoid),
}


def every(rule: Callable[[Tensor], Tensor]) -> Rule:
    """The same done to every leaf."""
    return lambda g, w, old: {leaf: rule(g[leaf]) for leaf in g}


def clipped(g: dict[str, Tensor], norm: float) -> dict[str, Tensor]:
    """The gradient scaled to at most a norm over all leaves."""
    whole = torch.stack([leaf.norm() for leaf in g.values()]).norm()
    return {name: leaf * (norm / whole).clamp(max=1) for name, leaf in g.items()}


def touched(g: Tensor, factor: float, *index: int) -> Tensor:
    """The gradient with one entry multiplied."""
    return without(g, *index) + factor * (g - without(g, *index))


MISTAKES: list[Mistake] = [
    ("network", "descends uphill", Cause.SIGN, every(lambda g: -g)),
    ("network", "summed where the value is averaged", Cause.FACTOR_N, every(lambda g: 7 * g)),
    ("network", "averaged by the loss and by the loop", Cause.FACTOR_N, every(lambda g: g / 7)),
    ("network", "accumulated over two calls", Cause.FACTOR_2, every(lambda g: 2 * g)),
    ("network", "averaged over two workers, one idle", Cause.FACTOR_2, every(lambda g: g / 2)),
    ("network", "last batch divided by the full batch size", Cause.NONE, every(lambda g: g * 7 / 32)),
    ("network", "only its sign", Cause.NONE, every(torch.sign)),
    ("network", "in float32 on the way", Cause.NONE, every(lambda g: g.float().double())),
    ("network", "the scale of mixed precision left on", Cause.NONE, every(lambda g: 1024 * g)),
    ("network", "overflow in float16", Cause.NOT_FINITE, every(lambda g: (g * 1e8).half().double() / 1e8)),
    ("network", "momentum mistaken for the gradient", Cause.NONE, lambda g, w, old: {k: g[k] + 0.9 * old[k] for k in g}),
    ("network", "that of the step before", Cause.NONE, lambda g, w, old: old),
    ("network", "weight decay that the value lacks", Cause.NONE, lambda g, w, old: {k: g[k] + 1e-4 * w[k] for k in g}),
    ("network", "clipped by its norm", Cause.NONE, lambda g, w, old: clipped(g, 0.1)),
    ("network", "first layer detached", Cause.ZERO, lambda g, w, old: g | {W1: 0 * g[W1], B1: 0 * g[B1]}),
    ("network", "bias closed over", Cause.ZERO, lambda g, w, old: g | {B2: 0 * g[B2]}),
    ("network", "hidden weight as torch.nn.Linear keeps it", Cause.TRANSPOSED, lambda g, w, old: g | {W2: g[W2].T}),
    (
        "network",
        "read column by column, filled row by row",
        Cause.TRANSPOSED,
        lambda g, w, old: g | {W1: g[W1].T.reshape(4, 5)},
    ),
    ("network", "biases of two layers exchanged", Cause.NONE, lambda g, w, old: g | {B1: g[B2], B2: g[B1]}),
    ("network", "units in another order", Cause.PERMUTED, lambda g, w, old: g | {B1: g[B1].flip(0)}),
    ("network", "one weight frozen", Cause.SINGLE_ENTRY, lambda g, w, old: g | {W2: without(g[W2], 2, 3)}),
    ("network", "input 0 frozen", Cause.SINGLE_ROW, lambda g, w, old: g | {W1: without(g[W1], 0)}),
    ("network", "unit 4 dropped", Cause.SINGLE_COLUMN, lambda g, w, old: g | {W2: without(g[W2], ..., 4)}),
    ("network", "a bias 0.1% too large", Cause.NONE, lambda g, w, old: g | {B1: 1.001 * g[B1]}),
    ("network", "a weight 1e-4 too large", Cause.NONE, lambda g, w, old: g | {W1: (1 + 1e-4) * g[W1]}),
    ("network", "a weight 1e-5 too large", Cause.NONE, lambda g, w, old: g | {W2: (1 + 1e-5) * g[W2]}),
    ("network", "a bias 2e-6 too small", Cause.NONE, lambda g, w, old: g | {B2: (1 - 2e-6) * g[B2]}),
    ("network", "a bias 1e-8 too large", Cause.NONE, lambda g, w, old: g | {B1: (1 + 1e-8) * g[B1]}),
    ("wide network", "one entry of 1,000 doubled", Cause.SINGLE_ENTRY, lambda g, w, old: g | {W1: touched(g[W1], 2, 17, 5)}),
    ("wide network", "one entry of 1,000 missing", Cause.SINGLE_ENTRY, lambda g, w, old: g | {W1: without(g[W1], 30, 21)}),
    ("wide network", "all of 1,000 reversed", Cause.PERMUTED, lambda g, w, old: g | {W1: g[W1].flip(0)}),
    ("deep network", "input 3 frozen", Cause.SINGLE_ROW, lambda g, w, old: g | {W1: without(g[W1], 3)}),
    ("deep network", "first layer never filled", Cause.ZERO, lambda g, w, old: g | {W1: 0 * g[W1], B1: 0 * g[B1]}),
    ("deep network", "first layer counted twice", Cause.FACTOR_2, lambda g, w, old: g | {W1: 2 * g[W1], B1: 2 * g[B1]}),
]


def scene(where: str) -> tuple[fn.Objective, Any, Any]:
    """(objective, parameters, batch) of a network."""
    layer = NETWORKS[where]
    params = start(layer)
    batch = normal(7, len(params[0]["w"])), labels(7, 3)
    return fn.supervised(layer, fn.softmax_cross_entropy()), params, batch


def start(layer: fn.Layer) -> Any:
    """Initial parameters in float64."""
    return layer.init(torch.Generator().manual_seed(0), dtype=torch.float64)


def plant(where: str, rule: Rule | None) -> Subject:
    """The network's gradients, sent through a rule."""
    objective, params, (x, t) = scene(where)
    right = fn.explicit(objective)
    return Subject(right if rule is None else by_leaf(right, rule, (x.flip(1), t)), (params, (x, t)))


def by_leaf(right: fn.StepFn, rule: Rule, batch_before: Any) -> fn.StepFn:
    """The provider whose gradients are rule(g, w, old)."""

    def value_and_grad(params: Any, batch: Any) -> tuple[Tensor, Any]:
        value, grads = right(params, batch)
        before = right(tree.map(lambda leaf: 1.1 * leaf, params), batch_before)[1]
        names, unflatten = tree.paths(params), tree.flatten(params)[1]
        found = rule(*(dict(zip(names, tree.leaves(each), strict=True)) for each in (grads, params, before)))
        return value, unflatten([found[name] for name in names])

    return right._replace(value_and_grad=value_and_grad)


BUGS = bugs("network", plant, MISTAKES)
