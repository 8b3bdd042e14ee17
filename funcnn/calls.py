"""What a call of `fit` was made of, so that a run that goes on is told from another one."""

import functools
import inspect
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import torch
from torch import Generator, Tensor

from .errors import InputError
from .safetensors import pieces
from .storage import contents
from .types import Tree

PLAIN = (bool, int, float, str, type(None), torch.dtype)


def fingerprint(tree: Tree) -> str:
    """The checksum of the file that a tree would be saved in."""
    *_, checksum = pieces(*contents(tree))
    return f"numbers of checksum {checksum.hex()}"


def made_of(place: str, part: Any, generator: Generator, seen: dict[int, Any] | None = None) -> Iterator[tuple[str, str]]:
    """What a function is made of, (place, description), such as ("optimizer_fn.update.lr", "0.1"), each part once.

    Functions of funcnn are told by their names and by all that they enclose, those of others by their names alone. Lists and
    dicts are left out: they may be memories, which change. Raises InputError where one draws from another generator.
    """
    seen = {} if seen is None else seen
    if id(part) in seen and not isinstance(part, PLAIN):
        return
    seen[id(part)] = part  # kept, so that no other part takes its place in memory
    if isinstance(part, PLAIN):
        yield place, repr(part)
    elif isinstance(part, Tensor):
        yield place, fingerprint(part)
    elif isinstance(part, Generator):
        if part is not generator:
            raise InputError(place, "a generator of its own", "the one of fit, whose state a checkpoint keeps")
        yield place, "the generator of fit"
    elif isinstance(part, functools.partial):
        yield from made_of(place, (part.func, part.args, *sorted(part.keywords.items())), generator, seen)
    elif isinstance(part, tuple):
        for name, child in zip(getattr(part, "_fields", range(len(part))), part, strict=True):
            yield from made_of(f"{place}.{name}" if isinstance(name, str) else f"{place}[{name}]", child, generator, seen)
    elif isinstance(part, FunctionType):
        yield place, f"{part.__module__}.{part.__qualname__}"
        if part.__module__.startswith("funcnn."):
            for name, child in sorted(inspect.getclosurevars(part).nonlocals.items()):
                yield from made_of(f"{place}.{name}", child, generator, seen)
    elif not isinstance(part, (list, dict)):
        yield place, type(part).__name__


def check_same_call(call: dict[str, str], earlier: dict[str, str], path: str) -> None:
    """Raises InputError where a call differs from the one that began, naming the first place."""
    for place in [*call, *earlier]:
        if call.get(place) != earlier.get(place):
            needs = f"{earlier.get(place, 'nothing')}, as in the run that {path} holds, or a checkpoint of another name"
            raise InputError(place, call.get(place, "nothing"), needs)
