"""What is so of torch and of its messages, measured by ranks: see together."""

import warnings

import pytest
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


OF_SAMPLES = {"per_sample": fn.per_sample, "norms": fn.per_sample_norms, "clipped": lambda f: fn.per_sample_clip(f, 1.0)}
OPTIMIZERS = {
    "momentum": fn.momentum(0.1),
    "nesterov": fn.nesterov(0.1),
    "adamw": fn.adamw(0.01),
    "clip_by_norm": fn.chain(fn.clip_by_norm(0.1), fn.sgd(0.1)),
    "line_search": fn.line_search(),
}
REFUSING = {
    **{name: provider(OBJECTIVE) for name, provider in fn.PROVIDERS.items() if name not in REVERSE},
    "spsa": fn.spsa(OBJECTIVE, seeded()),
    "forward_gradient": fn.forward_gradient(OBJECTIVE, seeded()),
    "bfgs": lambda params, batch: [*fn.train(fn.explicit(OBJECTIVE), fn.bfgs(), params, [batch] * 2)],
    "mezo": lambda params, batch: [*fn.train(fn.explicit(OBJECTIVE), fn.mezo(seeded(), 0.1), params, [batch])],
    "compiled": lambda params, batch: [*fn.train(fn.explicit(OBJECTIVE), fn.compiled(fn.sgd(0.1)), params, [batch])],
    "check": lambda params, batch: fn.check(fn.explicit(OBJECTIVE), params, batch),
}


def of_samples(name, params=PARAMS, batch=BATCH):
    """What there is of each sample."""
    return OF_SAMPLES[name](fn.explicit(OBJECTIVE))(params, batch)


def stepped(name, params=PARAMS, batch=BATCH):
    """The parameters after some steps of an optimizer."""
    *_, last = fn.train(fn.explicit(OBJECTIVE), OPTIMIZERS[name], params, [batch] * 5)
    return last.params


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

    params = weights[0], (), weights[1]
    found = {name: whole(trained(name, params, batch)) for name in REVERSE}
    found |= {name: whole(stepped(name, params, batch)) for name in OPTIMIZERS}
    found |= {name: whole(of_samples(name, params, batch)) for name in OF_SAMPLES}
    for name, call in REFUSING.items():
        with pytest.raises(fn.InputError, match="DTensor"):
            call(params, batch)
        found[f"{name} is refused"] = True
    return found
