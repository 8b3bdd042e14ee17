"""Minimization on functions whose minima are known: random ones as rough as one likes, and the classic test problems.

A local method ends in the minimum of the basin that it starts in. What a function's roughness does to that is shown on
generated functions, and what an optimizer is worth in a curved valley on the problems of More, Garbow and Hillstrom, with
every evaluation counted.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import funcnn as fn
from experiments.core.options import BadOption, Options
from experiments.core.result import Result
from experiments.minimize import contest, drawing, grid, presentation
from experiments.minimize.problems import generate_function

Optimizer = Literal["sgd", "momentum", "nesterov", "adam", "line search", "BFGS"]


@dataclass(frozen=True, kw_only=True)
class Minimize(Options):
    """Gradient descent from many starts on random functions, and six optimizers on the problems of More et al."""

    dimension: int = 1000
    """The largest dimension of the random functions; the others are the powers of 10 below it, and 1."""
    complexity: int = 8
    """The most terms that are not convex; the others are the powers of 2 below it, and 0."""
    condition: float = 10.0
    """Condition number of the random functions' convex part, at least 1."""
    starts: int = 64
    """Starts of gradient descent on each random function."""
    steps: int = 2000
    """Steps of gradient descent from each start."""
    optimizers: tuple[Optimizer, ...] = get_args(Optimizer)
    """Who takes part on the test problems."""
    evaluations: int = 500
    """Evaluations of a function, with or without its gradient, that an optimizer may spend on a test problem."""

    FULL = {"evaluations": 1000}

    def __post_init__(self) -> None:
        """Raises BadOption for a condition that is none."""
        super().__post_init__()
        if self.condition < 1:
            raise BadOption(f"condition: got {self.condition}, needs a number of at least 1")


def run(options: Minimize) -> Result:
    """The grid of dimensions and complexities, a picture of paths, the agreement of the providers, and the contest."""
    dimensions, complexities = grid.scale(1, options.dimension, 10), [0, *grid.scale(1, options.complexity, 2)]
    starts = {n: grid.starts(options.starts, n, options) for n in dimensions}
    cells = {
        (n, k): grid.descend(_function(n, k, options), starts[n], options.steps) for n in dimensions for k in complexities
    }
    picture = _function(2, 4, options)
    gradients = {name: provider(picture)(grid.starts(1, 2, options)[0], ())[1] for name, provider in fn.PROVIDERS.items()}
    apart = {name: fn.tree.max_difference(gradient, gradients["explicit"]).item() for name, gradient in gradients.items()}
    outcomes = contest.hold(options)
    return Result(
        "Minimize: rough functions and curved valleys",
        f"Random functions of up to {options.dimension} variables with up to {options.complexity} terms that are not "
        f"convex, a convex part of condition {options.condition:g} and the minimum 0, by gradient descent with lr = 1 from "
        f"{options.starts} starts. Then the problems of More, Garbow & Hillstrom (1981) by {', '.join(options.optimizers)}, "
        f"each with at most {options.evaluations} evaluations; what has a learning rate takes the best of "
        f"{len(contest.RATES)}.",
        numbers={
            "grid": [{"dimension": n, "complexity": k, **cell._asdict()} for (n, k), cell in cells.items()],
            "distance from explicit": apart,
            "contest": {name: {o: found._asdict() for o, found in row.items()} for name, row in outcomes.items()},
        },
        observations=presentation.observations(cells, apart, outcomes, options.evaluations),
        figures={
            "grid": drawing.draw_grid(cells),
            "paths": drawing.draw_paths(picture, grid.starts(16, 2, options), options.steps),
            "contest": drawing.draw_contest(outcomes, options.evaluations),
        },
        tables=[presentation.table_of_grid(cells), presentation.table_of_contest(outcomes, options.evaluations)],
    )


def _function(dimension: int, complexity: int, options: Minimize) -> fn.Objective:
    return generate_function(dimension, complexity, options.seed, options.condition)
