"""A run with a checkpoint, of which a rank may be killed: torchrun ... -m experiments.distributed.life PATH DIES_AT."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

import funcnn as fn


def fitted(path: Path, dies_at: int = 0) -> fn.Fit:
    """The run: of all ranks, or of a process that knows of no others. Rank 1 is killed in place of a step of that number."""
    data = fn.data.digits(generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    layer = fn.mlp((64, 8, 10), fn.tanh)
    step_fn: Any = fn.explicit(fn.supervised(layer, fn.softmax_cross_entropy()))
    explicit, calls = step_fn, iter(range(dies_at))

    def step_of_rank(params: Any, batch: Any) -> Any:
        if dies_at and dist.get_rank() == 1 and next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return explicit(params, batch)

    if dist.is_initialized():
        step_fn = fn.distributed.data_parallel(step_of_rank, share=fn.distributed.rows)
    params = layer.init(torch.Generator().manual_seed(1), dtype=torch.float64)
    how = {"epochs": 2, "batch_size": 64, "generator": torch.Generator().manual_seed(2)}
    return fn.fit(step_fn, fn.adam(0.01), params, data.train, **how, checkpoint=path, checkpoint_every=1)


if __name__ == "__main__":
    from experiments.distributed.life import fitted  # a checkpoint knows functions by the module that they are in

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    fitted(Path(sys.argv[1]), int(sys.argv[2]))
    dist.destroy_process_group()
