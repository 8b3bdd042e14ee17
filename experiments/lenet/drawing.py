"""The figures: errors pass by pass, the kernels that meet the image, and digits that are misread."""

from typing import Any

import torch
from torch import Tensor

from experiments.core.curves import style
from experiments.core.training import Run
from experiments.lenet.networks import Contest, labels_of
from funcnn import tree
from funcnn.plots import COLORS, figure, images

PUBLISHED = {"1989, the paper": 0.05, "1989, Karpathy 2022": 0.0409}
SHOWN = 8  # misread digits of each network

Runs = dict[str, Run]


def draw_errors(contests: list[Contest], runs: Runs, differences: dict[str, list[float]]) -> tuple[Any, str]:
    """The errors of both networks pass by pass, and the differences from classic PyTorch step by step."""
    drawing, (*axes, right) = figure(3)
    for axis, contest in zip(axes, contests, strict=True):
        for index, part in enumerate(("training error", "test error")):
            errors = [100 * error for error in runs[contest.name].curves[part][1:]]
            axis.plot(range(1, 1 + len(errors)), errors, **style(index), marker=".", label=part.split()[0])
        axis.set(xlabel="pass", ylabel="digits misread (%)", title=contest.title)
        axis.xaxis.get_major_locator().set_params(integer=True)
    for index, (name, error) in enumerate(PUBLISHED.items()):
        label = f"test, {name.removeprefix('1989, ')}"
        axes[0].axhline(100 * error, linewidth=1, color=COLORS[6], linestyle=("-", ":")[index], label=label)
    for index, (name, own) in enumerate(differences.items()):
        right.semilogy(range(1, 1 + len(own)), own, **style(index + 2), label=name)
    right.set(xlabel="step", ylabel="largest difference of a parameter", title="explicit against classic")
    for axis in axes:
        axis.set(ylim=(0, 1.5 * axis.get_ylim()[1]))  # room for the legend above the curves
    for axis in (*axes, right):
        axis.legend(frameon=False, fontsize="small")
    caption = (
        "Digits misread after each pass, with the published test errors of the network of 1989 as lines; right, how far the "
        "parameters are from those of classic PyTorch after the same steps."
    )
    return drawing, caption


def draw_kernels(contests: list[Contest], runs: Runs) -> tuple[Any, str]:
    """The 5 x 5 kernels that meet the image, before and after."""
    drawing, axes = figure(2, width=9.0, height=2.7)
    moments = {"at the start": [contest.start for contest in contests]}
    moments["learned"] = [runs[contest.name].params for contest in contests]
    for axis, (when, trees) in zip(axes, moments.items(), strict=True):
        kernels = torch.cat(list(map(first_kernels, trees)))
        shown = 0.5 + kernels / (2 * kernels.abs().amax((1, 2), keepdim=True))
        images(axis, shown.unflatten(0, (-1, 6)), rows=["1989", "1989", "LeNet-5"])
        axis.set(xticks=[], title=when)
    caption = (
        "The kernels that meet the image: 0 is grey, above it darker, below it lighter, up to each one's largest weight."
    )
    return drawing, caption


def first_kernels(params: Any) -> Tensor:
    """The kernels of the first convolution, (O, 5, 5)."""
    return next(leaf for leaf in tree.leaves(params) if leaf.ndim == 4).squeeze(1)


def draw_misread(contests: list[Contest], runs: Runs) -> tuple[Any, str]:
    """The first test digits that each network reads wrongly, a row for each."""
    drawing, axes = figure(2 * SHOWN, rows=2, width=9.6, height=3.2)
    for row, contest in enumerate(contests):
        inputs, targets = contest.data.test
        read, truth = contest.wrong(runs[contest.name].params, contest.data.test), labels_of(targets)
        wrong = (read >= 0).nonzero().flatten()[:SHOWN].tolist()
        for place, axis in enumerate(axes[SHOWN * row : SHOWN * (row + 1)]):
            if place >= len(wrong):
                axis.set_axis_off()
                continue
            images(axis, ink(inputs[wrong[place], 0])[None, None], rows=[contest.name] if place == 0 else [" "])
            axis.set_title(f"{truth[wrong[place]]} as {read[wrong[place]]}", fontsize="medium")
    return drawing, "The first test digits that each network misreads, and as what."


def ink(picture: Tensor) -> Tensor:
    """A picture from 0 to 1."""
    return (picture - picture.min()) / (picture.max() - picture.min())
