"""What autograd computes: the gradient of a function at points and as a field, a line fitted with it, and no_grad."""

from dataclasses import dataclass

import torch

import funcnn as fn
from experiments.autograd import field, line, tape
from experiments.core.options import Training
from experiments.core.result import Result, Table


@dataclass(frozen=True, kw_only=True)
class Autograd(Training):
    """Differentiates 3 x^3 - y^2 and x^3 by every provider, fits a line with the gradients, and looks at no_grad."""

    lr: float = 0.1
    epochs: int = 20
    samples: int = 200
    """Points to which the line is fitted."""


def run(options: Autograd) -> Result:
    """The field and its errors, the derivative of x^3 at 2, the fitted line, and what no_grad changes."""
    points, chosen = field.grid(torch.zeros((), **options.tensors)), torch.tensor(field.POINTS, **options.tensors)
    arrows, at_points = field.gradients(points), field.gradients(chosen)
    errors = {name: fn.tree.max_difference(found, field.gradient(points)).item() for name, found in arrows.items()}
    cube = field.slopes_of_cube(torch.tensor(2.0, **options.tensors))
    data = line.points(options.samples, options)
    best, runs = line.least_squares(data), line.fit(data, options)
    mode, moved = tape.compare(line.OBJECTIVE, best, data), tape.moved(line.OBJECTIVE, best, data)
    rows = [
        [str(tuple(p)), str(tuple(g.tolist())), *(f"{(each[i] - g).abs().max():.1g}" for each in at_points.values())]
        for i, (p, g) in enumerate(zip(field.POINTS, field.gradient(chosen), strict=True))
    ]
    return Result(
        "Autograd: gradients of functions, and a line fitted with them",
        "Every provider differentiates $f(x, y) = 3 x^3 - y^2$, whose gradient is $(9 x^2, -2 y)$, and $x^3$. The same "
        f"gradients then fit a line to {options.samples} points by minibatch gradient descent. Last, what torch.no_grad "
        "switches off.",
        numbers={
            "at points": {name: found.tolist() for name, found in at_points.items()},
            "largest error on the grid": errors,
            "slope of x^3 at 2": cube,
            "line": {name: [leaf.item() for leaf in fn.tree.leaves(run.params)] for name, run in runs.items()},
            "least squares": [leaf.item() for leaf in fn.tree.leaves(best)],
            "loss": {name: run.curves["loss"] for name, run in runs.items()},
            "under no_grad": mode,
            "moved by no_grad": moved,
        },
        observations=[field.told(errors, cube, len(points)), line.told(runs, best), tape.told(mode, moved)],
        figures={
            "field": field.draw(points, arrows, errors, cube["autograd"]),
            "line": line.draw(data, best, runs),
        },
        tables=[
            Table(
                "The gradient of f at some points: formula, and each provider's error",
                ["$(x, y)$", "$(9 x^2, -2 y)$", *arrows],
                rows,
            ),
            Table(
                "The same computation under torch.no_grad()",
                ["", "as usual", "under no_grad"],
                [[what, *told] for what, told in mode.items()],
            ),
        ],
    )
