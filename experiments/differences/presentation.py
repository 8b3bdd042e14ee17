"""What the differences did, in sentences, a table and a figure."""

from typing import Any

import torch
from torch import Tensor

from experiments.core.result import Table
from experiments.differences.martins import reproduced
from experiments.differences.sweep import SCHEMES, best, order
from funcnn.plots import COLORS, DASHES, figure

RULES = {"forward": 1 / 2, "central": 1 / 3}  # the best step is near eps to this power


def observations(rms: Any, sweeps: Any, costs: Any, published: Any, dtype: str) -> list[str]:
    """The errors, their orders, the best steps against the rules, the costs, and the published table."""
    ranked = sorted((name for name in rms if name != "explicit"), key=lambda name: rms[name])
    double = sweeps["torch.float64"]
    orders = {scheme: order(double[scheme], 1e-4, 1e-2) for scheme in SCHEMES}
    lines = [
        f"At the default steps in {dtype} the rms errors are "
        + ", ".join(f"{rms[name]:.1e} ({name})" for name in ranked)
        + ".",
        "From h = 1e-2 to 1e-4 in float64 the error falls with h to the power "
        + ", ".join(f"{found:.2f} ({scheme}; theory {SCHEMES[scheme]})" for scheme, found in orders.items())
        + ".",
        *(_best_steps(name.removeprefix("torch."), sweep) for name, sweep in sweeps.items()),
        f"A gradient of 100 variables takes {costs['forward_difference'][2]} evaluations by forward differences, "
        f"{costs['central_difference'][2]} by central ones, {costs['complex_step'][2]} by complex steps, and "
        f"{costs['func_grad'][2]} with a backward pass by func_grad.",
    ]
    cells = [(scheme, h, *pair) for scheme, column in published.items() for h, pair in column.items()]
    apart = [(scheme, h) for scheme, h, measured, printed in cells if not reproduced(measured, printed)]
    floor = max(measured for h, (measured, _) in published["complex step"].items() if h <= 1e-8)
    return [
        *lines,
        f"Of the {len(cells)} errors of Martins et al. {len(cells) - len(apart)} are reproduced. The others are of "
        f"{', '.join(dict(apart))} differences, at h = {max(h for _, h in apart):.0e} and below in the noise of rounding. "
        f"The complex step is good to {floor:.1e} from h = 1e-8 down to 1e-20.",
    ]


def _best_steps(dtype: str, sweep: dict[str, list[list[float]]]) -> str:
    eps, told = torch.finfo(getattr(torch, dtype)).eps, []
    for scheme, power in RULES.items():
        h, error = best(sweep[scheme])
        told.append(f"{error:.1e} for {scheme} differences at h = {h:.1e} (the rule says {eps**power:.1e})")
    told.append(f"{best(sweep['complex step'])[1]:.1e} for the complex step")
    return f"The smallest errors in {dtype} are {', '.join(told)}."


def table(rms: dict[str, float], costs: dict[str, list[int]], dtype: str) -> Table:
    """The error and the cost of each provider."""
    rows = [[name, f"{rms[name]:.2e}" if rms[name] else "0", *costs[name]] for name in rms]
    columns = ["provider", f"rms error in {dtype}", "evaluations of f for 1 variable", "for 10", "for 100"]
    return Table(
        "Every provider at its default step, against $e^x (sin x + cos x)$, which is what explicit returns", columns, rows
    )


def draw_grid(grid: Tensor, derivative: Tensor, errors: dict[str, list[float]]) -> tuple[Any, str]:
    """The function and its derivative, and the error of each provider at every point."""
    drawing, (left, right) = figure(2, height=4.0)
    x = grid.cpu()
    left.plot(x, x.sin() * x.exp(), color=COLORS[0], linestyle=DASHES[0], label=r"$f(x) = e^x \sin x$")
    left.plot(x, derivative.cpu(), color=COLORS[1], linestyle=DASHES[1], label=r"$f'(x) = e^x (\sin x + \cos x)$")
    left.set(xlabel="x", ylabel="f(x), f'(x)")
    left.legend(frameon=False, loc="upper left")
    for index, (name, error) in enumerate(errors.items()):
        sizes = torch.tensor(error).abs()
        if sizes.any():
            shown = sizes.where(sizes > 0, torch.nan)
            line = DASHES[index] if name.endswith("difference") else "none"  # the others are dots of rounding
            marks = {"color": COLORS[index], "linestyle": line, "marker": "sodv^*x"[index], "markersize": 3}
            right.semilogy(x, shown, label=name, **marks)
    right.set(xlabel="x", ylabel="absolute error of f'(x)")
    right.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=3)
    return (
        drawing,
        "The function and its derivative; right, the error of each provider at its default step, where it is not 0.",
    )
