"""Two spirals on their way through a network: nothing flat separates them at first, and a hyperplane does in the end.

How separable a representation is, a linear read-out tells: least squares on targets -1 and 1 (Fisher's discriminant),
and the share of the points on the right side of the plane that it finds. An affine map of full rank leaves the read-out's
predictions as they are, so what changes the share between hidden layers is the tanh alone.
"""

from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

import funcnn as fn
from experiments.core.training import Run, classification, training_run
from funcnn.plots import COLORS, figure


class Stage(NamedTuple):
    """What one layer made of the data: outputs (N, H), the plane (N, 2) that shows most of it, and the separable share."""

    representation: Tensor
    plane: Tensor
    labels: Tensor
    separability: float


def uncrumple(options: Any) -> tuple[Run, dict[str, Stage]]:
    """Trains the network, and follows the training data through its layers; where it diverged, as they were at the start."""
    generator = options.generator()
    data = fn.data.spirals(options.samples, turns=options.turns, generator=generator, **options.tensors)
    sizes = [2, *[options.units] * options.hidden_layers, 2]
    layer, loss = fn.mlp(sizes, fn.tanh), fn.softmax_cross_entropy()
    start, judge = layer.init(generator, **options.tensors), classification(layer, loss, data)
    step_fn = fn.explicit(fn.supervised(layer, loss))
    trained = training_run(step_fn, fn.adam(options.lr), start, data.train, judge, **options.schedule())
    layers = [made for size, after in zip(sizes, sizes[1:], strict=False) for made in (fn.dense(size, after), fn.tanh())]
    links = zip(layers[:-1], trained.params if trained.diverged is None else start, strict=True)
    outputs = accumulate(links, lambda x, link: fn.apply(*link, x), initial=data.train[0])
    kinds = (f"{kind} {depth}" for depth in range(1, len(sizes)) for kind in ("dense", "tanh"))
    names = ["input", *kinds][: 2 * len(sizes) - 2]
    return trained, {name: look(x, data.train[1]) for name, x in zip(names, outputs, strict=True)}


def look(x: Tensor, labels: Tensor) -> Stage:
    """A representation seen along the hyperplane of its read-out, which is where the first coordinate of `plane` is 0.

    The first direction is that of the read-out; the second that of the largest variance which is left at right angles.
    A point that lies on the hyperplane up to rounding is taken for class 0.
    """
    ones, signs = x.new_ones(len(x), 1), (2 * labels - 1).to(x)
    solution = torch.linalg.pinv(torch.cat([x, ones], 1)) @ signs
    scores = x @ solution[:-1] + solution[-1]
    length = solution[:-1].norm().clamp(min=torch.finfo(x.dtype).tiny)  # 0 where the classes have the same mean
    direction = solution[:-1] / length
    rest = x - x.mean(0)
    rest = rest - (rest @ direction)[:, None] * direction
    second = rest @ torch.linalg.svd(rest, full_matrices=False).Vh[0]
    rounding = len(x) * torch.finfo(x.dtype).eps  # of scores, whose targets are -1 and 1
    right = ((scores > rounding) == labels.bool()).double().mean().item()
    return Stage(x, torch.stack([scores / length, second], 1), labels, right)


def draw(stages: dict[str, Stage]) -> tuple[Any, str]:
    """A panel for the input and for each layer, the hyperplane of the read-out dashed."""
    rows = -(-len(stages) // 4)
    drawing, axes = figure(len(stages), rows=rows, width=9, height=2.5 * rows)
    for axis, (name, stage) in zip(axes, stages.items(), strict=True):
        for arm, (marker, color) in enumerate(zip("o^", COLORS, strict=False)):
            points = stage.plane[stage.labels == arm].cpu()
            axis.plot(*points.T, marker, color=color, markersize=2.2, label=f"spiral {arm}")
        axis.axvline(0, color="black", linestyle="--", linewidth=0.8)
        axis.set_title(f"{name}: {stage.separability:.1%}", fontsize="medium")
        axis.tick_params(labelleft=False, labelbottom=False, length=0)
    drawing.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False, markerscale=2)
    drawing.supxlabel("along the read-out", fontsize="medium")
    drawing.supylabel("across it, where most varies", fontsize="medium")
    caption = (
        "The training points after every layer, seen along the hyperplane of least squares (dashed); how many it separates."
    )
    return drawing, caption
