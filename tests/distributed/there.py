"""What ranks do whose tensors are on an accelerator, which they may share: see together."""

import torch
from distributed.shares import SMALL, WIDE, network, shared
from helpers import seeded

import funcnn as fn

# name: (the sizes of the network, what is made of its objective, the same on several ranks)
CASES = {
    "shares": (SMALL, fn.explicit, shared),
    "factors": (WIDE, fn.explicit, shared),
    "differences": (SMALL, fn.PROVIDERS["central_difference"], fn.distributed.sharded),
    "complex steps": (SMALL, fn.PROVIDERS["complex_step"], fn.distributed.sharded),
    "draws": (SMALL, lambda objective: fn.forward_gradient(objective, seeded(4), samples=5), fn.distributed.seeded),
}


def moved(tree, device):
    return fn.tree.map(lambda leaf: leaf.to(device), tree)


def trained(name, device, several):
    """(parameters, losses) after ten steps, on the processor."""
    sizes, make, wrap = CASES[name]
    objective, params, batch = network(sizes, 9)
    step_fn = wrap(make(objective)) if several else make(objective)
    steps = [*fn.train(step_fn, fn.momentum(0.05), moved(params, device), [moved(batch, device)] * 10)]
    return moved(steps[-1].params, "cpu"), torch.stack([step.value for step in steps]).cpu()


def every_case(rank, size, folder):
    """What each case ends with."""
    return {name: trained(name, torch.accelerator.current_accelerator(), True) for name in CASES}
