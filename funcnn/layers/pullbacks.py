"""Passes through layers, whatever they are: a rule, a pullback known by its parts, a layer made of layers.

The rules of a layer made of layers are records with a method `through`, which says how numbers come to the layers in it and
leaves to its argument what is to be done there:

    forward.through(run, params, x) -> (y, residuals)                   run(forward, params, x) at each layer
    backward.through(pull, residuals, dy, dx) -> (tree, dx)             pull(backward, residuals, dy, dx) at each layer

So one statement of its chain rule serves whatever a pass back through the network is for:

    gradient    (dparams, dx), the sum over the batch
    parts       (summands, dx), the parameters' part before that sum, for per-sample gradients and their norms
    inputs      ((), dx), where the parameters are frozen: see `frozen`

`dx=False` leaves out the gradient of the inputs where nobody wants it: in training, that of the data.

Who goes back once runs forward by `ran_once`. Then the residuals of a series are a list that the pass back empties, so that
those of each layer are let go of when it has passed it, as a tape does: the memory that the gradients take was theirs.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

from torch import Tensor

from .. import tree
from ..errors import check_pair, of_call
from ..purity import unharmed
from ..types import ForwardRule, Inputs, Params, Pullback, Residuals, Tree
from .factors import ByParts, Summands, totals

Run: TypeAlias = Callable[[Any, Params, Any], tuple[Tensor, Residuals]]  # (forward, params, x) -> (y, residuals)
Pull: TypeAlias = Callable[[Any, Residuals, Tensor, bool], tuple[Tree, Any]]  # (backward, residuals, dy, dx) -> (tree, dx)


def ran(forward: ForwardRule, params: Params, x: Inputs) -> tuple[Tensor, Residuals]:
    """What a forward rule returns. Raises InputError where that is no pair: a tensor of two rows would pass for one."""
    place = "layer.forward(params, x)"
    result: tuple[Tensor, Residuals]
    try:
        result = forward(params, x) if isinstance(forward, tuple) else unharmed(place, forward, params, x)
    except TypeError as error:
        raise of_call(place, error, 2) from None
    if type(result) is not tuple or len(result) != 2:
        check_pair(place, result, "(y, residuals)")
    return result


def ran_once(forward: ForwardRule, params: Params, x: Inputs) -> tuple[Tensor, Residuals]:
    """The same with residuals for one pass back, lists among them, which it empties."""
    if hasattr(forward, "through"):
        passed: tuple[Tensor, Residuals] = forward.through(ran_once, params, x)
        return passed
    return ran(forward, params, x)


def relisted(residuals: Residuals) -> Residuals:
    """The same residuals, in lists of their own."""
    return tree.map(lambda leaf: leaf, residuals)


def pulled(backward: Pullback, residuals: Residuals, dy: Tensor) -> tuple[Params, Any]:
    """(dparams, dx) by any pullback. Raises InputError where it returns no pair."""
    place = "layer.backward(residuals, dy)"
    result: tuple[Params, Any]
    try:
        result = backward(residuals, dy) if isinstance(backward, tuple) else unharmed(place, backward, residuals, dy)
    except TypeError as error:
        raise of_call(place, error, 2) from None
    if type(result) is not tuple or len(result) != 2:
        check_pair(place, result, "(dparams, dx)")
    return result


def gradient(backward: Any, residuals: Residuals, dy: Tensor, dx: bool = True) -> tuple[Params, Any]:
    """(dparams, dx) of any pullback; dx may be () where it is not wanted."""
    if type(backward) is ByParts:
        if backward.whole is not None:
            return backward.whole(residuals, dy, dx)
        return totals(backward.summands(residuals, dy)), backward.inputs(residuals, dy) if dx else ()
    if hasattr(backward, "through"):
        passed: tuple[Params, Any] = backward.through(gradient, residuals, dy, dx)
        return passed
    return pulled(backward, residuals, dy)


def parts(backward: Any, residuals: Residuals, dy: Tensor, dx: bool = True) -> tuple[Summands, Any]:
    """(summands, dx) of a pullback that has summands: see `combine.by_summands`."""
    if hasattr(backward, "through"):
        passed: tuple[Summands, Any] = backward.through(parts, residuals, dy, dx)
        return passed
    return backward.summands(residuals, dy), backward.inputs(residuals, dy) if dx else ()


def inputs(backward: Any, residuals: Residuals, dy: Tensor, dx: bool = True) -> tuple[Tree, Any]:
    """((), dx) of any pullback; () too where dx is not wanted."""
    if not dx:
        return (), ()
    if hasattr(backward, "through"):
        passed: tuple[Tree, Any] = backward.through(inputs, residuals, dy, dx)
        return passed
    return (), backward.inputs(residuals, dy) if type(backward) is ByParts else pulled(backward, residuals, dy)[1]
