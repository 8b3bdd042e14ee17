"""Problems to try an optimizer on: functions of a vector whose minima and gradients are known.

Each is an fn.Objective whose parameters are one tensor of shape (n,), with a gradient derived by hand; the batch is ignored,
and may be (). Parameters of shape (..., n) are that many points side by side: the value is the sum of theirs, so that
one run of an optimizer is many.
"""

from experiments.minimize.problems.generated import generate_function as generate_function
from experiments.minimize.problems.more_garbow_hillstrom import MORE_GARBOW_HILLSTROM as MORE_GARBOW_HILLSTROM
from experiments.minimize.problems.more_garbow_hillstrom import Problem as Problem
