"""How the network learnt to add, in sentences, a table and a figure."""

from typing import Any

from experiments.core.beside import draw_differences
from experiments.core.result import Table
from funcnn.plots import COLORS, figure, log_scale

Sums = list[tuple[int, int, int]]


def observations(exams: list[tuple[int, int]], learnt: int, seen: int, mistakes: Sums) -> list[str]:
    """What the numbers say."""
    steps, right = exams[-1]
    total = right + len(mistakes)
    half = next((f"half of them are right after {count} steps" for count, found in exams if 2 * found >= total), None)
    return [
        f"After {steps} steps the network gives {right} of {total:,} sums that it has not seen with every digit right, and "
        f"{learnt:,} of {seen:,} that it has learnt from" + (f"; {half}." if half else ".")
    ]


def table_of_mistakes(mistakes: Sums) -> Table:
    """Some sums that it gets wrong."""
    rows = [[f"{a} + {b}", answer, a + b, f"{answer - a - b:+}"] for a, b, answer in mistakes[:20]]
    return Table(
        f"Held-out sums that it gets wrong, {len(rows)} of {len(mistakes)}", ["sum", "answer", "right", "error"], rows
    )


def draw_learning(losses: list[float], exams: list[tuple[int, int]], differences: list[float]) -> tuple[Any, str]:
    """The loss, the exams and the difference from others, against the steps."""
    drawing, (left, middle, right) = figure(3, width=13.0, height=3.8)
    left.plot(range(len(losses)), losses, color=COLORS[0], linewidth=1)
    log_scale(left)
    left.set(xlabel="step", ylabel="loss of a digit, minibatch")
    middle.plot(*zip(*exams, strict=True), color=COLORS[1], marker=".")
    middle.set(xlabel="step", ylabel="right, of 1,000 sums held out", ylim=(0, 1040))
    draw_differences(right, differences)
    return (
        drawing,
        "The loss of the answer's digits; how many sums that it has not seen are right; and the largest difference of a "
        "parameter by explicit from classic PyTorch's, in float64.",
    )
