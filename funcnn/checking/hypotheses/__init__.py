"""Hypotheses that read the formula: what the rule under test is of, and what a mistake in it would make of the gradient."""

from .edges import edge_cut as edge_cut
from .edges import pair_cut as pair_cut
from .local import LOCAL

READING = (edge_cut, *LOCAL, pair_cut)
