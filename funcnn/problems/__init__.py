"""Problems to try an optimizer on: functions of a vector whose minima and gradients are known.

Each is an Objective whose parameters are one tensor of shape (n,), with a gradient derived by hand; the batch is ignored,
and may be (). Parameters of shape (..., n) are that many points side by side: the value is the sum of theirs, so that
one run of an optimizer is many.
"""

from .generated import generate_function as generate_function
from .more_garbow_hillstrom import MORE_GARBOW_HILLSTROM as MORE_GARBOW_HILLSTROM
from .more_garbow_hillstrom import Problem as Problem
