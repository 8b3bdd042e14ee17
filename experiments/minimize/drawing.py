"""The figures of the minimizers."""

from typing import Any

import torch
from torch import Tensor

import funcnn as fn
from experiments.core.curves import style
from experiments.minimize.contest import Outcomes
from experiments.minimize.grid import REACHED, Cells, descent, lone_share
from experiments.minimize.problems import MORE_GARBOW_HILLSTROM
from funcnn.plots import COLORS, figure, heat_map


def draw_grid(cells: Cells) -> tuple[Any, str]:
    """Shares and steps against the complexity, a curve for each dimension."""
    drawing, (left, right) = figure(2, height=4.0)
    complexities = sorted({k for _, k in cells})
    for index, n in enumerate(sorted({n for n, _ in cells})):
        row = [cells[n, k] for k in complexities]
        left.plot([cell.share for cell in row], **style(index), marker="o", markersize=4, label=f"{n}")
        right.plot([cell.median for cell in row], **style(index), marker="o", markersize=4, label=f"{n}")
    expected = [lone_share(cells) ** k for k in complexities]
    left.plot(expected, color="#888888", linewidth=6, alpha=0.35, zorder=1, label="$p^K$")
    for axis in (left, right):
        axis.set_xticks(range(len(complexities)), [str(k) for k in complexities])
        axis.set(xlabel="complexity K (terms that are not convex)")
    left.set(ylabel="share of starts that reach the minimum", ylim=(-0.03, 1.03))
    right.set(ylabel="median steps to a stationary point", yscale="log")
    left.legend(frameon=False, title="dimension")
    caption = (
        "Gradient descent on random functions. Left, how many starts end in the minimum; grey, the share p of a single wave "
        "to the power of their number. Right, how long they take."
    )
    return drawing, caption


def draw_paths(objective: fn.Objective, starts: Tensor, steps: int) -> tuple[Any, str]:
    """Paths in two dimensions."""
    drawing, (axis,) = figure(1, height=5.0)
    line = torch.linspace(-1.1, 1.1, 201).to(starts) * starts.abs().max()
    plane = torch.cartesian_prod(line, line).reshape(len(line), len(line), 2)
    heights = torch.func.vmap(torch.func.vmap(lambda x: objective.value(x, ())))(plane)
    grid, surface = line.cpu().numpy(), heights.T.sqrt().cpu().numpy()
    contours = axis.contourf(grid, grid, surface, levels=24, cmap="Greys", alpha=0.6)
    drawing.colorbar(contours, ax=axis, label="square root of f(x)")
    points = torch.stack([starts, *(points for points, _ in descent(objective, starts, steps))]).cpu()
    reached = [objective.value(x, ()).item() < REACHED for x in points[-1]]
    for found, color, dash, label in (
        (True, COLORS[0], "-", "reaches the minimum"),
        (False, COLORS[1], "--", "ends elsewhere"),
    ):
        for index, way in enumerate(points[:, [r == found for r in reached]].unbind(1)):
            own = {"color": color, "linestyle": dash, "linewidth": 1.2}
            axis.plot(*way.T, **own, label=label if index == 0 else None)
            axis.plot(*way[0], "o", color=color, markersize=4)
            axis.plot(*way[-1], "x", color=color, markersize=7)
    axis.plot(0, 0, "*", color="black", markersize=12, label="the minimum")
    axis.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal", xlim=(grid[0], grid[-1]), ylim=(grid[0], grid[-1]))
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, frameon=False, fontsize="small")
    return drawing, f"Gradient descent from {len(starts)} starts on a random function of two variables with four waves."


def draw_contest(outcomes: Outcomes, evaluations: int) -> tuple[Any, str]:
    """What is left by problem and optimizer, and the evaluations where the minimum was reached."""
    drawing, (axis,) = figure(1, width=8.0, height=5.0)
    published, optimizers = MORE_GARBOW_HILLSTROM, list(next(iter(outcomes.values())))
    left = torch.zeros(len(outcomes), len(optimizers), dtype=torch.float64)
    for i, (name, row) in enumerate(outcomes.items()):
        objective, start, _, minimum, _ = published[name]
        for j, found in enumerate(row.values()):
            left[i, j] = max((found.value - minimum) / (objective.value(start, ()).item() - minimum), 1e-16)
            axis.text(j, i, found.evaluations or "", color="white", ha="center", va="center")
    label = "share of f(start) - minimum that is left"
    heat_map(axis, left, label=label, scale="log", rows=list(outcomes), columns=optimizers)
    axis.tick_params(length=0)
    caption = (
        f"How far each optimizer came with {evaluations} evaluations, and how many it took where it came within 1e-9 of the "
        "published minimum. Black: diverged."
    )
    return drawing, caption
