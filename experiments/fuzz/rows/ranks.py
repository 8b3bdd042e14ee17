"""What ranks do together, of a process that is the only rank."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist

import funcnn as fn
from experiments.fuzz.agreement import ANY
from experiments.fuzz.case import TAPED, Call
from experiments.fuzz.formulas import plain
from experiments.fuzz.rows.networks import normal
from experiments.fuzz.rows.objectives import of_network
from experiments.fuzz.rows.tasks import differentiated, task


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """A group of this process alone."""
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=0, world_size=1)
        try:
            yield
        finally:
            dist.destroy_process_group()


def in_group(call: Callable[..., Any]) -> Callable[..., Any]:
    """The call in such a group."""

    def run(*arguments: Any) -> Any:
        with alone():
            return call(*arguments)

    return run


def _mean(objective: fn.Objective, params: Any, batch: Any) -> Any:
    return fn.distributed.data_parallel(fn.explicit(objective), share=fn.distributed.rows)(params, batch)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _squares(x: Any) -> Any:
    return x.square().sum(-1)


def _of_squares(x: Any) -> Any:
    x = plain(x)
    if not x.numel() or not x.is_floating_point():
        raise TypeError("no derivative")
    return torch.func.jacrev(_squares)(x.double()).to(x.dtype)


def _differentiated(*arguments: Any) -> Any:
    value, grads = differentiated(*arguments)
    return value.to(torch.promote_types(value.dtype, torch.float32)), grads


ROWS = {
    "distributed.data_parallel": of_network(
        lambda objective: objective, in_group(_mean), _differentiated, refused=frozenset(TAPED), spreads=True
    ),
    "distributed.sharded": of_network(
        lambda objective: objective,
        in_group(lambda objective, *a: fn.distributed.sharded(fn.complex_step(objective))(*a)),
        differentiated,
        refused=frozenset(TAPED),
        spreads=True,
    ),
    "distributed.columns": Call(
        lambda g: (normal(g, 3, 2),),
        in_group(lambda x: fn.distributed.columns(_squares)(x)),
        _of_squares,
        refused=frozenset(TAPED),
        spreads=True,
    ),
    "distributed.seeded": of_network(
        lambda objective: objective,
        in_group(lambda objective, *a: fn.distributed.seeded(fn.forward_gradient(objective, _generator()))(*a)),
        lambda *a: (differentiated(*a)[0], ANY),
        refused=frozenset(TAPED),
        spreads=True,
    ),
    "distributed.rows": Call(lambda g: (task(g)[1],), in_group(fn.distributed.rows), lambda batch: batch),
}
