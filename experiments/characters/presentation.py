"""What the network learnt, in sentences, a table and figures."""

from typing import Any

import torch
from torch import Tensor

from experiments.core.beside import draw_differences
from experiments.core.result import Table
from funcnn.plots import COLORS, DASHES, figure, heat_map

SIGNS = str.maketrans({"\n": "⏎", " ": "␣"})


def observations(moments: Any, guesses: dict[str, float], by_distance: Tensor) -> list[str]:
    """What the numbers say."""
    first, last = moments[0], moments[-1]
    told = ", ".join(f"{loss:.3f} {name}" for name, loss in guesses.items())
    before = by_distance[..., 1].flatten()  # the weight of the character before
    reach = (by_distance * torch.arange(by_distance.shape[-1]).to(by_distance)).sum(-1)
    (layer, head), far = divmod(int(reach.argmax()), reach.shape[1]), reach.max().item()
    return [
        f"The validation loss falls from {first.loss:.3f} to {last.loss:.3f} in {last.steps} steps. Guessing by counts "
        f"reaches {told}.",
        f"After {last.steps} steps it writes: {last.written[:80]!r}",
        f"Of {len(before)} heads {int((before > 0.5).sum())} give more than half of their weight to the character before, "
        f"seen from the last place of a window. Head {head + 1} of layer {layer + 1} looks back farthest, by {far:.1f} "
        "characters in the mean.",
    ]


def table_of_moments(moments: Any, prompt: str) -> Table:
    """What it writes at each moment."""
    rows = [[moment.steps, f"{moment.loss:.3f}", shown(moment.written)] for moment in moments]
    return Table(f"What follows …{shown(prompt[-40:])!r}", ["steps", "validation loss", "written"], rows)


def shown(text: str) -> str:
    """A text for the report, where dollar signs would make a formula of what is between them."""
    return text.replace("$", "＄")


def draw_learning(losses: list[float], moments: Any, guesses: dict[str, float], differences: list[float]) -> tuple[Any, str]:
    """The loss against the steps, and the difference from others."""
    drawing, (left, right) = figure(2, width=11.0, height=4.0)
    left.plot(range(len(losses)), losses, color=COLORS[5], linewidth=0.7, label="minibatch")
    steps, validation = [moment.steps for moment in moments], [moment.loss for moment in moments]
    left.plot(steps, validation, color=COLORS[0], marker="o", label="validation")
    for dash, color, (name, loss) in zip(DASHES[1:], COLORS[1:], guesses.items(), strict=False):
        left.axhline(loss, color=color, linestyle=dash, linewidth=1.2)
        place = {"xytext": (-8, 2), "textcoords": "offset points", "ha": "right", "fontsize": "small"}
        left.annotate(name, (len(losses), loss), color=color, **place)
    left.set(xlabel="step", ylabel="loss of a character")
    left.legend(frameon=False, fontsize="small", loc="upper right", bbox_to_anchor=(1, 0.9))
    draw_differences(right, differences)
    return (
        drawing,
        "The loss of a character, with what guessing by counts would reach; and the largest difference of a parameter by "
        "explicit from classic PyTorch's, in float64.",
    )


def draw_maps(maps: Tensor, text: str) -> tuple[Any, str]:
    """The weights of all layers (rows) and heads (columns) on one passage, (depth, heads, T, T)."""
    depth, heads, length, _ = maps.shape
    drawing, axes = figure(depth * heads, rows=depth, width=3.1 * heads + 0.8, height=3.0 * depth)
    letters = text.translate(SIGNS)
    for index, (axis, weights) in enumerate(zip(axes, maps.flatten(0, 1).cpu().numpy(), strict=True)):
        cells = axis.imshow(weights, vmin=0, vmax=1, cmap="Blues")
        axis.grid(False)
        row, column = divmod(index, heads)
        axis.set_title(f"layer {row + 1}, head {column + 1}", fontsize="medium")
        # All panels read the same letters, which are named along the edges alone.
        axis.set_xticks(range(length), letters if row == depth - 1 else [""] * length, fontsize=7.5)
        axis.set_yticks(range(length), letters if column == 0 else [""] * length, fontsize=7.5)
        axis.tick_params(length=0, pad=1.5)
    drawing.colorbar(cells, ax=axes, label="weight", fraction=0.02, pad=0.01)
    return drawing, "What each character (rows) reads from itself and those before it (columns), head by head; ␣ is a space."


def draw_distances(by_distance: Tensor) -> tuple[Any, str]:
    """The weight of each head against the distance."""
    depth, heads, length = by_distance.shape
    drawing, (axis,) = figure(width=9.0, height=1.4 + 0.24 * depth * heads)
    names = [f"layer {layer + 1}, head {head + 1}" for layer in range(depth) for head in range(heads)]
    heat_map(axis, by_distance.flatten(0, 1).clamp(min=1e-4), label="mean weight", scale="log", rows=names)
    axis.set(xlabel="characters back from the last one of a window")
    return (
        drawing,
        "How far back each head looks, in the mean of held-out windows; where it does not choose, all weights are alike.",
    )
