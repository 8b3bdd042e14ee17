"""Arithmetic on trees of tensors: the vector space in which parameters, gradients and updates live.

Every function goes through optree with `None` as a leaf, so that a forgotten `None` is found and never skipped, and so
that leaves of one tree always pair with the right leaves of another (torch's own pytree orders dicts differently).
"""

from collections.abc import Callable
from numbers import Real
from typing import Any

import optree
import torch
from torch import Tensor

from . import kernels, operands
from .errors import FLOATING, InputError, check_tensor, describe, is_dense
from .memory import check_memory
from .operands import OTHER, check_like, check_params, flattened
from .types import Tree


def map(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """The tree of function(leaf, *other_leaves). Raises InputError where the structures differ."""
    try:
        return optree.tree_map(function, tree, *others, none_is_leaf=True)
    except (*OTHER, TypeError, AttributeError):
        for other in others:
            if not same_structure(tree, other):
                raise InputError("tree.map(function, tree, *others)", _spec(other), f"the tree {_spec(tree)}") from None
        _spec(tree)
        raise


def leaves(tree: Tree) -> list[Any]:
    """The leaves, dict entries in the order of their sorted keys."""
    return operands.flatten("tree", tree)[0]


def flatten(tree: Tree) -> tuple[list[Any], Callable[[list[Any]], Tree]]:
    """The leaves, and the function that builds the tree again from such a list."""
    flat, spec = operands.flatten("tree", tree)
    return flat, spec.unflatten


def ravel(tree: Tree) -> tuple[Tensor, Callable[[Tensor], Tree]]:
    """All entries in one vector (n,), and the function that builds the tree again from such a vector.

    Raises InputError where a leaf is no dense tensor.
    """
    check_tensors(tree)
    xs, unflatten = flatten(tree)
    if len(devices := {str(x.device) for x in xs}) > 1:
        raise InputError("tree", f"tensors on {' and '.join(sorted(devices))}", "all on one device")
    sizes = [x.numel() for x in xs]
    check_memory("tree", "a vector of its entries", sum(x.numel() * x.itemsize for x in xs))

    def unravel(vector: Tensor) -> Tree:
        parts = zip(xs, vector.split(sizes), strict=True)
        return unflatten([part.reshape(x.shape).to(x.dtype) for x, part in parts])

    try:
        return torch.cat([x.flatten() for x in xs]) if xs else torch.zeros(0), unravel
    except RuntimeError:
        found = ", ".join(sorted({str(x.dtype) for x in xs}))
        raise InputError("tree", f"tensors of {found}", "dtypes that go into one vector") from None


def paths(tree: Tree, root: str = "params") -> list[str]:
    """Each leaf's name as code, such as `params[0]['w']`, in the order of `leaves`."""
    return [accessor.codify(root) for accessor in operands.flatten(root, tree)[1].accessors()]


def same_structure(tree: Tree, other: Tree) -> bool:
    """Whether the trees differ in their leaves at most."""
    return bool(_spec(tree) == _spec(other))


def arranged(tree: Tree, like: Tree) -> Tree:
    """The leaves of a tree in the containers of another: a dict's by their keys, whatever its type and order.

    A rule returns plain dicts, and parameters may be OrderedDicts. Raises InputError where the trees differ in more.
    """
    spec = _spec(like)
    try:
        return spec.unflatten(spec.flatten_up_to(tree))
    except OTHER:
        raise InputError("tree.arranged(tree, like)", _spec(tree), f"the tree {spec}") from None


def spread(place: str, prefix: Tree, tree: Tree) -> Tree:
    """The tree whose leaves are those of a prefix: one that stands where the tree has a subtree is that of all its leaves.

    A dict's go by their keys. Raises InputError, naming the prefix by `place`, where it is none.
    """
    found, spec = optree.tree_flatten(prefix, none_is_leaf=True)
    try:
        below = spec.flatten_up_to(tree)
        return arranged(spec.unflatten([map(lambda leaf, x=x: x, sub) for x, sub in zip(found, below, strict=True)]), tree)
    except ValueError:
        raise InputError(place, f"the tree {spec}", f"the tree of params, {_spec(tree)}, or a prefix") from None


def parted(leaves: list[Any], which: list[bool]) -> tuple[list[Any], list[Any]]:
    """Those of which it is so, and the others."""
    pairs = [*zip(leaves, which, strict=True)]
    return [leaf for leaf, own in pairs if own], [leaf for leaf, own in pairs if not own]


def joined(some: list[Any], others: list[Any], which: list[bool]) -> list[Any]:
    """The list that was parted."""
    own, rest = iter(some), iter(others)
    return [next(own if here else rest) for here in which]


def _spec(tree: Tree) -> Any:
    return operands.flatten("tree", tree)[1]


def check_tensors(tree: Tree) -> None:
    """Raises InputError unless every leaf is a dense tensor."""
    for index, leaf in enumerate(leaves(tree)):
        if not is_dense(leaf):
            check_tensor(paths(tree, "tree")[index], leaf)


def zeros_like(tree: Tree) -> Tree:
    """The origin of the space. Raises InputError where a leaf is no dense tensor."""
    check_tensors(tree)
    check_memory("tree", "as many zeros", sum(leaf.numel() * leaf.itemsize for leaf in leaves(tree)))
    return map(torch.zeros_like, tree)


def clone(tree: Tree) -> Tree:
    """A copy that shares no memory with the original; leaves that are no tensors are kept as they are."""
    sizes = (leaf.numel() * leaf.itemsize for leaf in leaves(tree) if is_dense(leaf))
    check_memory("tree", "a copy", sum(sizes))
    return map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, tree)


def add(tree: Tree, other: Tree, place: str = "other") -> Tree:
    """The sum x + y. Raises InputError, naming y by `place`, where structures, shapes or dtypes differ."""
    return add_scaled(tree, 1, other, place)


def add_scaled(tree: Tree, scale: float | Tensor, other: Tree, place: str = "other") -> Tree:
    """The point x + a y. Raises InputError as `add`, and where a is no number."""
    huge = isinstance(scale, int) and abs(scale) >= 2**63
    many = isinstance(scale, Tensor) and scale.ndim > 0
    if not isinstance(scale, (Real, Tensor)) or isinstance(scale, bool) or huge or many:
        raise InputError("scale", describe(scale), "a number")
    xs, ys, unflatten = _aligned(tree, other, place, exactly=True)
    return unflatten(kernels.add_scaled(xs, scale, ys))


def moved(tree: Tree, scale: float, other: Tree) -> Tree:
    """The point x + a y of trees that are known to be alike, as a provider's gradient is like its parameters."""
    xs, spec = flattened(tree)
    return spec.unflatten(kernels.add_scaled(xs, scale, spec.flatten_up_to(other)))


def dot(tree: Tree, other: Tree) -> Tensor:
    """<x, y>, the sum over all leaves, shape (), of different dtypes in the wider one; integers are multiplied as float64.

    Raises InputError where structures or shapes differ.
    """
    xs, ys, _ = _aligned(tree, other)
    products = [(_exact(x) * _exact(y)).sum() for x, y in zip(xs, ys, strict=True)]
    return torch.stack(products).sum() if products else torch.zeros(())


def max_difference(tree: Tree, other: Tree) -> Tensor:
    """The largest |x_i - y_i| over all entries of all leaves, shape (), of different dtypes as in `dot`.

    Raises InputError where structures or shapes differ.
    """
    xs, ys, _ = _aligned(tree, other)
    differences = [(_exact(x) - _exact(y)).abs().max() for x, y in zip(xs, ys, strict=True) if x.numel()]
    return torch.stack(differences).max() if differences else torch.zeros(())


def _exact(x: Tensor) -> Tensor:
    """Small integers wrap around where they are subtracted, and booleans cannot be."""
    return x if x.dtype in FLOATING or x.is_complex() else x.double()


def _aligned(
    tree: Tree, other: Tree, place: str = "other", exactly: bool = False
) -> tuple[list[Tensor], list[Tensor], Callable[[list[Any]], Tree]]:
    """The leaves of two trees, pair by pair, and the function that builds such a tree again: nothing is broadcast."""
    if exactly:
        check_params(tree)
    else:
        check_tensors(tree)
    ys, spec = check_like(place, other, tree, exactly)
    xs = flattened(tree)[0]
    for x, y in zip(xs, ys, strict=True):
        if not is_dense(y) or y.device != x.device:
            raise InputError(place, f"{describe(y)} on {y.device}", f"{describe(x)} on {x.device}, as in the first tree")
    return xs, ys, spec.unflatten
