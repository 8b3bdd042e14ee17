"""What clipping did, in sentences, a table and a figure."""

from collections.abc import Mapping
from typing import Any

from experiments.core.curves import draw_sweeps
from experiments.core.result import Table
from experiments.core.training import Run
from funcnn.plots import COLORS, figure

Sweep = Mapping[float, Run]


def observations(
    largest: Mapping[int, float], never: float, plain: Run, means: Sweep, sums: Sweep, forms: list[float]
) -> list[str]:
    """That a clip at 1 never binds, what the mildest and the hardest limit did, and that every form is the same rule."""
    bound = max(count * entry for count, entry in largest.items())
    lines = [
        f"The largest entry of $dL/dlogits$ is ${bound:.3f}/N$ over batches of {min(largest)} to {max(largest)}, and $1/N$ "
        f"is the most that it can be: a clip at 1 never binds. After training with it the parameters differ by {never:g}."
    ]
    for clip in (max(means), min(means)):
        first, last = means[clip].curves["clipped"][0], means[clip].last("clipped")
        lines.append(
            f"c = {clip:g} clips {first:.1%} of the entries at the start and {last:.1%} at the end; the loss ends at "
            f"{means[clip].outcome()} (mean) and {sums[clip].outcome()} (sum), and unclipped at {plain.outcome()}."
        )
    return [
        *lines,
        f"As a torch.autograd.Function the clipped loss gives a classic loop the parameters of the explicit one (difference "
        f"{forms[0]:.1g} after an epoch), and vmap(grad) the clipped gradient of every sample (difference {forms[1]:.1g}).",
    ]


def table(means: Sweep, sums: Sweep) -> Table:
    """A row for each limit."""
    shares = {clip: (run.curves["clipped"][0], run.last("clipped")) for clip, run in means.items()}
    rows = [
        [f"{clip:g}", *(f"{share:.1%}" for share in shares[clip]), means[clip].outcome(), sums[clip].outcome()]
        for clip in means
    ]
    columns = ["limit c", "clipped at the start", "clipped at the end", "loss (mean, $c/N$)", "loss (sum, $c$)"]
    return Table("Training with every limit", columns, rows)


def clips(largest: Mapping[int, float], means: Sweep, sums: Sweep) -> tuple[Any, str]:
    """The entries against the batch size, and against the limits the loss at the end and the share that is clipped."""
    drawing, (left, middle, right) = figure(3)
    left.loglog(list(largest), list(largest.values()), ".", color=COLORS[0], label="largest at the start")
    left.loglog(list(largest), [1 / count for count in largest], "--", color=COLORS[1], label="bound 1/N")
    left.axhline(1, color="black", linewidth=0.8, label="clip at 1")
    draw_sweeps(middle, {"mean, limit c/N": means, "sum, limit c": sums})
    right.plot(
        list(means), [run.curves["clipped"][0] for run in means.values()], ".-", color=COLORS[0], label="at the start"
    )
    right.plot(list(means), [run.last("clipped") for run in means.values()], ".--", color=COLORS[1], label="at the end")
    left.set(xlabel="samples in the batch N", ylabel="entry of |dL/dlogits|")
    middle.set(xscale="log", xlabel="limit c", ylabel="training loss at the end")
    right.set(xscale="log", xlabel="limit c", ylabel="share of the entries clipped")
    left.legend(frameon=False, fontsize="small")
    right.legend(frameon=False, fontsize="small")
    return (
        drawing,
        "No entry exceeds $1/N$; what smaller limits do to the training, and the share of entries that they reach.",
    )
