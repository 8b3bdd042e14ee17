"""Several ranks: the same parameters, the bytes that they cost, the time, and what becomes of a run that loses one.

    torchrun --nproc-per-node 2 -m experiments distributed --full

Without torchrun it starts two ranks of its own. Every number is measured by the ranks; rank 0 tells it.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from experiments.core.options import Options
from experiments.core.result import Result
from experiments.distributed import measure, presentation

RANKS = 2


@dataclass(frozen=True, kw_only=True)
class Distributed(Options):
    """Trains on several ranks as on one, counts what they send, and loses one of them."""

    hidden: int = 8
    """Tanh units in the hidden layer."""
    samples: int = 61
    """Samples of a step, an odd number of them: the shares differ."""
    steps: int = 30
    """Steps of each provider."""

    FULL = {"steps": 100}


def run(options: Distributed) -> Result:
    """The numbers that the ranks measure, in sentences and tables."""
    numbers = measure.measured(options) if "RANK" in os.environ else by_ranks_of_its_own(options)
    return presentation.result(options, numbers)


def by_ranks_of_its_own(options: Distributed) -> dict[str, measure.Numbers]:
    """The same numbers, by two ranks that torchrun starts."""
    with tempfile.TemporaryDirectory() as folder:
        flags = [f"--{name}={getattr(options, name)}" for name in ("seed", "hidden", "samples", "steps")]
        command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={RANKS}"]
        command += ["-m", "experiments", "distributed", f"--output={folder}", *flags]
        done = subprocess.run(command, env=measure.environment(), capture_output=True, text=True, timeout=600)
        if done.returncode:
            raise RuntimeError(f"the ranks failed:\n{done.stderr}")
        return json.loads((Path(folder) / "distributed" / "result.json").read_text())["numbers"]
