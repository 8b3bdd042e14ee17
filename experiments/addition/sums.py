"""Sums as sequences of digits: 85 + 50 = 135 is 8 5 5 0 1 3 5, and a network is asked for the last three."""

from typing import Any

import torch
from torch import Generator, Tensor

import funcnn as fn
from experiments.core.beside import cross_entropy

QUESTION, ANSWER = 4, 3  # digits
LENGTH = QUESTION + ANSWER - 1  # of what the network is given: nothing follows the last digit


def every_sum(reverse: bool) -> Tensor:
    """All sums of two numbers below 100 as digits (10,000, 7); reversed, the answer begins with its units."""
    a, b = torch.cartesian_prod(torch.arange(100), torch.arange(100)).T
    answer = [(a + b) // 10**power % 10 for power in (2, 1, 0)]
    return torch.stack([a // 10, a % 10, b // 10, b % 10, *(answer[::-1] if reverse else answer)], 1)


def last(places: int) -> fn.Layer:
    """The last places of a sequence, y = x[:, -L:], (N, T, D) -> (N, L, D). Back, zeros stand before dy: dx = (0, dy)."""

    def init(generator: Generator, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Any:
        return ()

    def forward(params: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        return x[:, -places:], x

    def inputs(x: Tensor, dy: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(x[:, :-places]), dy], 1)

    return fn.Layer(init, fn.Forward(forward, rowwise=True), fn.ByParts(lambda x, dy: (), inputs))


def exercises(sums: Tensor) -> tuple[Tensor, Tensor]:
    """What the network is given, and what it has to say: each digit of the answer, of all that stand before it."""
    return sums[:, :-1], sums[:, QUESTION:]


def of_answers(logits: Tensor, labels: Tensor) -> Tensor:
    """Classic PyTorch's loss of the last places of logits (N, T, C), as many as there are labels (N, L)."""
    return cross_entropy(logits[:, -labels.shape[1] :], labels)


def answers(layer: fn.Layer, params: Any, sums: Tensor) -> Tensor:
    """The digits (N, 3) that the network says, each the likeliest after the question and what it has said itself."""
    given = sums[:, :QUESTION]
    for _ in range(ANSWER):
        given = torch.cat([given, layer(params, given)[:, -1:].argmax(-1)], 1)
    return given[:, QUESTION:]


def numbers_of(sums: Tensor, reverse: bool) -> list[tuple[int, int, int]]:
    """The two numbers and the answer of sums given as digits (N, 7)."""
    a, b, answer = sums[:, :2], sums[:, 2:QUESTION], sums[:, QUESTION:]
    parts = [a, b, answer.flip(1) if reverse else answer]
    return [
        tuple(int("".join(map(str, digits))) for digits in row) for row in zip(*(p.tolist() for p in parts), strict=True)
    ]
