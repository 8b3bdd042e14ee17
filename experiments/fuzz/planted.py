"""Calls that end badly: what the fuzzer must count as a failure, each by its name."""

import time
from typing import Any

import torch
from torch import Tensor

import funcnn as fn
from experiments.fuzz.case import Call

KEPT: list[Tensor] = []


def _changes(x: Tensor) -> Tensor:
    return x.mul_(2)


def _changes_by_nothing(x: Tensor) -> Tensor:
    return x.add_(0) * 2


def _changes_the_world(x: Tensor) -> Tensor:
    torch.rand(1)
    return 2 * x


def _hangs(x: Tensor) -> Tensor:
    while True:
        time.sleep(0.01)


def _leaks(x: Tensor) -> Tensor:
    for _ in range(64):
        KEPT.append(torch.empty(2**25, dtype=torch.uint8))
    return 2 * x


def _names_no_place(x: Tensor) -> Tensor:
    raise fn.InputError("", "this", "that")


def _ends_the_process(x: Tensor) -> Tensor:
    import os

    os._exit(3)


def _refuses(x: Tensor) -> Tensor:
    raise fn.InputError("x", "this", "that")


def _raises(x: Tensor) -> Tensor:
    return x @ torch.ones(7, 7)


# What each is to be called: (the call's own function, how it must be said to end)
DEFECTS: dict[str, tuple[Any, str]] = {
    "changed input": (_changes, "changed an argument"),
    "version moved on": (_changes_by_nothing, "changed an argument"),
    "global generator": (_changes_the_world, "changed what is global"),
    "wrong number": (lambda x: 2 * x + 1e-3, "a wrong number"),
    "wrong dtype": (lambda x: 2 * x.float(), "a wrong number"),
    "number from nowhere": (lambda x: torch.zeros(()), "a number where there is none"),
    "hang": (_hangs, "no end"),
    "leak": (_leaks, "too much memory"),
    "raw error": (_raises, "a raw error"),
    "no place": (_names_no_place, "no place"),
    "legitimate refused": (_refuses, "refused what is legitimate"),
    "end of the process": (_ends_the_process, "the end of the process"),
}


def _truth(name: str) -> Any:
    def truth(x: Tensor) -> Tensor:
        if name == "number from nowhere":
            raise TypeError("there is none")
        return 2 * x

    return truth


CALLS = {
    name: Call(lambda g: (torch.randn(3, generator=g, dtype=torch.float64),), function, _truth(name))
    for name, (function, _) in DEFECTS.items()
}
