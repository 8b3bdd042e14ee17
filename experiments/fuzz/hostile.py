"""Spoilers of what is no tensor: functions, numbers, generators, trees, the bytes of files."""

import gzip
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.fuzz.case import Sort, Spoiler
from experiments.fuzz.tensors import TENSORS

STRANGE = Sort.STRANGE


class Thrown(Exception):
    """What a hostile function raises."""


class Hostile:
    """A function in the place of another; it keeps whether it was called, for then there is no right number.

    `own` is what it raises on purpose. A mutating one is none the worse where nobody sees what it did to its own copies.
    """

    def __init__(self, function: Callable[..., Any], own: type[BaseException] | None = None, unseen: bool = False) -> None:
        """It was not called yet."""
        self.function, self.own, self.unseen, self.called = function, own, unseen, False

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """The hostile one."""
        self.called = True
        return self.function(*arguments, **named)


def _raising(f: Any, random: Random) -> Hostile:
    def raises(*_: Any, **__: Any) -> Any:
        raise Thrown("on purpose")

    return Hostile(raises, Thrown)


def _recursing(f: Any, random: Random) -> Hostile:
    def again(*arguments: Any, **named: Any) -> Any:
        return again(*arguments, **named)

    return Hostile(again, RecursionError)


def _first_tensor(x: Any) -> Tensor | None:
    if isinstance(x, Tensor):
        return x if x.is_floating_point() else None
    parts = x.values() if isinstance(x, dict) else x if isinstance(x, (tuple, list)) else ()
    return next((found for part in parts if (found := _first_tensor(part)) is not None), None)


def _mutating(f: Any, random: Random) -> Hostile:
    def mutates(*arguments: Any, **named: Any) -> Any:
        x = _first_tensor(arguments)
        if x is not None:
            with torch.no_grad():
                x.add_(1.0)
        return f(*arguments, **named)

    return Hostile(mutates, unseen=True)


def _returning(*results: Any) -> Callable[[Any, Random], Hostile]:
    def make(f: Any, random: Random) -> Hostile:
        result = random.choice(results)
        return Hostile(lambda *_, **__: result)

    return make


def _wrapped(change: Callable[[Any], Any]) -> Callable[[Any, Random], Hostile]:
    return lambda f, random: Hostile(lambda *arguments, **named: change(f(*arguments, **named)))


def _holding_itself(value: Any, random: Random) -> list[Any]:
    whole: list[Any] = [torch.ones(2)]
    whole.append(whole)
    return whole


def _deep(value: Any, random: Random) -> Any:
    for _ in range(10_000):
        value = (value,)
    return value


FUNCTIONS = {
    "raising": Spoiler(_raising),
    "recursing": Spoiler(_recursing),
    "mutating": Spoiler(_mutating),
    "returning what is none": Spoiler(_returning(None, (), "text", object(), 7j, [[]])),
    "returning strange tensors": Spoiler(_returning(torch.ones(7, 7), (torch.ones(7, 7), torch.ones(0)), torch.ones(3, 1))),
    "returning a longer tuple": Spoiler(_wrapped(lambda y: (*y, None) if isinstance(y, tuple) else (y, y, y))),
    "returning a list": Spoiler(_wrapped(lambda y: list(y) if isinstance(y, tuple) else [y])),
    "of no arguments": Spoiler(lambda f, random: lambda: None),
}

NUMBERS = {
    "another number": Spoiler(lambda x, random: random.choice([0, 1, 2, 3, 5, -1, 0.5, 1.5, 1e-3])),
    "negative": Spoiler(lambda x, random: -x - 1),
    "not finite": Spoiler(lambda x, random: random.choice([math.nan, math.inf, -math.inf])),
    "huge": Spoiler(lambda x, random: random.choice([2**31, 2**40, 2**62, 2**63, 2**70, 10**400, 1e300, 1e39])),
    "tiny": Spoiler(lambda x, random: random.choice([5e-324, 1e-40, 1e-300])),
    "a bool": Spoiler(lambda x, random: random.choice([True, False])),
    "complex": Spoiler(lambda x, random: complex(x, 1)),
    "a tensor": Spoiler(lambda x, random: torch.tensor(x)),
    "of numpy": Spoiler(
        lambda x, random: np.bool_(x) if isinstance(x, bool) else np.float64(x) if isinstance(x, float) else np.int64(x),
        STRANGE,
    ),
    "an array": Spoiler(lambda x, random: np.array([x])),
    "in words": Spoiler(lambda x, random: str(x)),
}

GENERATORS = {
    "on another device": Spoiler(lambda x, random: torch.Generator(device="meta")),
    "a module": Spoiler(lambda x, random: torch),
    "a seed": Spoiler(lambda x, random: 3),
    "NumPy's": Spoiler(lambda x, random: np.random.default_rng(0)),
}

TREES = {
    "holding itself": Spoiler(_holding_itself),
    "very deep": Spoiler(_deep),
    "empty": Spoiler(lambda x, random: type(x)()),
    "one part short": Spoiler(lambda x, random: dict(list(x.items())[1:]) if isinstance(x, dict) else x[1:]),
    "one part more": Spoiler(lambda x, random: {**x, "z": torch.ones(2)} if isinstance(x, dict) else (*x, torch.ones(2))),
    "in one more tuple": Spoiler(lambda x, random: (x,)),
    "a list": Spoiler(lambda x, random: list(x.values()) if isinstance(x, dict) else list(x)),
    "an ordered dict": Spoiler(lambda x, random: OrderedDict(reversed(list(x.items())))),
    "reversed": Spoiler(lambda x, random: dict(reversed(list(x.items()))) if isinstance(x, dict) else x[::-1]),
    "with other keys": Spoiler(lambda x, random: {index: part for index, part in enumerate(x.values())}),
    "with keys of two kinds": Spoiler(lambda x, random: {**x, 1: torch.ones(2)}),
}

BYTES = {
    "cut": Spoiler(lambda x, random: x[: random.randrange(len(x))]),
    "empty": Spoiler(lambda x, random: b""),
    "longer": Spoiler(lambda x, random: x + b"\0" * random.randrange(1, 9)),
    "one bit changed": Spoiler(lambda x, random: _flipped(x, random)),
    "bits changed": Spoiler(lambda x, random: _flipped(_flipped(x, random), random)),
    "noise": Spoiler(lambda x, random: random.randbytes(len(x))),
    "zipped": Spoiler(lambda x, random: gzip.compress(x)),
    "a bomb": Spoiler(lambda x, random: _bomb(x)),
    "huge sizes": Spoiler(lambda x, random: x[:4] + b"\xff" * 12 + x[16:]),
    "missing": Spoiler(lambda x, random: None),
}

STRINGS = {
    "another word": Spoiler(lambda x, random: random.choice(["", "x", "../..", "\0", "train\n", "a" * 5000, "sum"])),
    "bytes": Spoiler(lambda x, random: x.encode()),
}

ANYTHING = {
    "None": Spoiler(lambda x, random: None),
    "a word": Spoiler(lambda x, random: "word"),
    "an object": Spoiler(lambda x, random: object()),
    "an empty tuple": Spoiler(lambda x, random: ()),
    "a number": Spoiler(lambda x, random: random.choice([0, -3, 1.5, math.nan, 10**400])),
    "a type": Spoiler(lambda x, random: random.choice([int, Tensor, dict])),
    "an array": Spoiler(lambda x, random: np.ones((2, 3))),
    "a list of words": Spoiler(lambda x, random: ["a", "b"]),
    "a tensor of ones": Spoiler(lambda x, random: torch.ones(random.choice([(), (1,), (3, 4), (0,)]))),
    "a generator that is spent": Spoiler(lambda x, random: iter(())),
}


def _flipped(x: bytes, random: Random) -> bytes:
    where = random.randrange(min(len(x), random.choice([16, len(x)])))
    return x[:where] + bytes([x[where] ^ 1 << random.randrange(8)]) + x[where + 1 :]


_ZIPPED: list[bytes] = []


def _bomb(x: bytes) -> bytes:
    """The header, and two GiB of zeros behind it, in a few MiB."""
    if not _ZIPPED:
        piece = gzip.compress(b"\0" * 2**26)
        _ZIPPED.append(piece * 32)
    return gzip.compress(x[:16]) + _ZIPPED[0]


def spoilers(value: Any) -> Mapping[str, Spoiler]:
    """What there is for a value."""
    kinds: list[tuple[Any, dict[str, Spoiler]]] = [
        (Tensor, TENSORS),
        (torch.Generator, GENERATORS),
        ((int, float), NUMBERS),
        (bytes, BYTES),
        (str, STRINGS),
        ((dict, tuple, list), TREES),
    ]
    own = next((table for kind, table in kinds if isinstance(value, kind)), FUNCTIONS if callable(value) else {})
    return own if own and not isinstance(value, (bytes,)) and len(own) > 12 else {**own, **ANYTHING}
