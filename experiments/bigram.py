"""Pairs of letters: softmax regression has one minimum, which counting gives in closed form, and BFGS reaches it.

With a row of logits for each letter, p(j | i) = exp(w_ij) / sum_k exp(w_ik), the mean cross entropy of n pairs, n_ij of them
(i, j), is convex in w, and smallest where p(j | i) = n_ij / n_i:

    L(w) = -1/n sum_ij n_ij log p(j | i)  >=  -1/n sum_ij n_ij log(n_ij / n_i)

Where n_ij = 0 the best w_ij is minus infinity: every w is above the bound, and some come as near to it as one likes.
"""

from dataclasses import dataclass
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn

import funcnn as fn
from experiments.core.beside import Sides, agreement, beside_classic, beside_providers, cross_entropy, draw_differences
from experiments.core.classic import classic_step
from experiments.core.curves import style
from experiments.core.modules import copied
from experiments.core.result import Result, Table
from experiments.core.text import END, Naming
from funcnn.plots import figure, heat_map

FEW, PAIRS = 5, 1000  # steps of the other providers, on so many pairs


@dataclass(frozen=True, kw_only=True)
class Bigram(Naming):
    """Fits the letter that follows each letter of names, by BFGS and by gradient descent, and compares with counting."""

    lr: float = 50.0
    """Learning rate of gradient descent."""
    steps: int = 100
    """Steps of gradient descent, with all pairs in one batch."""
    tolerance: float = 1e-7
    """BFGS stops where its loss is so near to the minimum."""


def run(options: Bigram) -> Result:
    """BFGS until it is at the minimum, and some steps of gradient descent, both from logits of 0."""
    names = options.read()
    before, after = (tokens.to(options.device) for tokens in names.contexts(names.every, 1))
    batch, size = (before[:, 0].contiguous(), after.contiguous()), len(names.vocabulary)
    shares, minimum = counted(*batch, size)
    objective = fn.supervised(fn.embedding(size, size), fn.softmax_cross_entropy())
    start = {"w": torch.zeros(size, size, **options.tensors)}
    evaluations, losses, w = by_bfgs(objective, start, batch, minimum + options.tolerance)

    module, batches = copied(start, nn.Embedding(size, size).to(**options.tensors)), repeat(batch, options.steps)
    classic = classic_step(module, cross_entropy, options.lr)
    descent = beside_classic(objective, fn.sgd(options.lr), start, module, classic, batches)
    few = [tuple(leaf[:PAIRS] for leaf in batch)] * FEW
    providers = beside_providers(objective, fn.sgd(options.lr), start, few, ("func_grad", "central_difference"))

    learnt = w["w"].softmax(1)
    gaps = {
        "BFGS": (evaluations, [loss - minimum for loss in losses]),
        f"gradient descent, lr {options.lr:g}": (
            [*range(1, options.steps + 1)],
            [loss - minimum for loss in descent.losses],
        ),
    }
    return Result(
        "Pairs of letters: the minimum that counting gives",
        f"A table of {size} x {size} logits, for what follows each of {size - 1} letters and the start of a name, "
        f"fitted to the {len(after):,} pairs of {len(names.every):,} names; all pairs are one batch.",
        numbers={
            "minimum": minimum,
            "above it": gaps,
            "difference from classic": descent.differences,
            "providers": providers,
        },
        observations=observations(gaps, minimum, learnt, shares, descent, providers),
        figures={
            "convergence": draw_convergence(gaps, descent.differences),
            "shares": draw_shares(shares, learnt, names.vocabulary),
        },
        tables=[
            Table(
                "The loss at the end",
                ["method", "evaluations of the gradient", "loss", "above the minimum"],
                [["counting", "", f"{minimum:.9f}", ""]]
                + [[name, spent[-1], f"{minimum + gap[-1]:.9f}", f"{gap[-1]:.1e}"] for name, (spent, gap) in gaps.items()],
            )
        ],
    )


def counted(before: Tensor, after: Tensor, size: int) -> tuple[Tensor, float]:
    """The shares n_ij / n_i of the pairs, (size, size), and the loss that they have, with 0 log 0 = 0."""
    counts = torch.bincount(size * before + after, minlength=size * size).reshape(size, size).double()
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    return shares, (-torch.xlogy(counts, shares).sum() / len(before)).item()


def by_bfgs(objective: fn.Objective, start: Any, batch: Any, goal: float) -> tuple[list[int], list[float], Any]:
    """BFGS down to a loss: the gradients taken up to each step's, the losses there, and the parameters of the last one."""
    spent, losses, params = 0, [], start
    counts = []
    for step in fn.train(fn.explicit(objective), fn.bfgs(), start, repeat(batch)):
        losses.append(step.value.item())
        counts.append(spent + 1)
        if losses[-1] <= goal or not step.state.alpha:  # no step lowers the loss any more
            break
        spent, params = counts[-1] + step.state.evaluations, step.params
    return counts, losses, params


def observations(
    gaps: Any, minimum: float, learnt: Tensor, shares: Tensor, descent: Sides, providers: dict[str, float]
) -> list[str]:
    """What the numbers say."""
    (spent, quick), (steps, slow) = gaps.values()
    farthest, never = (learnt - shares).abs().max().item(), learnt[(shares == 0) & (shares.sum(1, keepdim=True) > 0)]
    rare = f" Pairs that never occur, {len(never)} of them, have {never.max():.0e} at most." if len(never) else ""
    return [
        f"Counting gives the minimum {minimum:.9f}. BFGS ends {quick[-1]:.1e} above it after {len(quick)} steps, "
        f"{spent[-1]} gradients; gradient descent {slow[-1]:.1e} after {steps[-1]}.",
        f"The learnt probabilities differ from the shares that were counted by {farthest:.0e} at most.{rare}",
        agreement(descent.differences, providers, FEW),
    ]


def draw_convergence(gaps: Any, differences: list[float]) -> tuple[Any, str]:
    """How far above the minimum the loss is, and how far apart explicit and classic are."""
    drawing, (left, right) = figure(2)
    for index, (name, (spent, gap)) in enumerate(gaps.items()):
        left.loglog(spent, gap, **style(index), label=name)
    left.set(xlabel="evaluations of the gradient", ylabel="loss above the minimum")
    left.legend(frameon=False)
    draw_differences(right, differences)
    right.set(title="explicit and classic, gradient descent")
    return (
        drawing,
        "Left, the loss less the minimum that counting gives. Right, the parameters of two trainings side by side.",
    )


def draw_shares(shares: Tensor, learnt: Tensor, vocabulary: str) -> tuple[Any, str]:
    """The counted shares beside the learnt probabilities, on one scale."""
    drawing, axes = figure(2, width=11.0, height=5.0)
    letters, least = list(vocabulary.replace(END, "·")), shares[shares > 0].min()
    drawn = {"counted": shares, "learnt": learnt.where(learnt > least / 2, 0)}
    for axis, (name, matrix) in zip(axes, drawn.items(), strict=True):
        heat_map(axis, matrix, label="probability", scale="log", rows=letters, columns=letters)
        axis.set(title=name, xlabel="next letter", ylabel="letter")
        axis.tick_params(labelsize=7)
    return (
        drawing,
        "What follows each letter; · is the start and the end of a name. Grey is what never occurs, and what was learnt to "
        "be less than half as likely as the rarest that does.",
    )
