"""A network that predicts the next character writes by drawing from what it predicts; and how far counting would come."""

from math import log
from typing import Any

import torch
from torch import Generator, Tensor

import funcnn as fn
from experiments.core.text import Text


def write(
    layer: fn.Layer, params: Any, prompt: Tensor, count: int, length: int, generator: Generator, temperature: float = 0.8
) -> Tensor:
    """The tokens (count,) after a prompt, each drawn from softmax(z / temperature) of the `length` tokens before it."""
    tokens = prompt
    for _ in range(count):
        logits = layer(params, tokens[None, -length:])[0, -1]
        chances = torch.softmax(logits / temperature, 0).cpu()
        tokens = torch.cat([tokens, torch.multinomial(chances, 1, generator=generator).to(tokens.device)])
    return tokens[len(prompt) :]


def counting_losses(text: Text) -> dict[str, float]:
    """The validation loss of predictions by counting in the training part, everything once more than it occurs there."""
    classes, before, after = len(text.vocabulary), text.validation[:-1], text.validation[1:]
    singles = 1 + torch.bincount(text.train, minlength=classes).double()
    pairs = 1 + torch.bincount(classes * text.train[:-1] + text.train[1:], minlength=classes**2).double()
    pairs = pairs.reshape(classes, classes)
    return {
        "all characters alike": log(classes),
        "by frequency": -(singles / singles.sum()).log()[after].mean().item(),
        "by the character before": -(pairs / pairs.sum(1, keepdim=True)).log()[before, after].mean().item(),
    }
