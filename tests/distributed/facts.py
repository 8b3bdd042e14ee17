"""What is so of torch and of its messages, measured by ranks: see together."""

import warnings

import torch
import torch.distributed as dist
from helpers import labels, normal, seeded
from torch.distributed._functional_collectives import all_reduce

import funcnn as fn
from experiments.distributed import measure


def bytes_sent(rank, size, folder):
    """By formula and counted, scheme by scheme."""
    return measure.traffic()


def transforms(rank, size, folder):
    """all_reduce of x_r = (0, ..., 5) + r, plain and inside each transform; what raises is its message."""

    def summed(x):
        return all_reduce(x, "sum", dist.group.WORLD)

    def attempt(call):
        try:
            return call()
        except RuntimeError as error:
            return str(error)

    x, weights = torch.arange(6.0).reshape(3, 2) + rank, torch.tensor([1.0, 10.0]) * (rank + 1)
    found = {"plain": summed(x) + 0}
    dist.barrier()
    found["vmap"] = [attempt(lambda: torch.func.vmap(summed)(x) + 0) for _ in range(5)]
    dist.barrier()
    found["jvp"] = torch.func.jvp(lambda v: (weights * summed(v)).sum(), (x[0],), (torch.ones(2),))
    dist.barrier()
    found["grad"] = attempt(lambda: torch.func.grad(lambda v: (weights * summed(v)).sum())(x[0]))
    dist.barrier()
    own = x[0].clone().requires_grad_()
    found["tape"] = torch.autograd.grad((weights * summed(own)).sum(), own)[0]
    return found


SIZES, COUNT = (8, 6, 4), 12
LAYER = fn.mlp(SIZES, fn.tanh)
OBJECTIVE = fn.supervised(LAYER, fn.softmax_cross_entropy())
PARAMS, BATCH = LAYER.init(seeded(), dtype=torch.float64), (normal(COUNT, 8), labels(COUNT, 4))
REVERSE = ("explicit", "func_grad", "autograd")


def trained(provider, params=PARAMS, batch=BATCH):
    """(value, grads) at the start, and the parameters after some steps of adam."""
    step_fn = fn.PROVIDERS[provider](OBJECTIVE)
    *_, last = fn.train(step_fn, fn.adam(0.01), params, [batch] * 20)
    return step_fn(params, batch), last.params


def with_dtensors(rank, size, folder):
    """The same of DTensors, whole again: the parameters of a module that FSDP2 has divided, and a batch in shares."""
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor, Shard, distribute_tensor, init_device_mesh

    warnings.simplefilter("ignore")
    mesh = init_device_mesh("cpu", (size,))
    linear = [torch.nn.Linear(a, b) for a, b in zip(SIZES, SIZES[1:], strict=False)]
    model = torch.nn.Sequential(linear[0], torch.nn.Tanh(), linear[1])
    for part, own in zip(linear, PARAMS[::2], strict=True):
        part.load_state_dict({"weight": own["w"].T.contiguous(), "bias": own["b"]})
    fully_shard(model, mesh=mesh)
    weights = [{"w": part.weight.detach().T, "b": part.bias.detach()} for part in linear]
    assert all(isinstance(leaf, DTensor) for leaf in fn.tree.leaves(weights))
    batch = tuple(distribute_tensor(part, mesh, [Shard(0)]) for part in BATCH)

    def whole(tree):
        return fn.tree.map(lambda leaf: leaf.full_tensor(), tree)

    return {name: whole(trained(name, (weights[0], (), weights[1]), batch)) for name in REVERSE}
