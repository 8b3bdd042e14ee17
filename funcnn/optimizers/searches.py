"""Line searches: gradient descent that chooses its own step, paying with values of the loss instead of with tuning.

Both are Optimizers: they ask the bound objective for one gradient, then for values along the ray w - alpha g. They look
at numbers to decide, so they run eagerly, not under vmap.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from .. import tree
from ..errors import check_count, check_number
from ..types import At, Optimizer, Params, Step, loadable
from .hyperparameters import Hyperparameter, scheduled

GOLDEN = (math.sqrt(5) - 1) / 2


@loadable
class LineSearchState(NamedTuple):
    """What the last search found: the step alpha, and how many values of the loss it took."""

    alpha: float = 0.0
    evaluations: int = 0


@scheduled
def line_search(
    lr: Hyperparameter = 1.0,
    shrink: Hyperparameter = 0.5,
    decrease: Hyperparameter = 1e-4,
    max_evaluations: int = 60,
) -> Optimizer:
    """Backtracking (Armijo 1966): w <- w - alpha g with the first alpha that lowers the loss enough.

        L(w - alpha g) <= L(w) - decrease alpha |g|^2,    alpha one of lr, shrink lr, shrink^2 lr, ...

    Where none does within max_evaluations (w is stationary to rounding, or g is no gradient)
    alpha is 0 and w stays, so the inequality holds after every step. See Nocedal & Wright, *Numerical Optimization*
    (2006), algorithm 3.1.

    Raises:
        InputError: lr or decrease is below 0, or shrink or decrease not below 1.
    """
    lr, shrink = check_number("lr", lr), check_number("shrink", shrink, below=1)
    decrease, max_evaluations = check_number("decrease", decrease, below=1), check_count("max_evaluations", max_evaluations)

    def step(at: At, params: Params, state: LineSearchState) -> Step:
        value, grads = at(params)
        start, slope = value.item(), tree.dot(grads, grads).item()
        alpha = lr
        for evaluations in range(1, max_evaluations + 1):
            moved = tree.add_scaled(params, -alpha, grads)
            if at.value(moved).item() <= start - decrease * alpha * slope:
                return Step(moved, LineSearchState(alpha, evaluations), value)
            alpha *= shrink
        return Step(params, LineSearchState(0.0, max_evaluations), value)

    return Optimizer(lambda params: LineSearchState(), step)


@scheduled
def exact_line_search(lr: Hyperparameter = 1.0, tolerance: Hyperparameter = 1e-8, max_evaluations: int = 200) -> Optimizer:
    """Steepest descent (Cauchy 1847): w <- w - alpha g with alpha = argmin over alpha >= 0 of L(w - alpha g).

    The minimum is bracketed by doubling or halving lr, then narrowed by golden section to the relative `tolerance`,
    which values alone cannot better than the square root of the rounding error. Along a ray with several minima it is
    one of them. alpha is 0 where no step lowers the loss.

    Raises:
        InputError: lr or tolerance is not positive.
    """
    lr, tolerance = check_number("lr", lr, math.ulp(0)), check_number("tolerance", tolerance, math.ulp(0))
    max_evaluations = check_count("max_evaluations", max_evaluations)

    def step(at: At, params: Params, state: LineSearchState) -> Step:
        value, grads = at(params)
        calls = 0

        def along(alpha: float) -> float:
            nonlocal calls
            if calls == max_evaluations:
                return math.inf
            calls += 1
            loss = at.value(tree.add_scaled(params, -alpha, grads)).item()
            return loss if math.isfinite(loss) else math.inf

        alpha, lowest = _minimise(along, value.item(), state.alpha or lr, tolerance, lambda: calls >= max_evaluations)
        moved = tree.add_scaled(params, -alpha, grads) if lowest < value.item() else params
        return Step(moved, LineSearchState(alpha if moved is not params else 0.0, calls), value)

    return Optimizer(lambda params: LineSearchState(), step)


def _minimise(
    along: Callable[[float], float], start: float, guess: float, tolerance: float, exhausted: Callable[[], bool]
) -> tuple[float, float]:
    """The minimum of along(alpha) over alpha >= 0, from along(0) = start and a first guess: (alpha, along(alpha))."""
    middle, lowest = guess, along(guess)
    while lowest >= start and middle > 0 and not exhausted():
        middle, lowest = middle / 2, along(middle / 2)
    low, high = 0.0, 2 * middle
    while (beyond := along(high)) < lowest and not exhausted():
        low, middle, lowest, high = middle, high, beyond, 2 * high
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    f_left, f_right = along(left), along(right)
    while high - low > tolerance * high and not exhausted():
        if f_left < f_right:
            high, right, f_right = right, left, f_left
            left = high - GOLDEN * (high - low)
            f_left = along(left)
        else:
            low, left, f_left = left, right, f_right
            right = low + GOLDEN * (high - low)
            f_right = along(right)
    return min([(middle, lowest), (left, f_left), (right, f_right)], key=lambda point: point[1])
