"""A pass through a network of which some parameters are frozen: what no trained parameter needs is not computed.

    a frozen layer                               has no dparams, its dx alone
    a layer before which nothing is trained      has no dx: the pass ends there
    a layer of which some are trained            has the totals of their summands alone

Forward, it is seen of each layer what of its parameters is trained, and whether anything that ran before it is; that is kept
beside its residuals. It is what requires_grad does for a tape.
"""

from typing import Any, NamedTuple

import optree
from torch import Tensor

from .. import tree
from ..types import Params, Residuals, Tree
from .factors import ByParts
from .pullbacks import Run, gradient, inputs, ran


class Kept(NamedTuple):
    """The residuals of a layer, whether each of its parameters is trained, a tree, and whether any before them is."""

    residuals: Residuals
    trained: Tree
    moved: bool


def keeping(params: Params, trained: list[bool]) -> Run:
    """What runs each layer of a network of these parameters, and keeps what a pass back needs to know."""
    chosen = {id(leaf) for leaf, own in zip(tree.leaves(params), trained, strict=True) if own}
    moved = False

    def run(forward: Any, own: Params, x: Any) -> tuple[Tensor, Residuals]:
        nonlocal moved
        before, which = moved, tree.map(lambda leaf: id(leaf) in chosen, own)
        few = some(which) and not all(tree.leaves(which))
        y, residuals = forward.through(run, own, x) if few and hasattr(forward, "through") else ran(forward, own, x)
        moved = moved or some(which)
        return y, Kept(residuals, which, before)

    return run


def of_trained(backward: Any, residuals: Residuals, dy: Any, dx: bool = True) -> tuple[Tree, Any]:
    """(dparams, dx) of any pullback, with None in place of gradients that nobody wants, but where they come at once.

    Where the pass has ended dy is (), and nothing looks at it.
    """
    if not isinstance(residuals, Kept):
        return gradient(backward, residuals, dy, dx)
    kept, trained, moved = residuals
    dx = dx and moved
    if not some(trained):
        return tree.map(lambda leaf: None, trained), inputs(backward, kept, dy)[1] if dx else ()
    if all(tree.leaves(trained)):
        return gradient(backward, kept, dy, dx)
    if hasattr(backward, "through"):
        passed: tuple[Tree, Any] = backward.through(of_trained, kept, dy, dx)
        return passed
    kept = _plain(kept)
    if type(backward) is ByParts and backward.whole is None:
        summands = backward.summands(kept, dy)
        grads = tree.map(lambda own, summand: summand.total() if own else None, trained, summands)
        return grads, backward.inputs(kept, dy) if dx else ()
    return gradient(backward, kept, dy, dx)


def some(trained: Tree) -> bool:
    """Whether any of them is."""
    return any(tree.leaves(trained))


def _plain(residuals: Residuals) -> Residuals:
    """The residuals alone, as a pullback expects them that knows nothing of this."""

    def own(x: Any) -> Any:
        return _plain(x.residuals) if isinstance(x, Kept) else x

    return optree.tree_map(own, residuals, is_leaf=lambda x: isinstance(x, Kept), none_is_leaf=True)
