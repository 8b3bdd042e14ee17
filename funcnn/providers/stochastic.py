"""Gradients of random directions, for where d derivatives are too many: K slopes s_k of the value, along u_1, ..., u_K.

    g = 1/K sum_k s_k u_k        with E u u^T = I, so that E g is the gradient where s_k = u_k . gradient

    spsa                two values a slope, entries of u +1 or -1
    forward_gradient    a derivative a slope, u Gaussian
    evolution           two values a slope, which are a distance apart, u Gaussian

What is saved is paid in variance. With true slopes

    E |g - gradient|^2 / |gradient|^2    =    (d + 1) / K    Gaussian
                                              (d - 1) / K    entries +1 or -1
                                              d / K - 1      orthogonal directions, d of them at most

The slope (f(w + c u) - f(w - c u)) / (2 c) of two values has a bias beside it, by the third derivatives: on f = sum_i w_i^3
that of g_i is c^2 E u_i^4, which is c^2 where u_i is +1 or -1 and 3 c^2 where it is Gaussian. Or else c is what is wanted,
sigma: g is without bias for another function, the mean of f(w + sigma u) over Gaussian u, which is smooth where f is not.

Every call draws anew, from the generator that it was given; see `drawn`. Its value and its slopes have one batch, and so one
mask of dropout. The value is that of the objective at the parameters, evaluated by itself where slopes are differences.
"""

import re
from collections.abc import Callable
from functools import partial

import torch
from torch import Generator, Tensor

from .. import kernels, tree
from ..errors import InputError, check_autocast, check_count, check_flag, check_generator, check_number, describe
from ..types import Objective, StepFn
from .differences import CENTRAL, check_moves
from .directions import Entries, directions, gaussian, orthogonalised, rademacher
from .doors import Gradient, Value, check_objective
from .drawn import Drawn, Place, of_each

TINY = torch.finfo(torch.float64).tiny

OnLeaves = Callable[[list[Tensor]], Tensor]
Slopes = Callable[[OnLeaves, Place, list[Tensor]], tuple[Tensor, Tensor]]  # (f, place, directions) -> (f(w), slopes (K,))


def spsa(
    objective: Objective, generator: Generator, *, samples: int = 1, step: float | None = None, orthogonal: bool = False
) -> StepFn:
    """Simultaneous perturbation: all parameters move at once, each by +c or -c, and two values say how fast the value grows.

        g = 1/K sum_k (f(w + c u_k) - f(w - c u_k)) / (2 c) u_k

    Spall, "Multivariate stochastic approximation using a simultaneous perturbation gradient approximation" (1992). It costs
    2 K + 1 values, one of them that which is returned.

    Args:
        objective: Any objective; what cannot be vmapped is evaluated in a loop.
        generator: What is drawn is drawn from it, at each call.
        samples: K, the number of directions.
        step: c. None takes the cube root of the precision of the parameters, which is for parameters of about 1.
        orthogonal: Directions that are orthogonal to each other, and Gaussian but for that, in place of +1 and -1.

    Raises:
        InputError: objective, generator, samples, step or orthogonal is none; (when called) a step that does not move
            every parameter, more orthogonal directions than parameters, or torch.autocast.
    """
    step = None if step is None else check_number("step", step, minimum=TINY)
    return _along("spsa", objective, generator, samples, rademacher, orthogonal, _differences("step", step))


def forward_gradient(
    objective: Objective, generator: Generator, *, samples: int = 1, orthogonal: bool = False, by: str = "jvp"
) -> StepFn:
    """Derivatives along Gaussian directions, by forward mode: no tape, and no pass back.

        g = 1/K sum_k (u_k . gradient) u_k

    Baydin, Pearlmutter, Syme, Wood & Torr, "Gradients without backpropagation" (2022).

    Args:
        objective: Any objective whose operations have a forward mode, or any at all by differences.
        generator: What is drawn is drawn from it, at each call.
        samples: K, the number of directions.
        orthogonal: Directions that are orthogonal to each other.
        by: "jvp", torch.func.jvp, or "differences", two values each as for `spsa`.

    Raises:
        InputError: as `spsa`; another `by`; (when called) an operation that has no forward mode.
    """
    slopes: dict[str, Slopes] = {"jvp": _derivatives, "differences": _differences("step", None)}
    if not isinstance(by, str) or by not in slopes:
        raise InputError("by", describe(by), f"one of {', '.join(slopes)}")
    return _along("forward_gradient", objective, generator, samples, gaussian, orthogonal, slopes[by])


def evolution(
    objective: Objective, generator: Generator, *, samples: int = 1, sigma: float = 0.02, orthogonal: bool = False
) -> StepFn:
    """The gradient of the smoothed value E f(w + sigma u), u Gaussian, by pairs of opposite points.

        g = 1/K sum_k (f(w + sigma u_k) - f(w - sigma u_k)) / (2 sigma) u_k

    It is without bias for that function, which has a gradient where f has steps; the value is that of f. Salimans, Ho, Chen,
    Sidor & Sutskever, "Evolution strategies as a scalable alternative to reinforcement learning" (2017); Nesterov &
    Spokoiny, "Random gradient-free minimization of convex functions" (2017).

    Args:
        objective: Any objective; what cannot be vmapped is evaluated in a loop.
        generator: What is drawn is drawn from it, at each call.
        samples: K, the number of pairs.
        sigma: The width of the smoothing.
        orthogonal: Directions that are orthogonal to each other: these smooth over a sphere of radius sigma sqrt(d).

    Raises:
        InputError: as `spsa`, of sigma in place of step.
    """
    width = check_number("sigma", sigma, minimum=TINY)
    return _along("evolution", objective, generator, samples, gaussian, orthogonal, _differences("sigma", width))


def _along(
    name: str,
    objective: Objective,
    generator: Generator,
    samples: int,
    entries: Entries,
    orthogonal: bool,
    slopes: Slopes,
) -> StepFn:
    """The provider of slopes along directions with such entries."""
    check_objective(objective)
    check_generator(generator)
    samples, orthogonal = check_count("samples", samples), check_flag("orthogonal", orthogonal)
    value = Value(objective.value)
    draw = partial(directions, gaussian if orthogonal else entries)

    def outcomes(at: Place, draws: list[Tensor]) -> list[Tensor]:
        own, _ = tree.parted(draws, at.trained)
        return orthogonalised(own) if orthogonal and any(u.numel() for u in own) else own

    def numbers(at: Place, own: list[Tensor]) -> tuple[Tensor, Tensor]:
        check_autocast()

        def on_leaves(leaves: list[Tensor]) -> Tensor:
            return value.scalar(at.whole(leaves), at.batch)

        if not own:
            center = on_leaves(at.own)
            return center, center.new_zeros(samples)
        return slopes(on_leaves, at, own)

    law = "orthogonal" if orthogonal else entries.__name__
    rule = Drawn(draw, outcomes, numbers, lambda at, own: own, generator, samples, law)
    return StepFn(value, Gradient(rule, name, objective.value))


def _differences(place: str, step: float | None) -> Slopes:
    """Two-sided differences of a half-step."""

    def slopes(f: OnLeaves, at: Place, directions: list[Tensor]) -> tuple[Tensor, Tensor]:
        w = at.own
        if step is None:
            c = max(CENTRAL.step(leaf.dtype) for leaf in w)
        else:
            c = step
            for leaf in w:
                check_moves(place, step, leaf, CENTRAL)

        def slope(*u: Tensor) -> Tensor:
            return (f(kernels.add_scaled(w, c, [*u])) - f(kernels.add_scaled(w, -c, [*u]))) / (2 * c)

        return f(w), of_each(slope, directions, at)

    return slopes


def _derivatives(f: OnLeaves, at: Place, directions: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Forward mode, which has the value on its way."""
    # A dual number takes no leaf of which two entries share their memory; a clone keeps the strides of every other.
    own = tuple(w.clone() for w in at.own)

    def both(*u: Tensor) -> tuple[Tensor, Tensor]:
        value, slope, *_ = torch.func.jvp(lambda *w: f([*w]), own, u)
        return value, slope

    try:
        values, slopes = of_each(both, directions, at)
    except (NotImplementedError, RuntimeError) as error:
        if not re.search("forward AD|forward mode|jvp", str(error)):
            raise
        needs = 'operations with a forward mode; by="differences" needs none'
        raise InputError("objective.value(params, batch)", str(error).splitlines()[0], needs) from error
    return values[0], slopes
