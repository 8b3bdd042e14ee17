"""A call, and a case: what is called, with what, and what is hostile in it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from random import Random
from typing import Any, NamedTuple

import torch

import funcnn as fn

Path = tuple[Any, ...]
RECORDS = (fn.Layer, fn.Loss, fn.Objective, fn.StepFn, fn.Optimizer, fn.Transformation)  # whose functions are places
TWO_PLACES = 0.2  # the share of cases in which two places are spoiled
TAPED = {"on a tape", "that requires a gradient", "a parameter"}  # beside which torch takes none of inference mode
NONE = 0.05  # and in which no place is


class Call(NamedTuple):
    """A right use of a public name.

    draw      (generator) -> the arguments, a tuple
    run       (*arguments) -> what is looked at, a tree of tensors, numbers, strings
    truth     (*arguments) -> the same in another way; it raises where there is no such number
    power     numbers agree within eps^power of their dtype
    own       exceptions that the name says it raises
    refused   strange and legitimate arguments that it may refuse all the same, by the names of their spoilers
    spreads   what is not finite in one argument may be in all results, as in differences of a value that is NaN
    bare      what rules hand on to one another, and trust: it is called with what is strange and with other numbers alone
    trusts    what functions among the arguments return is taken as it is
    rare      how seldom it is drawn, for what takes long
    """

    draw: Callable[[torch.Generator], tuple[Any, ...]]
    run: Callable[..., Any]
    truth: Callable[..., Any]
    power: float = 0.6
    own: tuple[type[BaseException], ...] = ()
    refused: frozenset[str] = frozenset()
    spreads: bool = False
    bare: bool = False
    trusts: bool = False
    rare: int = 1


class Sort(Enum):
    """What a spoiler makes: legitimate, though strange, and to be taken for what it is; other numbers; or hostile."""

    STRANGE = "strange"
    NUMBERS = "numbers"
    HOSTILE = "hostile"


class Spoiler(NamedTuple):
    """make(value, random) -> what stands in its place; it raises where it is of no use there."""

    make: Callable[[Any, Random], Any]
    sort: Sort = Sort.HOSTILE


class Case(NamedTuple):
    """One case; `spoiled` names what was done, place by place."""

    name: str
    call: Call
    arguments: tuple[Any, ...]
    spoiled: tuple[tuple[Path, str], ...]
    legitimate: bool

    def __str__(self) -> str:
        """Such as: dense of arguments[2]['w'] transposed."""
        parts = [f"arguments{''.join(f'[{key!r}]' for key in path)} {what}" for path, what in self.spoiled]
        return f"{self.name} of {' and '.join(parts) or 'right arguments'}"


def children(value: Any) -> list[tuple[Any, Any]]:
    """(key, child) of a container that is looked into; of records with rules inside, only those that are listed."""
    if isinstance(value, dict):
        return list(value.items())
    plain = isinstance(value, (list, tuple)) and (not callable(value) or isinstance(value, RECORDS))
    return list(enumerate(value)) if plain else []


def places(value: Any, without: Sequence[Path] = (), path: Path = ()) -> Iterator[Path]:
    """Every place in a tree, containers and leaves, but for the whole, for those `without`, and for what holds them."""
    for key, child in children(value):
        here = (*path, key)
        if not any(here == one[: len(here)] for one in without):
            yield here
        if here not in without:
            yield from places(child, without, here)


def found(value: Any, path: Path) -> Any:
    """What stands at a place."""
    for key in path:
        value = value[key]
    return value


def replaced(value: Any, path: Path, new: Any) -> Any:
    """The tree with another thing at a place; nothing is changed."""
    if not path:
        return new
    changed = {key: replaced(child, path[1:], new) if key == path[0] else child for key, child in children(value)}
    if isinstance(value, dict):
        return changed
    return type(value)(*changed.values()) if hasattr(value, "_fields") else type(value)(changed.values())


def case(calls: Mapping[str, Call], spoilers: Callable[[Any], Mapping[str, Spoiler]], seed: int, number: int) -> Case:
    """The case of a number: the calls take turns, and places and spoilers are drawn."""
    random = Random(f"{seed} {number}")
    turn, index = divmod(number, len(calls))
    name = list(calls)[index]
    if turn % calls[name].rare:
        name = random.choice([name for name, call in calls.items() if call.rare == 1])
    call = calls[name]
    arguments = call.draw(torch.Generator().manual_seed(random.getrandbits(60)))
    spoiled: list[tuple[Path, str]] = []
    sorts = []
    for _ in range(0 if random.random() < NONE else 1 + (random.random() < TWO_PLACES)):
        free = list(places(arguments, [path for path, _ in spoiled]))
        if not free:
            break
        path = random.choice(free)
        table = spoilers(found(arguments, path))
        if call.bare:
            table = {what: one for what, one in table.items() if one.sort is not Sort.HOSTILE}
        if not table:
            continue
        what = random.choice(list(table))
        try:
            new = table[what].make(found(arguments, path), random)
        except Exception:
            continue  # there is no such thing of this dtype or shape
        arguments = replaced(arguments, path, new)
        spoiled.append((path, what))
        sorts.append(table[what].sort is Sort.STRANGE and what not in call.refused)
    done = {what for _, what in spoiled}
    return Case(name, call, arguments, tuple(spoiled), all(sorts) and not ("of inference mode" in done and done & TAPED))
