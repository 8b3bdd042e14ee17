"""A network with one hidden layer, explicit against classic: it reads handwritten digits."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

import funcnn as fn
from experiments.core.comparison import compare
from experiments.core.options import Training
from experiments.core.result import Result


@dataclass(frozen=True, kw_only=True)
class HiddenLayer(Training):
    """Trains a one-hidden-layer network on digits by hand-derived gradients and by classic PyTorch, side by side."""

    lr: float = 1.0
    epochs: int = 40
    hidden: int = 64
    """Sigmoid units in the hidden layer."""
    mnist: Path | None = None
    """A folder with the four files of MNIST or Fashion-MNIST, to train on in place of scikit-learn's digits."""


def run(options: HiddenLayer) -> Result:
    """Both networks from the same start on the same batches."""
    generator = options.generator()
    if options.mnist is None:
        data = fn.data.digits(generator=generator, **options.tensors)
    else:
        data = fn.data.mnist(options.mnist, **options.tensors)
    sizes = (data.train[0].shape[1], options.hidden, 10)
    return compare(
        title="One hidden layer: explicit against classic",
        about=f"Sizes {sizes[0]}, {sizes[1]}, {sizes[2]}: a sigmoid hidden layer, then softmax cross entropy, on "
        f"{len(data.train[0])} images ({len(data.test[0])} more for testing), by gradient descent.",
        layer=fn.mlp(sizes),
        loss=fn.softmax_cross_entropy(),
        module=nn.Sequential(nn.Linear(*sizes[:2]), nn.Sigmoid(), nn.Linear(*sizes[1:])),
        criterion=nn.CrossEntropyLoss(),
        data=data,
        options=options,
        generator=generator,
    )
