"""What every experiment can be told: a dataclass that tyro turns into command-line flags, defaults and help included."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch


class BadOption(ValueError):
    """A command line that asks for what cannot be: told in one line."""


class Missing(RuntimeError):
    """A package that one experiment needs and that is not installed: told in one line, and the others run all the same."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options that all experiments share."""

    seed: int = 0
    """Seed of the split of the data, of the initial parameters and of the order of the samples."""
    device: str = "cpu"
    """Where to compute, such as cpu or cuda."""
    dtype: Literal["float32", "float64"] = "float64"
    """Precision of the data and the parameters."""
    output: Path = Path("results")
    """Folder for the figures, the numbers, the observations and report.html."""
    full: bool = False
    """Runs sizes that take long, where the default ones are smaller; the README shows those."""

    FULL: ClassVar[Mapping[str, Any]] = {}  # the sizes that `full` stands for

    def __post_init__(self) -> None:
        """Raises BadOption for what no run could honour; every number but the seed must be positive."""
        for field in fields(self):
            given = getattr(self, field.name)
            for number in given if isinstance(given, tuple) else (given,):
                largest = 2**31 if isinstance(number, int) else float("inf")
                counted = isinstance(number, (int, float)) and not isinstance(number, bool)
                if field.name != "seed" and counted and not 0 < number < largest:
                    raise BadOption(f"{field.name}: got {number}, needs a positive number below {largest}")
            if given == ():
                raise BadOption(f"{field.name}: got none, needs at least one")
        if not 0 <= self.seed < 2**63:
            raise BadOption(f"seed: got {self.seed}, needs an integer from 0 to 2^63 - 1")
        if self.output.exists() and not self.output.is_dir():
            raise BadOption(f"output: got {self.output}, a file; needs a folder")
        try:
            torch.zeros(1, device=self.device).item()
        except (RuntimeError, AssertionError, NotImplementedError):
            raise BadOption(f"device: got {self.device}, needs one that this machine has, such as cpu") from None

    @property
    def tensors(self) -> dict[str, torch.dtype | str]:
        """The keywords that make a tensor of the dtype on the device."""
        return {"dtype": getattr(torch, self.dtype), "device": self.device}

    def generator(self) -> torch.Generator:
        """A fresh generator: the same seed gives the same run."""
        return torch.Generator().manual_seed(self.seed)


@dataclass(frozen=True, kw_only=True)
class Training(Options):
    """The options of every experiment that trains on minibatches for some epochs."""

    lr: float = 0.1
    """Learning rate."""
    epochs: int = 20
    """How often every sample is seen."""
    batch_size: int = 32
    """Samples per step."""

    def schedule(self) -> dict[str, Any]:
        """The keywords of `fn.fit`, with a fresh generator: every run sees the same batches in the same order."""
        return {"epochs": self.epochs, "batch_size": self.batch_size, "generator": self.generator()}
