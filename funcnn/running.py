"""A run of `fit` on its way: what was trained, and the file that it goes on from.

A checkpoint is a file of `save`, a dict with four entries, `load(path)["trained"]` the first of them:

    trained      the Fit so far: parameters, state of the optimizer, history
    epoch        the state of the generator at the beginning of the epoch, which draws its order again
    generator    the state of the generator now
    call         what the call was made of, as `calls` says it, in JSON whose bytes are a tensor: nothing is to be escaped
"""

import json
import os
import zlib
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from . import tree
from .calls import check_same_call
from .distributed.ranks import is_first, unlike
from .errors import InputError
from .history import Divergence, Fit, History
from .safetensors import write
from .storage import as_path, contents, load, records
from .types import Batch, Params, State, Step


class Run:
    """What was trained so far, which grows by a step at a time."""

    def __init__(self, params: Params, state: State, generator: Generator) -> None:
        """Nothing was trained yet."""
        self.now = (params, state, 0)  # the number of steps with them, so that an interrupt finds all three or none
        self.losses, self.recent = torch.zeros(0, device="cpu"), list[Tensor]()
        self.epoch_ends: list[int] = []
        self.evaluations: dict[str, list[float]] = {}
        self.divergence: Divergence | None = None
        self.generator, self.epoch = generator, generator.get_state()
        self.file: tuple[Path, Tensor] | None = None

    @property
    def params(self) -> Params:
        """The parameters."""
        return self.now[0]

    @property
    def state(self) -> State:
        """The state of the optimizer."""
        return self.now[1]

    @property
    def steps(self) -> int:
        """How many steps were taken."""
        return self.now[2]

    @property
    def done(self) -> int:
        """How many of the present epoch."""
        return self.steps - (self.epoch_ends[-1] if self.epoch_ends else 0)

    def add(self, step: Step) -> None:
        """One more step."""
        del self.recent[self.steps - len(self.losses) :]  # of an interrupt between the two lines below
        self.recent.append(step.value)
        self.now = (step.params, step.state, self.steps + 1)

    def end_epoch(self, numbers: dict[str, float]) -> None:
        """The end of an epoch, and what was evaluated. Raises InputError where it has other names than before."""
        if self.epoch_ends and numbers.keys() != self.evaluations.keys():
            raise InputError("evaluate(params)", f"the names {sorted(numbers)}", "the same names after every epoch")
        self.evaluations = {name: [*self.evaluations.get(name, []), number] for name, number in numbers.items()}
        self.epoch_ends = [*self.epoch_ends, self.steps]

    def batches(self, epoch: Callable[[], Iterator[Batch]]) -> Iterator[Batch]:
        """What is left of the present epoch; `epoch()` draws its order from the generator."""
        if not self.done:
            self.epoch = self.generator.get_state()
            return epoch()
        now = self.generator.get_state()
        self.generator.set_state(self.epoch)
        batches = epoch()
        for _ in islice(batches, self.done):
            pass
        self.generator.set_state(now)
        return batches

    def trained(self) -> Fit:
        """What `fit` returns."""
        recent = self.recent[: self.steps - len(self.losses)]
        if recent:
            new = torch.stack(recent)
            self.losses = torch.cat([self.losses.to(new), new]) if len(self.losses) else new
            self.recent = []
        return Fit(self.params, self.state, History(self.losses, self.epoch_ends, self.evaluations, self.divergence))

    def kept_in(self, path: str | os.PathLike[str], call: str, start: State) -> None:
        """Goes on where a checkpoint says, if there is one, and is saved there from now on, by rank 0 where there are more.

        Raises InputError where it is that of another call, or differs from rank to rank; OSError where it cannot be written.
        """
        file = as_path(path)
        if file.exists():
            self._go_on(file, call, start)
        drawn = self.generator.get_state().numpy().tobytes()
        other = unlike([zlib.crc32(call.encode()), zlib.crc32(drawn), self.steps])  # and no rank reads any more
        if other & {0, 1}:
            needs = "the same one on all: data_parallel(step_fn, share=rows) divides the samples that all have"
            raise InputError("fit", "a call that differs from rank to rank", needs)
        if other:
            raise InputError("checkpoint", f"{path}, which differs from rank to rank", "a file that every rank reads")
        self.file = file, torch.frombuffer(bytearray(call.encode()), dtype=torch.uint8)
        self.save()

    def save(self) -> None:
        """Writes the checkpoint, where there is one and this is rank 0; a power cut may bring back an earlier one."""
        if self.file is not None and is_first():
            path, call = self.file
            generator = self.generator.get_state()
            now = {"trained": self.trained(), "epoch": self.epoch, "generator": generator, "call": call}
            write(path, *contents(now))

    def _go_on(self, path: Path, call: str, start: State) -> None:
        found = load(path, kinds=records((self.params, start)))
        if not isinstance(found, dict) or found.keys() != {"trained", "epoch", "generator", "call"}:
            raise InputError("checkpoint", f"{path}, which holds something else", "a file of `fit`, or a name of its own")
        earlier = found["call"] if isinstance(found["call"], str) else bytes(found["call"].numpy())
        check_same_call(json.loads(call), json.loads(earlier), str(path))
        params, state, history = found["trained"]
        self.losses, self.epoch_ends, self.evaluations, self.divergence = history
        params = tree.map(lambda leaf, like: leaf.to(like.device), params, self.params)
        self.now, self.epoch = (params, tree.map(_beside, state, start), len(self.losses)), found["epoch"]
        self.generator.set_state(found["generator"])


def _beside(leaf: Any, like: Any) -> Any:
    """A leaf of a state on the device of that of the start."""
    return leaf.to(like.device) if isinstance(leaf, Tensor) else leaf
