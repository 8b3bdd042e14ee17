"""Trees of operands as they come in at a door: parameters, batches, and trees that must be like the parameters.

As those of `errors`, these checks look at no value. A right tree is recognised by what is the same in all its leaves, in a
microsecond or two; only of a wrong one is it asked which leaf it is.
"""

from collections.abc import Callable, Iterator
from functools import reduce
from numbers import Number
from operator import attrgetter, getitem, itemgetter
from typing import Any

import optree
import torch
from torch import Tensor

from .errors import FLOATING, InputError, check_autocast, check_tensor, describe, is_dense, is_floating

SHAPE, DTYPE, LAYOUT, NESTED = map(attrgetter, ("shape", "dtype", "layout", "is_nested"))
STRIDED = frozenset({torch.strided})
VALUES = (str, bytes, Number)  # what a batch may have beside its tensors
TENSORS = frozenset({Tensor, torch.nn.Parameter})
OTHER = (ValueError, RecursionError)  # what optree raises of another tree; the second of one that it cannot print


def flatten(place: str, tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> tuple[list[Any], Any]:
    """(leaves, structure) of any tree, None a leaf. Raises InputError where it has no end."""
    try:
        return optree.tree_flatten(tree, is_leaf, none_is_leaf=True)
    except RecursionError:
        raise InputError(place, "a tree that holds itself, or is a thousand levels deep", "a tree of tensors") from None


class Flattening:
    """The leaves of a tree and its structure, as optree gives them.

    Most trees are like one of the last two, and with its structure at hand the leaves are found sooner. Then optree takes a
    dict of any type and order for one of the same keys, and what the tree has below a leaf for a leaf; and where it finds
    something else, its error prints all tensors of that. So it is looked at first that the containers are the same, and
    then that all leaves are tensors; else the tree is flattened anew.
    """

    def __init__(self, place: str) -> None:
        """There was none yet; `place` is what messages call the tree."""
        self.place = place
        self.known: list[tuple[Any, list[tuple[Callable[[Any], Any], type, Any]]]] = []  # a structure, and its containers

    def __call__(self, tree: Any) -> tuple[list[Any], Any]:
        """(leaves, structure)."""
        for spec, containers in self.known:
            try:
                if all(type(found := find(tree)) is kind and _inside(found) == inside for find, kind, inside in containers):
                    leaves: list[Any] = spec.flatten_up_to(tree)
                    if TENSORS.issuperset(map(type, leaves)):
                        return leaves, spec
            except (*OTHER, LookupError, TypeError):
                pass
        leaves, spec = flatten(self.place, tree)
        finders = [_getter(path) for path in _containers(spec, ())]
        containers = [(find, type(find(tree)), _inside(find(tree))) for find in finders]
        self.known = [(spec, containers), *self.known[:1]]
        return leaves, spec


def _inside(container: Any) -> Any:
    """The keys of a dict in their order, and how much anything else holds."""
    return [*container] if isinstance(container, dict) else len(container)


def _containers(spec: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """The paths of the containers of a tree, the outer before the inner."""
    if not spec.is_leaf():
        yield path
    for entry, child in zip(spec.entries(), spec.children(), strict=True):
        yield from _containers(child, (*path, entry))


def _getter(path: tuple[Any, ...]) -> Callable[[Any], Any]:
    return itemgetter(path[0]) if len(path) == 1 else lambda tree: reduce(getitem, path, tree)


flattened, of_batch = Flattening("params"), Flattening("batch")


def check_params(params: Any) -> list[Any]:
    """The leaves. Raises InputError unless every one is a dense floating tensor."""
    leaves, _ = flattened(params)
    try:
        dense = STRIDED.issuperset(map(LAYOUT, leaves)) and not any(map(NESTED, leaves))
        if dense and FLOATING.issuperset(map(DTYPE, leaves)):
            return leaves
    except (AttributeError, RuntimeError):
        pass  # no tensor
    leaves, _ = flatten("params", params)
    for index, leaf in enumerate(leaves):
        if not is_floating(leaf):
            raise InputError(_path(params, index, "params"), describe(leaf), "a floating tensor")
    return leaves


def is_column(x: Any) -> bool:
    """Whether it is a list or a tuple of strings and numbers alone: see `batches`."""
    return type(x) in (list, tuple) and len(x) > 0 and all(isinstance(entry, VALUES) for entry in x)


def check_batch(batch: Any, place: str = "batch") -> list[Any]:
    """The tensors. Raises InputError unless they have the same leading axis of at least 1, and so have all columns.

    Strings and numbers by themselves may stand beside tensors.
    """
    leaves, _ = of_batch(batch)
    try:
        counts = {size[0] for size in map(SHAPE, leaves)}
        if len(counts) == 1 and 0 not in counts and STRIDED.issuperset(map(LAYOUT, leaves)):
            return leaves
    except (AttributeError, RuntimeError, IndexError, TypeError):
        pass  # no tensor, a nested one, which has no shape, one without axes, or a type
    parts, spec = flatten(place, batch, is_column)
    tensors = [part for part in parts if isinstance(part, Tensor)]
    count = tensors[0].shape[0] if tensors and is_dense(tensors[0]) and tensors[0].ndim else 0
    for index, part in enumerate(parts):
        known = tensors and isinstance(part, VALUES)
        column = is_column(part) and len(part) == count
        if known or column or (is_dense(part) and part.ndim and part.shape[0] == count > 0):
            continue
        at, first = str(spec.accessors()[index].codify(place)), not tensors or part is tensors[0]
        samples = "at least one sample" if first else f"the {count} samples of the first tensor"
        if is_column(part) and tensors:
            raise InputError(at, f"a {type(part).__name__} of {len(part)}", f"an entry for each of {samples}")
        beside = "" if isinstance(part, Tensor) or not tensors else ", or a string or a number"
        raise InputError(at, describe(part), f"a tensor with {samples} along its leading axis{beside}")
    return tensors


def check_samples(x: Any, place: str) -> None:
    """As `check_batch`, where there is nothing but tensors. Raises InputError."""
    check_batch(x, place)
    for index, leaf in enumerate(flatten(place, x)[0]):
        check_tensor(_path(x, index, place), leaf)


def check_undivided(place: str, leaf: Any) -> None:
    """Raises InputError for a tensor whose entries lie on several ranks, as those of a DTensor do."""
    if hasattr(leaf, "full_tensor"):
        raise InputError(place, f"a {type(leaf).__name__}, whose entries lie on several ranks", "its full_tensor()")


def check_like(place: str, tree: Any, params: Any, exactly: bool = True) -> tuple[list[Any], Any]:
    """The leaves of a tree beside those of params, and the structure of params; a dict's go by their keys.

    Raises InputError unless the structures and the shapes agree and, `exactly`, the dtypes.
    """
    kinds = (SHAPE, DTYPE) if exactly else (SHAPE,)
    originals, spec = flattened(params)
    try:
        leaves: list[Any] = spec.flatten_up_to(tree)
        if all(list(map(kind, leaves)) == list(map(kind, originals)) for kind in kinds):
            return leaves, spec
    except (*OTHER, AttributeError, RuntimeError):
        pass  # another structure; no tensor, or a nested one, which has no shape
    leaves, found = flatten(place, tree)
    originals, spec = flatten("params", params)
    if found.paths() == spec.paths():
        for index, (leaf, original) in enumerate(zip(leaves, originals, strict=True)):
            if not is_dense(leaf) or any(kind(leaf) != kind(original) for kind in kinds):
                check_autocast()
                raise InputError(_path(params, index, place), describe(leaf), f"{describe(original)}, as the parameter")
    raise InputError(place, f"the tree {found}", f"the tree of params, {spec}")


def _path(tree: Any, index: int, root: str) -> str:
    return str(flatten(root, tree)[1].accessors()[index].codify(root))
