"""The providers by name: one row makes a new one known to the experiments and to the tests."""

from collections.abc import Callable
from functools import partial

from ..types import Objective, StepFn
from .complex_plane import complex_step
from .differences import finite_difference
from .reverse import autograd, explicit, func_grad

PROVIDERS: dict[str, Callable[[Objective], StepFn]] = {
    "explicit": explicit,
    "func_grad": func_grad,
    "autograd": autograd,
    "forward_difference": partial(finite_difference, scheme="forward"),
    "backward_difference": partial(finite_difference, scheme="backward"),
    "central_difference": partial(finite_difference, scheme="central"),
    "complex_step": complex_step,
}
