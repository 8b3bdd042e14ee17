"""Short codes of images, by PCA or by an autoencoder: a pair of functions, what comes back, and how the codes look."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

import funcnn as fn
from experiments.core.curves import draw_runs, draw_sweeps
from experiments.core.training import Run
from funcnn.plots import COLORS, figure, images


class Coder(NamedTuple):
    """Images (N, D) to codes (N, k), and back."""

    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]

    def loss(self, x: Tensor) -> float:
        """The mean squared error of what comes back."""
        return fn.mean_squared_error().forward(self.decode(self.encode(x)), x)[0].item()


def pca(x: Tensor, size: int) -> Coder:
    """The projection z = (x - m) V, x' = z V^T + m; m is the mean, V (D, k) the first right singular vectors of x - m.

    No affine code of that size has a smaller loss on x (Eckart & Young 1936).
    """
    mean = x.mean(0)
    axes = torch.linalg.svd(x - mean, full_matrices=False)[2][:size]
    return Coder(lambda x: (x - mean) @ axes.T, lambda z: z @ axes + mean)


def network(encoder: fn.Layer, decoder: fn.Layer, params: Any) -> Coder:
    """Both halves of an autoencoder; params is (encoder's, decoder's)."""
    return Coder(partial(fn.apply, encoder, params[0]), partial(fn.apply, decoder, params[1]))


def named_right(coder: Coder, data: fn.data.Dataset) -> float:
    """The share of test images whose code is nearest to the mean code of their own class: how well classes part."""
    (x, labels), (tests, truth) = data.train, data.test
    codes = coder.encode(x)
    means = torch.stack([codes[labels == label].mean(0) for label in range(10)])
    return (torch.cdist(coder.encode(tests), means).argmin(1) == truth).double().mean().item()


def reconstruction_losses(objective: fn.Objective, parts: dict[str, Tensor], params: Any) -> dict[str, float]:
    """The loss of an autoencoder, whose targets are its inputs, on each part of the images."""
    return {name: objective.value(params, (x, x)).item() for name, x in parts.items()}


def draw_losses(runs: dict[str, dict[int, Run]], principal: dict[int, tuple[float, float]]) -> tuple[Any, str]:
    """The training loss of each code size, epoch by epoch, and the test loss against the size, beside PCA's of both."""
    drawing, axes = figure(len(principal) + 1, rows=2, width=9.0, height=6.4)
    for axis, (size, (loss, _)) in zip(axes, principal.items(), strict=False):
        axis.axhline(loss, color="black", linewidth=1, label="PCA")
        draw_runs(axis, {name: own[size] for name, own in runs.items()})
        axis.set(ylabel="training loss", title=f"code of {size}")
    axes[-1].plot([*principal], [loss for _, loss in principal.values()], color="black", marker=".", label="PCA")
    draw_sweeps(axes[-1], runs, "test loss")
    axes[-1].set(xlabel="numbers in the code", ylabel="test loss", xticks=[*principal], title="all codes")
    return (
        drawing,
        "Mean squared error of a pixel: while training, with PCA's on the same images as a line, and on test images.",
    )


def draw_planes(coders: dict[str, Coder], x: Tensor, labels: Tensor) -> tuple[Any, str]:
    """The first two numbers of the codes, each image as its own digit in the colour of its class."""
    drawing, axes = figure(len(coders), height=4.4)
    for axis, (name, coder) in zip(axes, coders.items(), strict=True):
        codes = coder.encode(x).cpu()
        for label in range(10):  # of the seven colours 6 and 7, 0 and 8, 1 and 9 share one: they look least alike
            points = codes[labels.cpu() == label].T.numpy()
            axis.scatter(
                *points[:2], s=32, marker=rf"$\mathbf{{{label}}}$", color=COLORS[label % 7 - label // 7], linewidths=0
            )
        axis.set(xlabel="first number of the code", ylabel="second number of the code", title=name)
    return drawing, "Test images in the plane of two numbers of their code, each drawn as the digit that it shows."


def draw_reconstructions(coders: dict[int, dict[str, Coder]], x: Tensor, labels: Tensor) -> tuple[Any, str]:
    """The first image of each class, and under it what comes back from each code."""
    x = torch.stack([x[labels == label][0] for label in range(10)])
    rows = {f"{name}, {size}": coder.decode(coder.encode(x)) for size, own in coders.items() for name, coder in own.items()}
    pictures = torch.stack([x, *rows.values()]).unflatten(-1, (8, 8))
    drawing, (axis,) = figure(height=0.7 + 0.5 * len(pictures))
    images(axis, pictures, rows=["image", *rows])
    return drawing, "Test images (top), and what comes back from the codes that PCA and the autoencoder make of them."
