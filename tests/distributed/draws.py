"""What the ranks of test_seeded do: see together."""

from functools import partial

import torch
from distributed.shares import SMALL, network
from helpers import seeded

import funcnn as fn

STEPS = 100
OBJECTIVE, PARAMS, BATCH = network(SMALL, 11)
OF_COSTS = fn.Expectation(
    lambda generator: torch.randn(5, generator=generator, dtype=torch.float64),
    lambda w, batch, z: w + z,
    lambda w, batch, x: -((x - w) ** 2).sum() / 2,
    lambda x, batch: (x**2).sum(),
)

# name: (the provider of a generator, parameters, batch)
CASES = {
    "spsa": (lambda g: fn.spsa(OBJECTIVE, g, samples=6, step=1e-3), PARAMS, BATCH),
    "spsa, fewer draws than ranks": (lambda g: fn.spsa(OBJECTIVE, g, step=1e-3), PARAMS, BATCH),
    "forward_gradient": (lambda g: fn.forward_gradient(OBJECTIVE, g, samples=5), PARAMS, BATCH),
    "orthogonal": (lambda g: fn.forward_gradient(OBJECTIVE, g, samples=5, orthogonal=True), PARAMS, BATCH),
    "evolution": (lambda g: fn.evolution(OBJECTIVE, g, samples=4), PARAMS, BATCH),
    "score_function": (lambda g: fn.score_function(OF_COSTS, g, samples=5), torch.ones(5, dtype=torch.float64), ()),
}


def trained(name, wrap=lambda step_fn: step_fn, seed=4):
    """(parameters, losses) after a hundred steps."""
    make, params, batch = CASES[name]
    steps = [*fn.train(wrap(make(seeded(seed))), fn.sgd(0.01), params, [batch] * STEPS)]
    return steps[-1].params, torch.stack([step.value for step in steps])


def every_case(rank, size, folder):
    """What each case ends with: by generators of one state; by one for each rank; and by shares of the samples."""
    same = {name: trained(name, fn.distributed.seeded) for name in CASES}
    own = {name: trained(name, fn.distributed.seeded, seed=rank) for name in CASES}
    shares = {name: trained(name, lambda f: fn.distributed.data_parallel(f, share=fn.distributed.rows)) for name in NETWORKS}
    return same, own, shares


NETWORKS = [name for name, (_, params, _) in CASES.items() if params is PARAMS]


def bytes_sent(rank, size, folder):
    """Counted, for the number of parameters, of draws, and their sum over some calls."""
    from experiments.distributed import wire

    found = {}
    for hidden in (5, 50):
        objective, params, batch = network((6, hidden, 3), 4)
        for draws in (4, 40):
            step_fn = fn.distributed.seeded(fn.spsa(objective, seeded(), samples=draws))
            found[hidden, draws] = wire.counted(partial(step_fn, params, batch))
    return found
