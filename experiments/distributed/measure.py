"""What the ranks of the experiment do together; every function is called by all of them."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import funcnn as fn
from experiments.distributed import wire
from experiments.distributed.life import fitted

Numbers = dict[str, Any]
FACTORS, GRADIENTS = "data_parallel, factors of the first matrix", "data_parallel, too many rows for factors"
ENTRIES = ("forward_difference", "backward_difference", "central_difference", "complex_step")


def environment() -> dict[str, str]:
    """That of ranks on this machine: one thread each, over loopback, and none of what torchrun told this process."""
    told = re.compile("TORCHELASTIC_.*|.*RANK|.*WORLD_SIZE|MASTER_.*|ROLE_NAME|TORCH_NCCL_.*")
    kept = {name: value for name, value in os.environ.items() if not told.fullmatch(name)}
    return kept | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}


def measured(options: Any) -> Numbers:
    """All numbers of the experiment, on rank 0, which tells them; the others end."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo")
    data = fn.data.digits(generator=options.generator(), dtype=torch.float64)
    layer = fn.mlp((64, options.hidden, 10), fn.tanh)
    objective = fn.supervised(layer, fn.softmax_cross_entropy())
    params = layer.init(options.generator(), dtype=torch.float64)
    batch = tuple(part[: options.samples] for part in data.train)
    numbers = {
        "ranks": dist.get_world_size(),
        "parameters": sum(leaf.numel() for leaf in fn.tree.leaves(params)),
        "distances": distances(objective, params, batch, options.steps),
        "traffic": traffic(),
        "times": times(),
    }
    first = dist.get_rank() == 0
    dist.destroy_process_group()
    if not first:
        sys.exit(0)
    return numbers | {"life": life()}


def distances(objective: fn.Objective, params: Any, batch: Any, steps: int) -> Numbers:
    """After some steps: how far a rank's parameters are from those of one process, and from those of the other ranks."""
    found = {}
    for name, make in fn.PROVIDERS.items():
        ways = {"data_parallel": fn.distributed.data_parallel(make(objective), share=fn.distributed.rows)}
        if name in ENTRIES:
            ways["sharded"] = fn.distributed.sharded(make(objective))
        alone = end(make(objective), params, batch, steps)
        for way, step_fn in ways.items():
            own = end(step_fn, params, batch, steps)
            every = [torch.zeros_like(own) for _ in range(dist.get_world_size())]
            dist.all_gather(every, own)
            apart = max(float((other - own).abs().max()) for other in every)
            found[f"{way}, {name}"] = {"from one process": float((own - alone).abs().max()), "between ranks": apart}
    return found


def end(step_fn: fn.StepFn, params: Any, batch: Any, steps: int) -> torch.Tensor:
    """The parameters after some steps, as one vector."""
    *_, last = fn.train(step_fn, fn.momentum(0.05), params, [batch] * steps)
    return fn.tree.ravel(last.params)[0]


def traffic() -> Numbers:
    """Bytes that a rank sends in a step of each scheme: by formula, and counted, the most of all ranks."""
    ranks, generator = dist.get_world_size(), torch.Generator().manual_seed(0)
    size = 8
    layer = fn.mlp((300, 256, 10), fn.tanh)
    objective, params = fn.supervised(layer, fn.softmax_cross_entropy()), layer.init(generator, dtype=torch.float64)
    count = sum(leaf.numel() for leaf in fn.tree.leaves(params))

    def batch(samples: int) -> Any:
        x = torch.randn(samples, 300, generator=generator, dtype=torch.float64)
        return x, torch.randint(10, (samples,), generator=generator)

    few, many = batch(8 * ranks), batch(100 * ranks)
    shared = fn.distributed.data_parallel(fn.explicit(objective), share=fn.distributed.rows)
    gradients = fn.distributed.data_parallel(fn.func_grad(objective), share=fn.distributed.rows)
    first = 300 * 256
    small = fn.mlp((60, 30, 4), fn.tanh)
    start, entries = small.init(generator, dtype=torch.float64), fn.supervised(small, fn.softmax_cross_entropy())
    inputs = many[0][:4, :60], many[1][:4] % 4
    differences = fn.distributed.sharded(fn.finite_difference(entries))
    share = sum(-(-leaf.numel() // ranks) for leaf in fn.tree.leaves(start)) + 1
    w = torch.randn(1000, 64, generator=generator, dtype=torch.float64)
    jacobian, x = fn.distributed.columns(lambda x: w @ x), many[0][0, :64]
    # name: (what is called, bytes by formula, the pieces that go to the next rank)
    rounds = 2 * (ranks - 1)
    schemes = {
        "data_parallel": (lambda: gradients(params, many), wire.all_reduce(count + 2, ranks, size), rounds),
        GRADIENTS: (
            lambda: shared(params, many),
            wire.all_gather(2, ranks, 8) + wire.all_reduce(count + 2, ranks, size),
            rounds + ranks - 1,
        ),
        FACTORS: (
            lambda: shared(params, few),
            wire.all_gather(2, ranks, 8)
            + wire.all_gather(8 * (300 + 256), ranks, size)
            + wire.all_reduce(count - first + 2, ranks, size),
            rounds + 2 * (ranks - 1),
        ),
        "sharded": (lambda: differences(start, inputs), wire.all_gather(share, ranks, size), ranks - 1),
        "columns": (lambda: jacobian(x), wire.all_gather(-(-64 // ranks) * 1000, ranks, size), ranks - 1),
    }
    found = {}
    for name, (call, formula, pieces) in schemes.items():
        found[name] = {"formula": formula, "counted": max(wire.of_ranks(wire.counted(call))), "pieces": pieces}
    return found


def times() -> Numbers:
    """Ratios of times, of rounds in which the sides take turns, between barriers."""
    return {"differences": times_of_differences(), "data parallel": times_of_data_parallel()}


def times_of_differences() -> list[float]:
    """How many times as fast all ranks together are as one, in each round; one thread each, and the others wait."""
    generator = torch.Generator().manual_seed(0)
    layer = fn.mlp((256, 128, 10), fn.tanh)
    objective, params = fn.supervised(layer, fn.softmax_cross_entropy()), layer.init(generator, dtype=torch.float64)
    batch = torch.randn(64, 256, generator=generator, dtype=torch.float64), torch.randint(10, (64,), generator=generator)
    alone = fn.finite_difference(objective)
    together = fn.distributed.sharded(alone)
    ratios = []
    for _ in range(7):
        one = timed(lambda: alone(params, batch)) if not dist.get_rank() else timed(lambda: None)
        ratios.append(one / timed(lambda: together(params, batch)))
    return ratios[1:]


def times_of_data_parallel() -> list[float]:
    """The time of a step as a multiple of DistributedDataParallel's, of the same network and batch, in each round."""
    generator = torch.Generator().manual_seed(0)
    sizes = (784, 256, 256, 10)
    layer = fn.mlp(sizes, fn.tanh)
    objective, params = fn.supervised(layer, fn.softmax_cross_entropy()), layer.init(generator, dtype=torch.float32)
    x, t = torch.randn(512, sizes[0], generator=generator), torch.randint(10, (512,), generator=generator)
    own = fn.distributed.rows((x, t))
    pairs = [(torch.nn.Linear(a, b), torch.nn.Tanh()) for a, b in zip(sizes, sizes[1:], strict=False)]
    model = DistributedDataParallel(torch.nn.Sequential(*[part for pair in pairs for part in pair][:-1]))
    optimizer, loss = torch.optim.SGD(model.parameters(), lr=0.01), torch.nn.CrossEntropyLoss()
    steps = fn.train(fn.distributed.data_parallel(fn.explicit(objective)), fn.sgd(0.01), params, iter(lambda: own, None))

    def classic() -> None:
        optimizer.zero_grad()
        loss(model(own[0]), own[1]).backward()
        optimizer.step()

    ratios = []
    for _ in range(21):
        ours = timed(lambda: [next(steps) for _ in range(5)])
        ratios.append(ours / timed(lambda: [classic() for _ in range(5)]))
    return ratios[1:]


def timed(call: Callable[[], Any]) -> float:
    """Seconds until all ranks have done it, as rank 0 has them."""
    dist.barrier()
    start = perf_counter()
    call()
    dist.barrier()
    return perf_counter() - start


def life() -> Numbers:
    """A run that loses a rank, and one that goes on from its checkpoint with one rank; on rank 0 alone."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.safetensors"
        start = perf_counter()
        killed = started(path, dies_at=20)
        seconds = perf_counter() - start
        named = re.search(r"RankEnded: (rank \d+ of \d+ ended)", killed.stderr)
        kept = fn.load(path)["trained"].history.losses
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        found = fitted(path)
        dist.destroy_process_group()
        expected = fitted(Path(folder) / "alone.safetensors")
        return {
            "named": named[1] if named else "",
            "seconds": seconds,
            "steps kept": len(kept),
            "steps": len(found.history.losses),
            "from one process": float(fn.tree.max_difference(found.params, expected.params)),
        }


def started(path: Path, dies_at: int) -> "subprocess.CompletedProcess[str]":
    """A run of `life` by two ranks."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    command += ["-m", "experiments.distributed.life", str(path), str(dies_at)]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
