"""Hypotheses that read the formula: what the rule under test is of, and what a mistake in it would make of the gradient.

The order is that of how much is claimed: what few formulas would show by chance comes first.
"""

import warnings
from collections.abc import Iterator
from contextlib import suppress
from functools import wraps
from itertools import islice

from ..evidence import Evidence, Hypothesis
from .alias import other_cotangent
from .another import another_function, forward_of_cotangent
from .edges import edge_cut, pair_cut
from .families import every_step
from .local import factors, left_out, operands, slopes
from .precision import rounded_inside, rounded_result
from .ratios import ratio
from .repairs import repaired
from .sums import collected


def _careful(hypothesis: Hypothesis) -> Hypothesis:
    """The same hypothesis, silent where an operation refuses what it is tried on, such as a matrix without an inverse."""

    @wraps(hypothesis)
    def told(e: Evidence) -> Iterator[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        with suppress(RuntimeError, ValueError, TypeError, IndexError, NotImplementedError), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, of what an operation is tried on
            found += islice(hypothesis(e), 1)
        yield from found

    return told


_IN_ORDER: tuple[Hypothesis, ...] = (
    rounded_result,
    other_cotangent,
    edge_cut,
    left_out,
    forward_of_cotangent,
    ratio,
    collected,
    operands,
    rounded_inside,
    slopes,
    factors,
    every_step,
    repaired,
    another_function,
    pair_cut,
)
READING = tuple(map(_careful, _IN_ORDER))
