"""Hypotheses that read the formula: what the rule under test is of, and what a mistake in it would make of the gradient.

The order is that of how much is claimed: what few formulas would show by chance comes first.
"""

from ..evidence import Hypothesis
from .another import another_function, forward_of_cotangent
from .cotangent import other_cotangent
from .edges import edge_cut, pair_cut
from .families import every_step
from .local import factors, left_out, operands, slopes
from .precision import rounded_inside, rounded_result
from .ratios import ratio
from .repairs import repaired
from .sums import collected

READING: tuple[Hypothesis, ...] = (
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
