"""The gradient check that says what is wrong: see `check`."""

from .check import assert_gradients as assert_gradients
from .check import check as check
from .report import Finding as Finding
from .report import Report as Report
from .vjp import check_vjp as check_vjp
