"""Where a gradient is wrong, and by how much: the hypotheses that read the numbers, in the order in which they are asked."""

from ..evidence import Hypothesis
from .conditions import branched, masked
from .factors import copied, reshaped_values, symmetric
from .places import inputs_moved, inputs_replaced, other_way, placed, slopes_moved
from .spans import scaled_lines, spanned
from .sums import cross_terms, overwritten, weighted_entries

PLACING: tuple[Hypothesis, ...] = (
    symmetric,
    masked,
    weighted_entries,
    branched,
    placed,
    reshaped_values,
    scaled_lines,
    spanned,
    slopes_moved,
    cross_terms,
    overwritten,
    other_way,
    inputs_moved,
    inputs_replaced,
    copied,
)
