"""A perceptron, explicit against classic: one sigmoid unit that tells benign from malignant tumours."""

from dataclasses import dataclass

from torch import nn

import funcnn as fn
from experiments.core.comparison import compare
from experiments.core.options import Training
from experiments.core.result import Result


@dataclass(frozen=True, kw_only=True)
class Perceptron(Training):
    """Trains a perceptron on the breast cancer data by hand-derived gradients and by classic PyTorch, side by side."""


def run(options: Perceptron) -> Result:
    """Both perceptrons from the same start on the same batches."""
    generator = options.generator()
    data = fn.data.breast_cancer(generator=generator, **options.tensors)
    features = data.train[0].shape[1]
    return compare(
        title="Perceptron: explicit against classic",
        about=f"One sigmoid unit, $p = s(x w + b)$, on {features} measurements of each of {len(data.train[0])} tumours "
        f"({len(data.test[0])} more for testing), trained on the binary cross entropy by gradient descent.",
        layer=fn.perceptron(features),
        loss=fn.binary_cross_entropy(),
        module=nn.Sequential(nn.Linear(features, 1), nn.Sigmoid()),
        criterion=nn.BCELoss(),
        data=data,
        options=options,
        generator=generator,
    )
