"""The two networks and their other side: as layers of ours with rules derived by hand, and as classic PyTorch.

The network of 1989 is that of LeCun et al., "Backpropagation applied to handwritten zip code recognition" (1989), on images
of 16 x 16 from -1 to 1, as Karpathy made it anew in "Deep neural nets: 33 years ago and 33 years from now" (2022): the paper
leaves open which 8 of 12 maps a map sees and what lies beyond an image, and he took three blocks and the background, -1.
Here the digits are others than his, their order is another in every pass, and so are the numbers at the start.

LeNet-5 is `fn.lenet()`, on ink from 0 to 1 of 28 x 28.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import funcnn as fn
from experiments.core.modules import copied, lenet
from experiments.lenet.digits import Images, as_signs
from experiments.lenet.layers import connected, surrounded, units

MAPS = torch.arange(12)
BLOCKS = (MAPS[:8], MAPS[4:], torch.cat([MAPS[:4], MAPS[8:]]))  # what each third of the maps sees
TABLE = torch.stack([torch.isin(MAPS, block) for block in BLOCKS for _ in range(4)])


def network_of_1989() -> fn.Layer:
    """LeCun's network of 9,760 parameters, images (N, 1, 16, 16) to ten numbers near 1 for the digit and -1 elsewhere.

    Weights start uniform within 2.4 / sqrt(F), F the fan-in, and biases at 0, but at -1 in the end, as nine targets of ten.
    """
    halved = {"stride": 2, "bias": False}
    return fn.serial(
        *(surrounded(2, -1.0), wide(fn.conv2d(1, 12, 5, **halved)), units(12, 8, 8), fn.tanh()),
        *(surrounded(2, -1.0), wide(connected(fn.conv2d(12, 12, 5, **halved), TABLE)), units(12, 4, 4), fn.tanh()),
        *(fn.flatten(), wide(fn.dense(192, 30), 0.0), fn.tanh()),
        *(wide(fn.dense(30, 10), -1.0), fn.tanh()),
    )


def wide(layer: fn.Layer, bias: float = 0.0) -> fn.Layer:
    """The same layer with weights that start within 2.4 / sqrt(F), where it has 1 / sqrt(F), and biases at a number."""

    def init(generator: torch.Generator, *, dtype: Any = None, device: Any = None) -> Any:
        drawn = layer.init(generator, dtype=dtype, device=device)
        return {name: 2.4 * leaf if name == "w" else torch.full_like(leaf, bias) for name, leaf in drawn.items()}

    return layer._replace(init=init)


class Classic1989(nn.Module):
    """The same in classic PyTorch, the blocks as convolutions of their own; its parameters are the leaves of the tree."""

    def __init__(self, params: Any) -> None:
        """Starts where the tree is."""
        super().__init__()
        self.leaves = nn.ParameterList(leaf.clone() for leaf in fn.tree.leaves(params))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 16, 16) -> (N, 10)."""
        w1, b1, w2, b2, b3, w3, b4, w4 = self.leaves
        x = torch.tanh(F.conv2d(F.pad(x, (2, 2, 2, 2), value=-1.0), w1, stride=2) + b1)
        x = F.pad(x, (2, 2, 2, 2), value=-1.0)
        parts = [F.conv2d(x[:, block], w, stride=2) for block, w in zip(BLOCKS, w2.split(4), strict=True)]
        x = torch.tanh(torch.cat(parts, 1) + b2)
        return torch.tanh(torch.tanh(x.flatten(1) @ w3 + b3) @ w4 + b4)


PIECE = 500  # images that are read at once, for what all of them take of memory


class Contest(NamedTuple):
    """A network to train on digits, and the same as a module that starts at the same parameters."""

    name: str
    layer: fn.Layer
    objective: fn.Objective
    explicit: fn.StepFn
    start: Any
    data: fn.data.Dataset
    module: nn.Module
    criterion: nn.Module
    lr: float
    batch_size: int
    optimizers: dict[str, fn.Optimizer]  # the last of them trains it

    @property
    def title(self) -> str:
        """The network as a sentence begins with it."""
        return "The network of 1989" if self.name == "1989" else self.name

    def wrong(self, params: Any, batch: tuple[Tensor, Tensor]) -> Tensor:
        """What it reads (N,) where it is wrong, and -1 where it is right."""
        read = torch.cat([fn.apply(self.layer, params, x).argmax(1) for x in batch[0].split(PIECE)])
        truth = labels_of(batch[1])
        return torch.where(read == truth, -1, read)

    def measure(self, params: Any) -> dict[str, float]:
        """The loss on the training part, and the share of each part that is read wrongly."""
        errors = [(self.wrong(params, part) >= 0).double().mean().item() for part in (self.data.train, self.data.test)]
        pieces = zip(*(leaf.split(PIECE) for leaf in self.data.train), strict=True)
        losses = [len(piece[0]) * self.objective.value(params, piece).item() for piece in pieces]
        return {"loss": sum(losses) / len(self.data.train[0]), "training error": errors[0], "test error": errors[1]}


def labels_of(targets: Tensor) -> Tensor:
    """The digits (N,) of targets that are them, or that have 1 in their place."""
    return targets if targets.ndim == 1 else targets.argmax(1)


def of_1989(train: Images, test: Images, generator: torch.Generator, tensors: Any) -> Contest:
    """One digit a step at lr 0.03, mean squared error of outputs that are to be 1 or -1."""

    def ready(part: Images) -> tuple[Tensor, Tensor]:
        return (2 * part.scaled(16) - 1).to(**tensors), as_signs(part.labels).to(**tensors)

    layer = network_of_1989()
    start = layer.init(generator, **tensors)
    module = Classic1989(start)

    objective, data = fn.supervised(layer, fn.mean_squared_error()), fn.data.Dataset(ready(train), ready(test))
    lr = 0.03
    # A step of one digit is so short that eager it is overhead alone.
    optimizers = {"explicit": fn.sgd(lr), "compiled": fn.compiled(fn.sgd(lr))}
    sides = fn.explicit(objective), start, data, module, nn.MSELoss()
    return Contest("1989", layer, objective, *sides, lr, 1, optimizers)


def lenet_5(train: Images, test: Images, generator: torch.Generator, tensors: Any) -> Contest:
    """Ten digits a step at lr 0.1, softmax cross entropy."""

    def ready(part: Images) -> tuple[Tensor, Tensor]:
        return part.scaled(28).to(**tensors), part.labels.to(tensors["device"])

    layer = fn.lenet()
    start = layer.init(generator, **tensors)
    module = lenet().to(**tensors)
    with torch.no_grad():
        copied(start, module)
    objective, data = fn.supervised(layer, fn.softmax_cross_entropy()), fn.data.Dataset(ready(train), ready(test))
    lr = 0.1
    sides = fn.explicit(objective), start, data, module, nn.CrossEntropyLoss()
    return Contest("LeNet-5", layer, objective, *sides, lr, 10, {"explicit": fn.sgd(lr)})
