"""The table of Martins, Sturdza & Alonso, "The complex-step derivative approximation" (2003), ACM TOMS 29:245.

The relative error of f'(1.5) for f(x) = e^x / sqrt(sin^3 x + cos^3 x), by step and scheme.
"""

from math import nan

import torch

import funcnn as fn
from experiments.core.result import Table

DERIVATIVE = 4.0534278938986206577
ROUNDING = 2.2e-16
SCHEMES = ("forward", "backward", "central", "complex step")
PUBLISHED = {
    1e-1: (1.31e-1, 1.04e-1, 1.34e-2, 1.31e-2),
    1e-2: (1.18e-2, 1.15e-2, 1.32e-4, 1.32e-4),
    1e-4: (1.17e-4, 1.17e-4, 1.32e-8, 1.32e-8),
    1e-5: (1.17e-5, 1.17e-5, 1.35e-10, 1.32e-10),
    1e-6: (1.17e-6, 1.17e-6, 1.4e-10, 1.32e-12),
    1e-8: (2.5e-8, 4.1e-8, 8.4e-9, ROUNDING),
    1e-12: (2.7e-4, 1.7e-4, 5.4e-5, ROUNDING),
    1e-20: (1.0, 1.0, 1.0, ROUNDING),
}
FUNCTION = fn.Objective(lambda x, batch: x.exp() / (x.sin() ** 3 + x.cos() ** 3).sqrt())


def relative_error(scheme: str, h: float) -> float:
    """The measured error of f'(1.5), NaN where the provider refuses a step that moves nothing."""
    x = torch.tensor(1.5, dtype=torch.float64)
    try:
        provider = fn.complex_step(FUNCTION, h) if scheme == "complex step" else fn.finite_difference(FUNCTION, scheme, h)
        return abs(provider(x, ())[1].item() / DERIVATIVE - 1)
    except fn.InputError:
        return nan


def table() -> dict[str, dict[float, tuple[float, float]]]:
    """(measured, published) by scheme and step."""
    return {
        scheme: {h: (relative_error(scheme, h), row[column]) for h, row in PUBLISHED.items()}
        for column, scheme in enumerate(SCHEMES)
    }


def reproduced(measured: float, printed: float) -> bool:
    """Whether an error is the published one to 1%, or no larger where that is the rounding unit."""
    return abs(measured / printed - 1) < 0.01 or measured <= printed == ROUNDING


def present(errors: dict[str, dict[float, tuple[float, float]]]) -> Table:
    """The table as published, with what was measured before each number."""
    rows = [[f"{h:.0e}"] + [_told(error) for scheme in SCHEMES for error in errors[scheme][h]] for h in PUBLISHED]
    columns = ["h"] + [head for scheme in SCHEMES for head in (scheme, "published")]
    caption = (
        "Relative error of $f'(1.5)$. Where h moves nothing the quotient is 0, an error of 1, and our provider refuses it"
    )
    return Table(caption, columns, rows)


def _told(error: float) -> str:
    return "refused" if error != error else f"{error:.2e}"
