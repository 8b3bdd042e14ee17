"""Arithmetic on trees of tensors: the vector space in which parameters, gradients and updates live.

Every function goes through optree with `None` as a leaf, so that a forgotten `None` is found and never skipped, and so
that leaves of one tree always pair with the right leaves of another (torch's own pytree orders dicts differently).
"""

import builtins
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import optree
import torch
from torch import Tensor

from . import kernels
from .errors import check_like, check_params
from .types import Tree

SHAPE, KIND = attrgetter("shape"), attrgetter("shape", "dtype")


def map(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """The tree of function(leaf, *other_leaves). Raises ValueError where the structures differ."""
    return optree.tree_map(function, tree, *others, none_is_leaf=True)


def leaves(tree: Tree) -> list[Any]:
    """The leaves, dict entries in the order of their sorted keys."""
    return optree.tree_leaves(tree, none_is_leaf=True)


def flatten(tree: Tree) -> tuple[list[Any], Callable[[list[Any]], Tree]]:
    """The leaves, and the function that builds the tree again from such a list."""
    flat, spec = optree.tree_flatten(tree, none_is_leaf=True)
    return flat, spec.unflatten


def ravel(tree: Tree) -> tuple[Tensor, Callable[[Tensor], Tree]]:
    """All entries in one vector (n,), and the function that builds the tree again from such a vector."""
    xs, unflatten = flatten(tree)
    sizes = [x.numel() for x in xs]

    def unravel(vector: Tensor) -> Tree:
        parts = zip(xs, vector.split(sizes), strict=True)
        return unflatten([part.reshape(x.shape).to(x.dtype) for x, part in parts])

    return torch.cat([x.flatten() for x in xs]) if xs else torch.zeros(0), unravel


def paths(tree: Tree, root: str = "params") -> list[str]:
    """Each leaf's name as code, such as `params[0]['w']`, in the order of `leaves`."""
    return [accessor.codify(root) for accessor in optree.tree_accessors(tree, none_is_leaf=True)]


def same_structure(tree: Tree, other: Tree) -> bool:
    """Whether the trees differ in their leaves at most."""
    return bool(optree.tree_structure(tree, none_is_leaf=True) == optree.tree_structure(other, none_is_leaf=True))


def zeros_like(tree: Tree) -> Tree:
    """The origin of the space."""
    return map(torch.zeros_like, tree)


def clone(tree: Tree) -> Tree:
    """A copy that shares no memory with the original; leaves that are no tensors are kept as they are."""
    return map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, tree)


def add(tree: Tree, other: Tree, place: str = "other") -> Tree:
    """The sum x + y. Raises InputError, naming y by `place`, where structures, shapes or dtypes differ."""
    return add_scaled(tree, 1, other, place)


def add_scaled(tree: Tree, scale: float, other: Tree, place: str = "other") -> Tree:
    """The point x + a y. Raises InputError as `add`."""
    xs, ys, unflatten = _aligned(tree, other, place, KIND)
    return unflatten(kernels.add_scaled(xs, scale, ys))


def dot(tree: Tree, other: Tree) -> Tensor:
    """<x, y>, the sum over all leaves, shape (). Raises InputError as `add`."""
    xs, ys, _ = _aligned(tree, other)
    products = [(x * y).sum() for x, y in zip(xs, ys, strict=True)]
    return torch.stack(products).sum() if products else torch.zeros(())


def max_difference(tree: Tree, other: Tree) -> Tensor:
    """The largest |x_i - y_i| over all entries of all leaves, shape (). Raises InputError as `add`."""
    xs, ys, _ = _aligned(tree, other)
    differences = [(x - y).abs().max() for x, y in zip(xs, ys, strict=True) if x.numel()]
    return torch.stack(differences).max() if differences else torch.zeros(())


def _aligned(
    tree: Tree, other: Tree, place: str = "other", kind: Callable[[Tensor], Any] = SHAPE
) -> tuple[list[Tensor], list[Tensor], Callable[[list[Any]], Tree]]:
    """The leaves of two trees, pair by pair, and the function that builds such a tree again: nothing is broadcast."""
    xs, spec = optree.tree_flatten(tree, none_is_leaf=True)
    ys, other_spec = optree.tree_flatten(other, none_is_leaf=True)
    try:
        agree = spec == other_spec and list(builtins.map(kind, xs)) == list(builtins.map(kind, ys))
    except AttributeError:
        agree = False
    if not agree:
        check_params(tree)
        check_like(place, other, tree)
    return xs, ys, spec.unflatten
