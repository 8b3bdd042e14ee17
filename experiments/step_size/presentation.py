"""What the step sizes did, in sentences, tables and figures."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from experiments.core.curves import draw_runs, draw_sweeps, style
from experiments.core.quadratics import draw_paths, rate
from experiments.core.result import Table
from experiments.core.training import Run
from funcnn.plots import figure

Runs = Mapping[str, Run]
TARGETS = {"quadratic": 1e-6, "network": 0.1}  # as a share of the first loss


def reached(run: Run, share: float) -> tuple[int, int] | None:
    """The steps and the evaluations that a run took to bring the loss to this share of the first one."""
    losses, spent = run.curves["loss"], run.curves["evaluations"]
    return next(((step, int(spent[step])) for step, loss in enumerate(losses) if loss <= share * losses[0]), None)


def observations(bowl: Runs, network: Runs, sweep: Mapping[float, Run], k: float) -> list[str]:
    """The rates against theory, the best step of the sweep, and what the searches cost."""
    _, _, optimal, large, *searches = bowl
    measured = [rate(bowl[name].curves["distance"]) for name in (optimal, searches[-1])]
    lost = [lr for lr, run in sweep.items() if run.diverged is not None]
    best = min(sweep.keys() - lost, key=lambda lr: sweep[lr].last())
    lines = [
        f"On the quadratic the distance shrinks by {measured[0]:.5f} a step with the optimal fixed step and by "
        f"{measured[1]:.5f} with exact search; theory says $(k - 1)/(k + 1)$ = {(k - 1) / (k + 1):.5f} for both.",
        f"A step of $2.2/L$, above $2/L$, ends so on the quadratic: {bowl[large].outcome()}.",
        f"Of the fixed steps on the network {best:g} ends lowest, at a loss of {sweep[best].outcome()}; "
        + (f"those from {min(lost):g} diverge" if lost else "none diverges")
        + f". Finding that took {sum(run.last('evaluations') for run in sweep.values())} evaluations.",
    ]
    for place, runs in (("quadratic", bowl), ("network", network)):
        told = {name: reached(run, TARGETS[place]) for name, run in runs.items()}
        costs = [f"{name} {cost[0]} steps, {cost[1]} evaluations" for name, cost in told.items() if cost]
        lines.append(f"To {TARGETS[place]:g} of the first loss on the {place}: {'; '.join(costs) or 'none'}.")
    return lines


def tables(bowl: Runs, network: Runs) -> list[Table]:
    """Steps and evaluations to the target, and the loss at the end."""
    found = []
    for place, runs in (("quadratic", bowl), ("network", network)):
        costs = {name: reached(run, TARGETS[place]) or ("not reached",) * 2 for name, run in runs.items()}
        caption = f"The {place}: what it takes to bring the loss to {TARGETS[place]:g} of the first one"
        rows = [[name, *costs[name], run.outcome()] for name, run in runs.items()]
        found.append(Table(caption, ["step", "steps", "evaluations", "loss at the end"], rows))
    return found


def figures(bowl: Runs, network: Runs, sweep: Mapping[float, Run], curvatures: Tensor) -> dict[str, tuple[Any, str]]:
    """Paths and losses on the quadratic; losses on the network by fixed step; and all steps against what they cost."""
    four = [dict(list(runs.items())[:4]) for runs in (bowl, network)]
    quadratic, (left, right) = figure(2)
    draw_paths(left, four[0], curvatures.cpu())
    draw_runs(right, four[0])
    right.set(xlabel="step", ylabel="loss")

    lengths, (left, right) = figure(2)
    draw_runs(left, four[1])
    draw_sweeps(right, {"fixed step": sweep})
    left.set(xlabel="step", ylabel="training loss")
    right.set(xscale="log", xlabel="fixed step", ylabel="training loss after the last step")
    right.legend(frameon=False, fontsize="small", loc="lower left")

    searches, (left, right) = figure(2, height=4.4)
    draw_runs(left, network)
    left.set(xlabel="step", ylabel="training loss")
    for index, run in enumerate(network.values()):
        right.loglog(run.curves["evaluations"][1:], run.curves["loss"][1:], **style(index))
    right.set(xlabel="evaluations", ylabel="training loss", ylim=left.get_ylim())
    return {
        "quadratic": (quadratic, "Four fixed steps on the quadratic: their paths on its contours, and the loss."),
        "network": (lengths, "The network: the loss with four fixed steps, and what every step of the sweep ends with."),
        "searches": (searches, "Fixed steps and line searches on the network, by steps and by evaluations."),
    }
