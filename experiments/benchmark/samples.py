"""Per-sample gradients, their norms and norm-clipped means: ours against vmap(grad), Opacus and BackPACK."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

import funcnn as fn
from experiments.benchmark import peers
from experiments.benchmark.measure import Race, Row
from experiments.core.scene import SIZES, scene, with_second
from funcnn import tree

MAX_NORM = 1.0


def run(race: Race, generator: torch.Generator) -> Iterator[Row]:
    """Gradients at tiny; norms and clipped means at middle, which peers get from the gradients; and ours against ours."""
    objective, params, batch = scene("tiny", generator, torch.float32, race.device)
    per_sample = fn.per_sample(fn.explicit(objective))
    ours = tree.leaves(per_sample(params, batch)[1])
    for name, theirs in rivals("tiny", objective, params, batch).items():
        same = (ours, theirs(), 1e-4)
        yield race("samples", "gradients, tiny", name, lambda: per_sample(params, batch), theirs, same=same, target=1.0)

    objective, params, batch = scene("middle", generator, torch.float32, race.device)
    step_fn = fn.explicit(objective)
    norms, clipped = fn.per_sample_norms(step_fn), fn.per_sample_clip(step_fn, MAX_NORM)
    for name, gradients in rivals("middle", objective, params, batch).items():

        def their_norms(gradients: Callable[[], list[torch.Tensor]] = gradients) -> torch.Tensor:
            return torch.stack([g.flatten(1).square().sum(1) for g in gradients()]).sum(0).sqrt()

        def their_mean(gradients: Callable[[], list[torch.Tensor]] = gradients) -> list[torch.Tensor]:
            leaves = gradients()
            lengths = torch.stack([g.flatten(1).square().sum(1) for g in leaves]).sum(0).sqrt()
            factors = (MAX_NORM / lengths).clamp(max=1.0) / len(lengths)
            return [torch.tensordot(factors, g, dims=1) for g in leaves]

        same = ([norms(params, batch)], [their_norms()], 1e-4)
        yield race(
            "samples", "norms, middle", name, lambda: norms(params, batch), their_norms, same=same, target=1 / 50, rounds=7
        )
        same = (tree.leaves(clipped(params, batch)[1]), their_mean(), 1e-4)
        yield race(
            "samples",
            "clipped mean, middle",
            name,
            lambda: clipped(params, batch),
            their_mean,
            same=same,
            target=1 / 50,
            rounds=7,
        )
    yield with_softmax(race, generator)


def with_softmax(race: Race, generator: torch.Generator) -> Row:
    """Softmax between two layers against tanh in its place: no activation has per-sample gradients to form."""
    objective, params, batch = with_second(fn.softmax, generator, torch.float32, race.device)
    other, start, data = with_second(fn.tanh, generator, torch.float32, race.device)
    ours = partial(fn.per_sample(fn.explicit(objective)), params, batch)
    theirs = partial(fn.per_sample(fn.explicit(other)), start, data)
    same = (tree.leaves(ours()[1]), peers.vmapped_gradients(objective, params, batch)(), 1e-4)
    what = "gradients, softmax between layers"
    return race("samples", what, "tanh in its place", ours, theirs, same=same, target=1.5)


def rivals(size: str, objective: Any, params: Any, batch: Any) -> dict[str, Callable[[], list[torch.Tensor]]]:
    """What computes the same per-sample gradients, by name."""
    found = {"vmap(grad)": peers.vmapped_gradients(objective, params, batch)}
    if peers.installed("opacus"):
        found["Opacus"] = peers.opacus_gradients(params, batch, SIZES[size])
    if peers.installed("backpack"):
        found["BackPACK"] = peers.backpack_gradients(params, batch, SIZES[size])
    return found
