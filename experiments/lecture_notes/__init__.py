"""Three formulas of lecture notes, what a gradient check finds in each, and how large the effect is.

They are in `published`: softmax without its maximum, cross entropy with an epsilon in the value alone, and a ReLU that
keeps dy at 0 and writes into it. All three train the networks of the notes, whose logits are small, whose probabilities
are not, and whose dy nobody else uses. The check says where that ends, the sweeps what it costs.
"""

import warnings
from dataclasses import dataclass
from math import isnan
from typing import Any

import torch
from torch import Tensor

import funcnn as fn
from experiments.core.options import Options
from experiments.core.result import Result, Table
from experiments.lecture_notes.published import EPSILON, cross_entropy, relu, softmax
from funcnn import tree
from funcnn.plots import COLORS, DASHES, figure

DTYPES = {"float32": torch.float32, "float64": torch.float64}
ROW = torch.tensor([[0, -0.5, -1]], dtype=torch.float64)  # logits below the largest, which is moved about
LARGEST = {"float32": (0, 88, 89, -88, -100, -105), "float64": (0, 709, 710, -709, -740, -747)}
LABEL = torch.tensor([0])
PROBABILITIES = (0.5, 1e-1, 1e-3, 1e-6, 1e-9, 1e-12)
Sweep = list[tuple[float, float]]  # (where, relative error)


@dataclass(frozen=True, kw_only=True)
class LectureNotes(Options):
    """Checks three published formulas, and measures where they go wrong, in float32 and in float64 whatever --dtype."""


def run(options: LectureNotes) -> Result:
    """The checks, one row each, and how far off each formula is over a sweep of its inputs."""
    sweeps = {"softmax": softmax_errors(), "cross entropy": cross_entropy_errors(), "ReLU": relu_errors()}
    verdicts = checks()
    return Result(
        "Lecture notes: three published formulas under the check",
        "Softmax without its maximum, cross entropy with an epsilon in the value alone, and a ReLU that writes into dy.",
        numbers={"sweeps": sweeps, "checks": verdicts},
        observations=_observations(sweeps, verdicts),
        figures={"effects": _draw(sweeps)},
        tables=[Table("What fn.check_vjp says", ["formula", "dtype", "at", "verdict", "of", "cause", "error"], verdicts)],
    )


def checks() -> list[list[str]]:
    """A row for each formula, dtype and place: the worst verdict, what it is about, its cause, and the error there."""
    cases: list[tuple[Any, ...]] = []
    for dtype in DTYPES:
        cases += [("softmax", softmax(), dtype, f"largest logit {x}", (), ROW + x) for x in LARGEST[dtype]]
        cases += [("cross entropy", cross_entropy(), dtype, f"p = {p:g}", logits(p), LABEL) for p in PROBABILITIES]
        cases += [("ReLU", relu(), dtype, f"x = {x}", (), torch.tensor([x]).double()) for x in ([1, -1], [1, 0])]
    order, rows = ("wrong", "unreliable", "kink", "ok"), []
    for name, rule, dtype, place, *inputs in cases:
        low = tree.map(lambda x, dtype=dtype: x.to(DTYPES[dtype]) if x.is_floating_point() else x, tuple(inputs))
        with warnings.catch_warnings():  # torch's, of a rule that writes into a dy with strides of 0, as sum hands it down
            warnings.filterwarnings("ignore", "Use of .* on expanded tensors", UserWarning)
            report = fn.check_vjp(rule, low)
        here = {name: trial for name, trial in report.trials.items() if name != "elsewhere"}  # the row is of this place
        path, worst = min((report.leaves | here).items(), key=lambda item: order.index(item[1].verdict))
        of = "" if worst.verdict == "ok" else path
        rows.append([name, dtype, place, worst.verdict, of, worst.cause, f"{worst.error:.1e}"])
    return rows


def logits(p: float) -> Tensor:
    """One row of two logits, whose first class has probability p."""
    return torch.tensor([[p, 1 - p]], dtype=torch.float64).log()


def off(g: Tensor, r: Tensor) -> float:
    """The relative error |g - r| / max(|g|, |r|)."""
    return ((g - r).norm() / torch.maximum(g.norm(), r.norm())).item()


def softmax_errors() -> dict[str, Sweep]:
    """(largest logit, relative error of y) in both precisions, NaN where y is."""
    layer, right = softmax(), fn.softmax()

    def error(x: Tensor) -> float:
        return off(fn.apply(layer, (), x).double(), fn.apply(right, (), x.double()))

    return {name: [(x, error((ROW + x).to(dtype))) for x in range(-760, 761)] for name, dtype in DTYPES.items()}


def cross_entropy_errors() -> Sweep:
    """(probability p of the label, relative error of the gradient against that of the value)."""
    loss = cross_entropy()

    def error(p: float) -> float:
        g = loss.backward(loss.forward(logits(p), LABEL)[1])
        return off(g, torch.func.grad(lambda z: loss.forward(z, LABEL)[0])(logits(p)))

    return [(p, error(p)) for p in torch.logspace(-14, -0.3, 100, dtype=torch.float64).tolist()]


def relu_errors() -> dict[str, Sweep]:
    """(share of the inputs, relative error of dx) where these are 0, and where they are -1 and y is x + relu(x)."""
    layer, right = relu(), fn.relu()

    def error(count: int, x: float, skip: int) -> float:
        dy = torch.ones(1000, dtype=torch.float64)
        inputs, shared = dy.index_fill(0, torch.arange(count), x), dy.clone()
        g = layer.backward(inputs, shared)[1] + skip * shared
        return off(g, right.backward(inputs.relu(), dy)[1] + skip * dy)

    cases = {"at 0": (0.0, 0), "below 0, with a skip connection": (-1.0, 1)}
    return {name: [(n / 1000, error(n, *case)) for n in range(50, 1001, 50)] for name, case in cases.items()}


def _observations(sweeps: Any, verdicts: list[list[str]]) -> list[str]:
    lines = []
    for name, errors in sweeps["softmax"].items():
        finite = {x: error for x, error in errors if not isnan(error)}
        good = [x for x, error in finite.items() if error < 100 * torch.finfo(DTYPES[name]).eps]
        lines.append(
            f"Softmax without its maximum in {name} is NaN where the largest logit is above {max(finite)} or below "
            f"{min(finite)}, and loses digits below {min(good)}, up to {max(finite.values()):.0%} of y."
        )
    wrong, half = (max(p for p, error in sweeps["cross entropy"] if error > size) for size in (1e-7, 0.5))
    lines.append(
        f"The gradient of cross entropy with 1e-9 in the value alone is off by 1e-7 or more where p is below {wrong:.1g}, "
        f"and by half or more below {half:.1g}."
    )
    kept, shared = (dict(errors)[0.5] for errors in sweeps["ReLU"].values())
    lines.append(
        f"Where half of the inputs are 0, dx of the ReLU that keeps dy there is {kept:.0%} off torch's; either is a "
        f"subgradient. Where half are negative and dy is shared with a skip connection, its dx is wrong by {shared:.0%}."
    )
    for name in sweeps:
        rows = [row for row in verdicts if row[0] == name and row[3] in ("wrong", "unreliable")]
        found = [f"{row[1]} {row[2]} ({row[5] or row[4]})" for row in rows]
        lines.append(f"fn.check_vjp objects to {name} at {'; '.join(found) or 'none of the places tried'}.")
    return lines


def _draw(sweeps: Any) -> tuple[Any, str]:
    drawing, (left, middle, right) = figure(3, height=3.4)
    for axis, name in ((left, "softmax"), (right, "ReLU")):
        for index, (label, errors) in enumerate(sweeps[name].items()):
            axis.plot(*zip(*errors, strict=True), color=COLORS[index], linestyle=DASHES[index], label=label)
    middle.loglog(*zip(*sweeps["cross entropy"], strict=True), color=COLORS[0], label="measured")
    line = [(p, EPSILON / (p + EPSILON)) for p, _ in sweeps["cross entropy"]]
    middle.loglog(*zip(*line, strict=True), color=COLORS[6], linestyle=DASHES[3], label="1e-9 / (p + 1e-9)")
    left.set(xlabel="largest logit (no line: NaN)", ylabel="relative error of softmax", yscale="log")
    middle.set(xlabel="probability p of the label", ylabel="relative error of dz")
    right.set(xlabel="share of the inputs", ylabel="relative error of dx", ylim=(0, 1.05))
    for axis in (left, middle, right):
        axis.legend(frameon=False, fontsize="small")
    return drawing, "How far off each formula is: by the size of the logits, by the probability of the label, by the inputs."
