"""What the minimizers did, in sentences and tables."""

from experiments.core.result import Table
from experiments.minimize.contest import Outcome, Outcomes
from experiments.minimize.grid import Cells, lone_share
from experiments.minimize.problems import MORE_GARBOW_HILLSTROM


def table_of_grid(cells: Cells) -> Table:
    """A row for each function."""
    rows = []
    for (n, k), cell in cells.items():
        late = sum(steps != steps for steps in cell.steps)
        steps = "none" if late == len(cell.steps) else f"{cell.median:.0f}"
        rows.append([n, k, f"{cell.share:.2f}", f"{min(cell.values):.2g}", steps, late])
    columns = ["dimension", "complexity", "share that reaches 0", "lowest value", "median steps", "not yet stationary"]
    return Table("Gradient descent on random functions", columns, rows)


def table_of_contest(outcomes: Outcomes, evaluations: int) -> Table:
    """The values reached beside the published minima, and the evaluations used."""
    published = MORE_GARBOW_HILLSTROM
    rows = [
        [name, f"{published[name].minimum:g}", *(_told(found, evaluations) for found in row.values())]
        for name, row in outcomes.items()
    ]
    columns = ["problem", "published minimum", *next(iter(outcomes.values()))]
    return Table("The value reached, and the evaluations used to come within 1e-9 of the published minimum", columns, rows)


def _told(found: Outcome, evaluations: int) -> str:
    if not found.value < float("inf"):
        return "diverged at every rate"
    return f"{found.value:.6g} in {found.evaluations}" if found.evaluations else f"{found.value:.3g}, not in {evaluations}"


def observations(cells: Cells, apart: dict[str, float], outcomes: Outcomes, evaluations: int) -> list[str]:
    """Shares against p^K, the dimensions, the providers, and who reached what in the contest."""
    p, complexities = lone_share(cells), sorted({k for _, k in cells})
    shares = {k: [cell.share for (n, own), cell in cells.items() if own == k and n > 1] for k in complexities}
    told = [f"{min(found):.2f} to {max(found):.2f} with {k} ($p^K$ = {p**k:.2g})" for k, found in shares.items() if found]
    places = ", ".join(str(n) for n in sorted({n for n, _ in cells if n > 1}))
    alone = ", ".join(f"{cells[1, k].share:.2f}" for k in complexities)
    reached = {o: [n for n, row in outcomes.items() if row[o].evaluations] for o in next(iter(outcomes.values()))}
    costs = ", ".join(
        f"{o} {found.evaluations or f'more than {evaluations}'}" for o, found in outcomes["Rosenbrock"].items()
    )
    differences = max(distance for name, distance in apart.items() if name.endswith("difference"))
    exact = max(distance for name, distance in apart.items() if not name.endswith("difference"))
    best = max(reached, key=lambda optimizer: len(reached[optimizer]))
    missed = [f"{name} ({row[best].value:.6g})" for name, row in outcomes.items() if name not in reached[best]]
    return [
        *(
            f"In {places} dimensions the share of starts that reach the minimum is {'; '.join(told)} waves, where p is the "
            "mean share with one."
            for _ in told[:1]
        ),
        f"In one dimension, where all waves lie along one line, it is {alone}.",
        f"On the function in the picture the providers agree with the hand-derived gradient to {exact:.1e}, and those by "
        f"differences to {differences:.1e}.",
        f"Of {len(outcomes)} published minima "
        + ", ".join(f"{o} reaches {len(found)}" for o, found in reached.items())
        + ".",
        f"Evaluations to the minimum of Rosenbrock's function: {costs}.",
        f"Minima that {best} has not reached after {evaluations} evaluations: {', '.join(missed) or 'none'}.",
    ]
