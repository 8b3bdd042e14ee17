"""Runs experiments one after the other, or several at a time in processes of their own.

What is told comes in the order of the experiments, whichever is done first. Each result is kept with the time that it took.
"""

import contextlib
import dataclasses
import io
import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

import torch

from experiments.core.options import Options
from experiments.core.result import Result, save


class Job(NamedTuple):
    """An experiment and what it is told."""

    name: str
    run: Callable[[Any], Result]
    options: Options


def perform(job: Job) -> Result:
    """Runs an experiment and keeps its result."""
    start = perf_counter()
    result = job.run(job.options)
    result = dataclasses.replace(result, seconds=perf_counter() - start)
    save(job.name, result, job.options)
    return result


def in_turn(jobs: list[Job], processes: int) -> Iterator[tuple[Job, Callable[[], Result]]]:
    """Each job with the function that returns its result, or raises what the experiment raises, when it is done."""
    if processes == 1 or len(jobs) < 2:
        yield from ((job, partial(perform, job)) for job in jobs)
        return
    with multiprocessing.get_context("spawn").Pool(processes, _prepare) as pool:  # ends them, whatever happens
        for job, pending in [(job, pool.apply_async(_overheard, (job,))) for job in jobs]:
            yield job, partial(_told, pending)


def _prepare() -> None:
    """One thread each, and Ctrl-C is for the process that started them."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _overheard(job: Job) -> tuple[Result, str, str]:
    """The result without its figures and numbers, which are saved, and what was written to stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        result = perform(job)
    return dataclasses.replace(result, figures={}, numbers={}), out.getvalue(), err.getvalue()


def _told(pending: Any) -> Result:
    result, out, err = pending.get()
    print(out, end="")
    print(err, end="", file=sys.stderr)
    return result
