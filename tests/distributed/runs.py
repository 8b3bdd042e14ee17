"""What the ranks of test_fit do: see together. One rank alone is run by the test itself."""

import os
import signal
from pathlib import Path

import torch.distributed as dist
from distributed.shares import network
from helpers import seeded

import funcnn as fn

OBJECTIVE, PARAMS, DATA = network((6, 5, 3), 23)
STEP_FN = fn.explicit(OBJECTIVE)


class Stop(Exception):
    pass


def until(count, act):
    """The step function, which acts in place of its call of that number."""
    left = iter(range(count))

    def step_fn(params, batch):
        if next(left, None) is None:
            act()
        return STEP_FN(params, batch)

    return step_fn


def stop():
    raise Stop


def fitted(path, step_fn=STEP_FN, seed=3, data=DATA, **more):
    """A call as a script would make it, of whatever ranks there are: five steps an epoch."""
    if dist.is_initialized():
        step_fn = fn.distributed.data_parallel(step_fn, share=fn.distributed.rows)
    how = {"epochs": 4, "batch_size": 5, "generator": seeded(seed), "checkpoint": path, "checkpoint_every": 1} | more
    return fn.fit(step_fn, fn.adam(0.01), PARAMS, data, evaluate=lambda params: fn.tree.dot(params, params), **how)


def stopped(rank, size, folder):
    """All ranks stop at the same step."""
    try:
        fitted(folder / "run", until(7, stop))
    except Stop as error:
        return error.trained


def gone_on(rank, size, folder):
    """The same call again, to the end."""
    return fitted(folder / "run", until(100, stop))


def one_dies(rank, size, folder):
    """The last rank but one is killed at a step; what the others say."""
    die = (lambda: os.kill(os.getpid(), signal.SIGKILL)) if rank == size - 2 else None
    try:
        fitted(folder / "run", until(7, die) if die else until(100, stop))
    except fn.distributed.RankEnded as error:
        return error


def different(rank, size, folder):
    """What is said of calls and files that differ from rank to rank."""
    own = folder / f"of {rank}"
    if rank:
        fn.save(own, {})
    calls = {
        "data": lambda: fitted(folder / "data", data=fn.tree.map(lambda x: x + rank if x.is_floating_point() else x, DATA)),
        "seeds": lambda: fitted(folder / "seeds", seed=rank),
    }
    found = {}
    for name, call in calls.items():
        try:
            call()
        except fn.InputError as error:
            found[name] = str(error)
    return found, sorted(path.name for path in Path(folder).iterdir() if path.suffix != ".part")
