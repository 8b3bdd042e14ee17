"""What may be wrong with a gradient: the names that a finding has for it, equal to their strings."""

from enum import StrEnum
from typing import NewType


class Cause(StrEnum):
    """The short name of a mistake, or none.

    The trials of a rule have theirs, and so have the hypotheses, several of which may come to the same one.
    """

    NONE = ""

    # how the function behaves, and how it is used
    MUTATION = "mutation"
    NONDETERMINISTIC = "nondeterministic"
    VALUE = "value"
    NOT_FINITE = "not finite"
    RAISES = "raises"
    CLAIM = "claim"
    DTYPE = "dtype"
    SHAPE = "shape"
    STRIDES = "strides"
    LINEARITY = "linearity"
    STALE = "stale"
    SECOND_CALL = "second call"
    FROZEN = "frozen"
    UNUSED_OUTPUT = "unused output"
    POINT = "point"
    FORWARD_MODE = "forward mode"
    VMAP = "vmap"
    SECOND_DERIVATIVE = "second derivative"

    # how much
    ZERO = "zero"
    SIGN = "sign"
    FACTOR = "factor"
    FACTOR_2 = "factor 2"
    FACTOR_N = "factor N"
    BIAS_REDUCTION = "bias reduction"
    VALUES = "values"
    COMPLEMENT = "complement"
    PRECISION = "precision"

    # where
    SINGLE_ENTRY = "single entry"
    SINGLE_ROW = "single row"
    SINGLE_COLUMN = "single column"
    SLAB = "slab"
    BRANCH = "branch"
    MASK = "mask"
    TIES = "ties"
    TRIANGLE = "triangle"
    SYMMETRIC = "symmetric"

    # in another place
    TRANSPOSED = "transposed"
    PERMUTED = "permuted"
    EXCHANGED = "exchanged"
    SHIFTED = "shifted"
    BROADCAST = "broadcast"
    GATHERED = "gathered"
    AXIS = "axis"
    DIRECTION = "direction"

    # which part of the rule
    TERM = "term"
    CROSS_TERMS = "cross terms"
    PATH = "path"
    PATH_SIGN = "path sign"
    PATH_FACTOR = "path factor"
    OVERWRITTEN = "overwritten"
    REPEATS = "repeats"
    UPSTREAM = "upstream"
    ACTIVATION_DERIVATIVE = "activation derivative"
    OPERAND = "operand"
    SAVED_TENSOR = "saved tensor"
    REPLACED = "replaced"
    LEFT_OUT = "left out"
    CONSTANT = "constant"

    # how it is drawn
    BIASED = "biased"
    DIMENSION = "dimension"
    SAMPLES = "samples"
    STEP = "step"
    ONE_SIDED = "one-sided"
    REDRAWN = "redrawn"
    REUSED_SEED = "reused seed"
    CORRELATED = "correlated"
    DIRECTIONS = "directions"


Own = NewType("Own", str)  # the name that somebody's own hypothesis has for a cause
