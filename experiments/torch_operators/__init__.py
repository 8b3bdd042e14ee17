"""Torch's own operators under `fn.check_vjp`: several hundred backward passes that nobody here has written.

Torch tests its operators on samples from a database that comes with it. Each differentiable operator is checked on some of
them, and every objection is explained by other means than the check: either the operator is not what its backward takes it
to be, or torch is wrong, or we are.
"""

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import funcnn as fn
from experiments.core.options import BadOption, Missing, Options
from experiments.core.result import Result
from experiments.torch_operators.presentation import defects, draw, objections, observations


@dataclass(frozen=True, kw_only=True)
class TorchOperators(Options):
    """Checks torch's own operators on the samples that torch tests them with, in float64 on the CPU whatever --dtype."""

    samples: int = 1
    """Samples of each operator; 20 take ten minutes."""
    every: int = 8
    """Checks every n-th operator only."""
    only: tuple[str, ...] = ("all",)
    """Names of operators in torch's database, such as linalg.cholesky; or all."""

    FULL = {"samples": 2, "every": 1}


def run(options: TorchOperators) -> Result:
    """The checks, and why they object."""
    records = list(fn.progress(measured(options)))
    found = [record for record in records if "operator" in record]
    if not found:
        raise BadOption(f"only: got {', '.join(options.only)}, needs names in torch's database, such as linalg.cholesky")
    shown = {record["defect"]: record["sides"] for record in records if "defect" in record}
    return Result(
        "Torch's operators: several hundred backward passes under the check",
        "Operators of torch's own test database that are differentiable in float64, on some of their samples; and what "
        "explains each objection: differences, forward mode and backward as three witnesses, taken without the check.",
        numbers={"samples": found, "defects": shown},
        observations=observations(found, shown),
        figures={"witnesses": draw(found)},
        tables=[objections(found), defects(shown)],
    )


def measured(options: TorchOperators) -> Iterator[dict[str, Any]]:
    """What the worker prints, as it comes."""
    if importlib.util.find_spec("expecttest") is None:
        raise Missing("torch's operator database imports expecttest, which is not installed: pip install expecttest")
    names, every = ((), options.every) if options.only == ("all",) else (options.only, 1)
    numbers = map(str, (options.samples, options.seed, every))
    command = [sys.executable, "-m", "experiments.torch_operators.worker", *numbers, *names]
    with tempfile.TemporaryFile("w+") as errors:  # the warnings of some hundred operators; a pipe would fill up
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as worker:
            assert worker.stdout is not None
            yield from map(json.loads, worker.stdout)
        if worker.returncode:
            errors.seek(0)
            last = ([*errors.read().splitlines()] or ["no message"])[-1]
            raise RuntimeError(f"the process that checks the operators failed with exit code {worker.returncode}: {last}")
