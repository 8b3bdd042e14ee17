"""What the two networks did, in sentences and tables."""

from typing import Any, NamedTuple

from experiments.core.result import Result, Table
from experiments.core.timing import Timing
from experiments.core.training import Run
from experiments.lenet import drawing
from experiments.lenet.networks import Contest
from funcnn import tree


class Found(NamedTuple):
    """What was measured, each by the name of the network, but for the differences of the parameters of the first."""

    contests: list[Contest]
    runs: dict[str, Run]
    differences: dict[str, list[float]]
    others: dict[str, dict[str, float]]
    times: dict[str, Timing]
    moved: dict[str, Any]


def result(found: Found, options: Any) -> Result:
    """All of it."""
    data = found.contests[0].data
    train, test = len(data.train[0]), len(data.test[0])
    source = "scikit-learn's digits, 8 x 8 and enlarged" if options.mnist is None else "digits of MNIST"
    return Result(
        "LeCun's networks of 1989 and 1998: digits read end to end",
        f"On {train:,} {source}, and {test:,} more for testing: the network of 1989 at 16 x 16, one digit a step, mean "
        "squared error, and LeNet-5 at 28 x 28, ten digits a step, cross entropy; by gradients derived by hand. Beyond the "
        "images and the maps of the first lies the background, -1, as in Karpathy's reproduction, and not 0; which 8 of 12 "
        "maps a map sees is his choice too.",
        numbers={
            "runs": {name: (run.curves, run.diverged) for name, run in found.runs.items()},
            "largest difference per step": found.differences,
            "largest difference of providers": found.others,
            "seconds": {name: timing.rounds for name, timing in found.times.items()},
            "differences of all parameters": found.moved,
        },
        observations=observations(found, options),
        figures={
            "errors": drawing.draw_errors(found.contests, found.runs, found.differences),
            "kernels": drawing.draw_kernels(found.contests, found.runs),
            "misread": drawing.draw_misread(found.contests, found.runs),
        },
        tables=tables(found),
    )


def observations(found: Found, options: Any) -> list[str]:
    """What the numbers say."""
    said = []
    for contest in found.contests:
        run, count = found.runs[contest.name], len(contest.data.test[0])
        if run.diverged is not None:
            said.append(f"{contest.title}: {run.outcome()}.")
            continue
        training, test = run.last("training error"), run.last("test error")
        said.append(
            f"{contest.title}, {parameters(contest):,} parameters, misreads {test:.2%} of the test digits after "
            f"{options.passes} passes ({round(test * count)} of {count:,}), and {training:.2%} of those it learned from. "
            f"The kernels that meet the image moved by {moved_by(contest.start, run.params):.0%} of their length."
        )
    said.append(
        "For that of 1989 the paper has 5.0% and Karpathy 4.09% of the test digits after 23 passes, on 7,291 other digits."
    )
    if options.passes < 23:
        said.append(f"It stops after {options.passes} passes to be short; --passes 23 runs the published length.")
    for contest in found.contests:
        timing, steps = found.times[contest.name], found.differences[contest.name]
        micro = {side: f"{1e6 * timing.seconds(side):,.0f} µs {side}" for side in timing.rounds}
        *_, best, classic = timing.rounds
        said.append(
            f"{contest.title}: over {len(steps):,} steps the parameters differ from those of classic PyTorch by at most "
            f"{max(steps):.1e}; a step takes {', '.join(micro.values())}, {best} {timing.ratio(best, classic)[0]:.2f} times "
            "as long as classic."
        )
    moved = found.moved
    said.append(
        f"Forward differences of all {moved['parameters']:,} parameters of the network of 1989 take "
        f"{1e3 * moved['structured']:.0f} ms on one digit, and a loop of one evaluation for each {moved['loop']:.1f} s: the "
        "first are {:.0f} times faster (quartiles {:.0f} to {:.0f}).".format(*moved["faster"])
    )
    return said


def parameters(contest: Contest) -> int:
    """How many numbers it learns."""
    return sum(leaf.numel() for leaf in tree.leaves(contest.start))


def moved_by(start: Any, params: Any) -> float:
    """The distance of the first kernels from where they started, by their norm there."""
    before, after = map(drawing.first_kernels, (start, params))
    return ((after - before).norm() / before.norm()).item()


def tables(found: Found) -> list[Table]:
    """The errors beside the published ones; and how far other gradients lead elsewhere."""
    parts, old = ("training error", "test error"), found.contests[0]
    rows = [[c.name, f"{parameters(c):,}", *(found.runs[c.name].outcome(p, ".2%") for p in parts)] for c in found.contests]
    published = [[name, f"{parameters(old):,}", "", f"{error:.2%}"] for name, error in drawing.PUBLISHED.items()]
    apart = [[name, other, f"{far:.1e}"] for name, own in found.others.items() for other, far in own.items()]
    return [
        Table("Digits misread", ["network", "parameters", "training digits", "test digits"], rows + published),
        Table("After a few steps", ["network", "gradient", "largest difference of a parameter from explicit"], apart),
    ]
