"""The gradients of single samples: how far apart two ways to them are, how large they are, and whose are the largest."""

from typing import Any

import torch
from torch import Tensor

import funcnn as fn
from funcnn.plots import COLORS, figure, heat_map, images

LEAST = 1e-12  # a smaller norm is drawn as this one: a logarithmic axis has no 0
DRAWN = 8  # pictures in a row


def relative_errors(gradients: Any, reference: Any) -> Tensor:
    """For each sample and leaf the largest error of an entry, over the largest entry of the reference: (N, leaves)."""
    errors = []
    for own, other in zip(fn.tree.leaves(gradients), fn.tree.leaves(reference), strict=True):
        largest = other.flatten(1).abs().amax(1).clamp(min=torch.finfo(other.dtype).tiny)
        errors.append((own - other).flatten(1).abs().amax(1) / largest)
    return torch.stack(errors, 1)


def mean_error(each: Any, whole: Any) -> float:
    """How far the mean of the gradients is from the gradient of the batch, in the worst leaf, as `relative_errors`."""
    mean = fn.tree.map(lambda leaf: leaf.mean(0, keepdim=True), each)
    return relative_errors(mean, fn.tree.map(lambda leaf: leaf[None], whole)).max().item()


def share_of_tenth(norms: Tensor) -> float:
    """The share of the largest tenth of the norms in the sum of all."""
    return (norms.topk(max(1, len(norms) // 10)).values.sum() / norms.sum()).item()


def draw_norms(norms: dict[str, Tensor]) -> tuple[Any, str]:
    """The histograms of norms, over the same bins."""
    drawing, (axis,) = figure()
    shown = {name: own.cpu().double().clamp(min=LEAST) for name, own in norms.items()}
    least, most = torch.cat([*shown.values()]).log10().aminmax()
    bins = torch.logspace(least.item(), most.item(), 41, dtype=torch.float64).numpy()
    for (name, own), color, style in zip(shown.items(), COLORS, ("stepfilled", "step"), strict=False):
        axis.hist(own.numpy(), bins, color=color, histtype=style, linewidth=2, label=name)
    axis.set(xscale="log", yscale="log", ylim=(0.7, None), xlabel="norm of the gradient of one sample", ylabel="samples")
    axis.legend(frameon=False, loc="upper left")
    return drawing, "How large the gradients of the training samples are."


def draw_ends(x: Tensor, labels: Tensor, named: Tensor, norms: Tensor) -> tuple[Any, str]:
    """The digits with the largest and with the smallest norms, what they are and what they are taken for."""
    drawing, axes = figure(2, rows=2, width=9.0, height=3.8)
    order = norms.argsort(descending=True)
    for axis, chosen, end in zip(axes, (order[:DRAWN], order.flip(0)[:DRAWN]), ("largest", "smallest"), strict=True):
        heads = [f"{labels[k]} named {named[k]}\n|g| = {norms[k]:.2g}" for k in chosen]
        images(axis, x[chosen].reshape(1, -1, 8, 8), rows=[end], columns=heads)
    return (
        drawing,
        "The training samples with the largest and the smallest gradients: label, the trained network's answer, norm.",
    )


def draw_errors(errors: Tensor, leaves: list[str]) -> tuple[Any, str]:
    """Relative errors as a heat map, samples x leaves."""
    drawing, (axis,) = figure(height=4.8)
    heat_map(axis, errors, label="relative error", scale="log", columns=leaves)
    axis.set(ylabel="sample")
    return (
        drawing,
        "explicit against func_grad: the largest error in each leaf of each sample's gradient; grey is exactly 0.",
    )
