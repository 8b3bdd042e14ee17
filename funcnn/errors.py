"""Bad input: one exception that says where, what was found and what is needed, and the checks that raise it.

The checks look at shapes, dtypes and types, never at values, so they cost about a microsecond, work under every
torch.func transform and never make an accelerator wait. The one check of values, `in_unit_interval`, says what it does
where values cannot be seen.
"""

import math
from typing import Any

import optree
import torch
from torch import Tensor

from .types import Batch, Params, Tree


class InputError(ValueError, TypeError):
    """Bad input. `place` is written as code, such as `params[0]['w']`."""

    def __init__(self, place: str, got: object, needs: str) -> None:
        """Keeps the three parts, so that a caller who knows more can name the place better."""
        super().__init__(f"{place}: got {got}, needs {needs}")
        self.place, self.got, self.needs = place, got, needs

    def inside(self, index: int) -> "InputError":
        """The same error seen from a container: `params['w']` of its layer 0 is `params[0]['w']`."""
        return InputError(self.place.replace("params", f"params[{index}]", 1), self.got, self.needs)


def describe(x: object) -> str:
    """What was found, in the words of an error message."""
    if isinstance(x, Tensor):
        return f"shape {tuple(x.shape)} of {str(x.dtype).removeprefix('torch.')}"
    return repr(x) if x is None or isinstance(x, (str, int, float)) else f"a {type(x).__name__}"


def check_number(place: str, x: Any, minimum: float = 0.0, below: float = math.inf) -> None:
    """Raises InputError unless minimum <= x < below (so never for NaN or infinity)."""
    if isinstance(x, (bool, str)) or not isinstance(x, (int, float)) or not minimum <= x < below:
        end = "" if below == math.inf else f" and below {below:g}"
        raise InputError(place, describe(x), f"a number of at least {minimum:g}{end}")


def check_count(place: str, x: Any) -> None:
    """Raises InputError unless x is a positive integer."""
    if isinstance(x, bool) or not isinstance(x, int) or x < 1:
        raise InputError(place, describe(x), "a positive integer")


def check_seed(seed: Any) -> None:
    """Raises InputError unless a torch.Generator takes it for a seed."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise InputError("seed", describe(seed), "an integer from 0 to 2^63 - 1")


def check_generator(generator: Any) -> None:
    """Raises InputError unless it is a torch.Generator."""
    if not isinstance(generator, torch.Generator):
        raise InputError("generator", describe(generator), "a torch.Generator")


def check_dtype(dtype: Any) -> None:
    """Raises InputError unless it is a floating dtype, or None for torch's default."""
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise InputError("dtype", dtype, "a floating dtype such as torch.float64")


def check_pair(place: str, result: Any, needs: str) -> None:
    """Raises InputError unless what a user's function returned is a tuple of two."""
    if not isinstance(result, tuple) or len(result) != 2:
        got = f"a tuple of {len(result)}" if isinstance(result, tuple) else describe(result)
        raise InputError(place, got, needs)


def check_same_shape(place: str, x: Tensor, like: Tensor) -> None:
    """Raises InputError unless the shapes are equal: broadcasting would give a wrong number in silence."""
    if not isinstance(x, Tensor) or x.shape != like.shape:
        raise InputError(place, describe(x), f"shape {tuple(like.shape)}")


def check_value(place: str, value: Any) -> None:
    """Raises InputError unless a loss is a scalar tensor."""
    if not isinstance(value, Tensor) or value.ndim or not value.is_floating_point():
        raise InputError(place, describe(value), "a scalar of shape (), in a floating tensor")


def check_params(params: Params) -> None:
    """Raises InputError unless every leaf is a floating tensor."""
    for index, leaf in enumerate(optree.tree_leaves(params, none_is_leaf=True)):
        if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
            place = optree.tree_accessors(params, none_is_leaf=True)[index].codify("params")
            raise InputError(place, describe(leaf), "a floating tensor")


def check_batch(batch: Batch) -> None:
    """Raises InputError unless every leaf is a tensor and all have the same leading axis of at least 1."""
    leaves = optree.tree_leaves(batch, none_is_leaf=True)
    for index, leaf in enumerate(leaves):
        if not isinstance(leaf, Tensor) or leaf.ndim == 0 or leaf.shape[0] == 0 or leaf.shape[0] != leaves[0].shape[0]:
            place = optree.tree_accessors(batch, none_is_leaf=True)[index].codify("batch")
            samples = "at least one sample" if index == 0 else f"the {leaves[0].shape[0]} samples of the first leaf"
            raise InputError(place, describe(leaf), f"a tensor with {samples} along its leading axis")


def check_like(place: str, tree: Tree, params: Params) -> None:
    """Raises InputError unless tree has the structure, the shapes and the dtypes of params."""
    leaves, spec = optree.tree_flatten(tree, none_is_leaf=True)
    originals, needed = optree.tree_flatten(params, none_is_leaf=True)
    if spec != needed:
        raise InputError(place, f"the tree {spec}", f"the tree of params, {needed}")
    for index, (leaf, original) in enumerate(zip(leaves, originals, strict=True)):
        if not isinstance(leaf, Tensor) or leaf.shape != original.shape or leaf.dtype != original.dtype:
            accessor = optree.tree_accessors(params, none_is_leaf=True)[index]
            raise InputError(accessor.codify(place), describe(leaf), f"{describe(original)}, as the parameter")


def in_unit_interval(place: str, x: Tensor) -> Tensor:
    """x, if all of it lies in [0, 1]; otherwise raises InputError.

    Under vmap no value can be looked at: there the entries outside become NaN, which no one takes for a number. Complex
    entries have no order; a complex step looks at the real ones first.
    """
    if x.is_complex():
        return x
    try:
        smallest, largest = torch.aminmax(x)
        inside = 0 <= smallest and largest <= 1
    except RuntimeError:
        return torch.where((x >= 0) & (x <= 1), x, torch.nan)
    if not inside:
        raise InputError(place, f"values from {smallest:g} to {largest:g}", "values from 0 to 1")
    return x
