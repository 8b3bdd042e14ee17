"""The digits: of scikit-learn, 8 x 8, or of MNIST, 28 x 28, scaled to what each network takes.

The 1989 paper has 7,291 digits of American post codes to learn from and 2,007 to be judged by. Of whatever digits there are,
at most as many as both are drawn, and as large a share of them is kept for judging.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

import funcnn as fn
from experiments.core.options import Options

TRAIN, TEST = 7291, 2007


@dataclass(frozen=True, kw_only=True)
class Digits(Options):
    """The options of where digits come from."""

    mnist: Path | None = None
    """A folder with the test part of MNIST, t10k-images-idx3-ubyte and its labels; by default scikit-learn's digits."""
    digits: int = TRAIN + TEST
    """How many digits to draw at most; about a fifth of them are for testing."""


class Images(NamedTuple):
    """Ink from 0 to 1, (N, 1, H, W) of float64, and the labels (N,)."""

    ink: Tensor
    labels: Tensor

    def scaled(self, size: int) -> Tensor:
        """The images as (N, 1, size, size), between pixels by their distance from them."""
        if self.ink.shape[-1] == size:
            return self.ink
        return F.interpolate(self.ink, (size, size), mode="bilinear", align_corners=False)


def drawn(options: Digits, generator: torch.Generator) -> tuple[Images, Images]:
    """The digits to learn from, and those to be judged by."""
    if options.mnist is None:
        raw, labels = fn.data.digit_images()
        ink = raw.double() / 16
    else:
        rows, labels = fn.data.read_images(options.mnist, "t10k")
        side = round(rows.shape[1] ** 0.5)
        ink = rows.reshape(-1, side, side).double() / 255
    chosen = torch.randperm(len(ink), generator=generator)[: options.digits]
    test, train = chosen.tensor_split([round(len(chosen) * TEST / (TRAIN + TEST))])
    return Images(ink[train, None], labels[train]), Images(ink[test, None], labels[test])


def as_signs(labels: Tensor) -> Tensor:
    """Targets (N, 10): 1 for the digit and -1 elsewhere."""
    return 2.0 * F.one_hot(labels, 10) - 1


def batches_of(data: Any, batch_size: int, generator: torch.Generator, steps: int) -> list[Any]:
    """The first batches of an epoch."""
    found = fn.minibatches(data, batch_size, generator=generator)
    return [batch for _, batch in zip(range(steps), found, strict=False)]
