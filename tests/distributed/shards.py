"""What the ranks of test_sharded do: see together."""

import torch
from distributed.shares import SMALL, network, of_batches_alone
from helpers import normal

import funcnn as fn

STEPS = 100
SCENES = {"a network": lambda: network(SMALL, 11), "a plain function": lambda: of_batches_alone(11)}
PROVIDERS = {name: make for name, make in fn.PROVIDERS.items() if "difference" in name or name == "complex_step"}
OPTIMIZERS = {"momentum": fn.momentum(0.05), "masked": fn.masked(fn.sgd(0.1), (False, (), True))}
CASES = {
    **{f"{scene}, {provider}": (scene, provider, "momentum") for scene in SCENES for provider in PROVIDERS},
    "a network, masked": ("a network", "central_difference", "masked"),
}


def trained(name, wrap=lambda step_fn: step_fn):
    """(parameters, losses) after a hundred steps."""
    scene, provider, optimizer = CASES[name]
    objective, params, batch = SCENES[scene]()
    steps = [*fn.train(wrap(PROVIDERS[provider](objective)), OPTIMIZERS[optimizer], params, [batch] * STEPS)]
    return steps[-1].params, torch.stack([step.value for step in steps])


LAYER = fn.mlp(SMALL, fn.tanh)
PARAMS = LAYER.init(torch.Generator().manual_seed(0), dtype=torch.float64)
VECTOR, of_vector = fn.tree.ravel(PARAMS)
X = normal(2, 6)

# name: (a function, where)
FUNCTIONS = {
    "a layer of its inputs": (lambda x: LAYER(PARAMS, x), X),
    "a layer of its parameters": (lambda w: LAYER(of_vector(w), X), VECTOR),
    "of one number": (lambda x: x.sin(), normal()),
    "of two numbers": (lambda x: x.prod(), normal(2)),
}


def every_case(rank, size, folder):
    """What each case ends with, and the Jacobians."""
    found = {name: trained(name, fn.distributed.sharded) for name in CASES}
    jacobians = {name: fn.distributed.columns(function)(x) for name, (function, x) in FUNCTIONS.items()}
    jacobians |= {f"{name}, two at once": fn.distributed.columns(f, chunk_size=2)(x) for name, (f, x) in FUNCTIONS.items()}
    return found, jacobians
