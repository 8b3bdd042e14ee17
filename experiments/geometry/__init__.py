"""What a network does to space: each dense layer maps it affinely, and what lies between them uncrumples what is in it."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from experiments.core.options import BadOption, Training
from experiments.core.result import Result, Table
from experiments.geometry import maps, uncrumpling


@dataclass(frozen=True, kw_only=True)
class Geometry(Training):
    """Moves a shape by affine maps, then trains a network on two spirals and follows its data from layer to layer."""

    lr: float = 0.01
    epochs: int = 1000
    batch_size: int = 320
    angle: float = 30.0
    """Degrees by which the shape is rotated."""
    samples: int = 400
    """Points on the two spirals, a fifth of them for testing."""
    turns: float = 1.5
    """How often each spiral winds around the centre."""
    units: int = 8
    """Units in every hidden layer."""
    hidden_layers: int = 3
    """Hidden layers, each a dense one and a tanh."""

    def __post_init__(self) -> None:
        """Raises BadOption where there is nothing to draw or to train on."""
        super().__post_init__()
        if self.samples < 10:
            raise BadOption(f"samples: got {self.samples}, needs at least 10")
        if self.units < 2:
            raise BadOption(f"units: got {self.units}, needs at least 2, for a plane to be drawn")
        if self.hidden_layers > 9:
            raise BadOption(f"hidden_layers: got {self.hidden_layers}, needs at most 9, for a figure of all of them")


def run(options: Geometry) -> Result:
    """The maps with what they keep, and the network with what each of its layers makes of the data."""
    shape = torch.tensor(maps.SHAPE, **options.tensors)
    chosen = maps.maps(options.angle, shape)
    facts = {name: maps.facts(map, shape) for name, map in chosen.items()}
    in_turn = (maps.in_turn(chosen, shape)[-1] - chosen["affine"].apply(shape)).abs().max().item()
    trained, stages = uncrumpling.uncrumple(options)
    separable = {name: stage.separability for name, stage in stages.items()}
    rows = [
        [name, f"${chosen[name].operation}$", *(f"{number:.3g}" for number in fact.values())] for name, fact in facts.items()
    ]
    told = [[name, stage.representation.shape[1], f"{stage.separability:.1%}"] for name, stage in stages.items()]
    return Result(
        "Geometry: affine maps, and the uncrumpling of two spirals",
        f"An F is moved by operations on the ({len(shape)}, 2) tensor of its corners. Then {options.hidden_layers} hidden "
        f"layers of {options.units} tanh units learn to tell two interleaved spirals apart, and after every layer a linear "
        "read-out, fitted to its outputs by least squares, says how much of the data its hyperplane separates.",
        numbers={"maps": facts, "in turn": in_turn, "linear separability": separable, "training": trained.curves},
        observations=[*_of_maps(facts, in_turn), *_of_layers(trained, separable)],
        figures={"maps": maps.draw(chosen, shape), "uncrumpling": uncrumpling.draw(stages)},
        tables=[
            Table("Affine maps of the shape", ["map", "operation", *maps.HEADS], rows),
            Table(
                "Share of the training points on the right side of the least-squares hyperplane",
                ["after", "units", "share"],
                told,
            ),
        ],
    )


def _of_maps(facts: Any, in_turn: float) -> list[str]:
    rigid = [name for name, fact in facts.items() if fact["distances"] < 1e-5]
    largest = {key: max(fact[key] for fact in facts.values()) for key in ("dense", "area against |det A|")}
    return [
        f"All {len(facts)} maps are dense layers, $w = A^T$ and $b = t$: their points differ by at most "
        f"{largest['dense']:.1g}. Areas change by $|det A|$, to {largest['area against |det A|']:.1g}; only "
        f"{' and '.join(rigid)} keep all distances.",
        f"Skew, scaling, rotation and translation in turn are the one affine map, to {in_turn:.1g}: dense layers with "
        "nothing between them are a single one.",
    ]


def _of_layers(trained: Any, separable: dict[str, float]) -> list[str]:
    if trained.diverged is not None:
        return [f"The training on the spirals diverged at step {trained.diverged}: the layers are shown as at the start."]
    dense = [abs(b - a) for (_, a), (name, b) in pairwise(separable.items()) if name.startswith("dense")]
    best = max(pairwise(separable.items()), key=lambda step: step[1][1] - step[0][1])[1]
    first, last = list(separable.values())[0], list(separable.values())[-1]
    return [
        f"By least squares a hyperplane separates {first:.1%} of the spirals as they are and {last:.1%} of the network's "
        f"outputs; its test accuracy is {trained.last('accuracy'):.1%}, and its loss falls from "
        f"{trained.curves['loss'][0]:.3f} to {trained.last():.2g}.",
        f"The dense layers before the last change that share by at most {max(dense[:-1]):.1%}: an affine map cannot "
        f"uncrumple. What lies between them can: the largest gain is that of {best[0]}, to {best[1]:.1%}.",
    ]
