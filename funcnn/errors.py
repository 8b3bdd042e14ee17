"""Bad input: one exception that says where, what was found and what is needed, and the checks that raise it.

The checks of this module look at shapes, dtypes and types, never at values, so they cost about a microsecond, work under
every torch.func transform and never make an accelerator wait.
"""

import math
from collections.abc import Callable, Iterator
from functools import reduce
from numbers import Integral, Number, Real
from operator import attrgetter, getitem, itemgetter
from typing import Any

import numpy as np
import optree
import torch
from torch import Tensor

FLOATING = frozenset({torch.float64, torch.float32, torch.bfloat16, torch.float16})
SHAPE, DTYPE, LAYOUT, NESTED = map(attrgetter, ("shape", "dtype", "layout", "is_nested"))
STRIDED = frozenset({torch.strided})
VALUES = (str, bytes, Number)  # what a batch may have beside its tensors
TENSORS = frozenset({Tensor, torch.nn.Parameter})
OTHER = (ValueError, RecursionError)  # what optree raises of another tree; the second of one that it cannot print
COMPLEX = frozenset({torch.complex128, torch.complex64})  # what a complex step carries through the same rules


class InputError(ValueError):
    """Bad input. `place` is written as code, such as `params[0]['w']`."""

    def __init__(self, place: str, got: object, needs: str) -> None:
        """Keeps the three parts, so that a caller who knows more can name the place better."""
        try:
            super().__init__(f"{place}: got {got}, needs {needs}")
        except RecursionError:  # it holds itself, or is a thousand levels deep
            got = f"a {type(got).__name__} without end"
            super().__init__(f"{place}: got {got}, needs {needs}")
        self.place, self.got, self.needs = place, got, needs

    def __reduce__(self) -> tuple[Any, ...]:
        """The same error in another process."""
        return type(self), (self.place, self.got, self.needs)

    def inside(self, index: int) -> "InputError":
        """The same error seen from a container: `params['w']` of its layer 0 is `params[0]['w']`."""
        return self.renamed("params", f"params[{index}]")

    def renamed(self, old: str, new: str) -> "InputError":
        """The same error where what it calls old is called new, in its place and in the place that it compares with."""
        needs = self.needs.replace(f"as {old}", f"as {new}", 1)
        return InputError(self.place.replace(old, new, 1), self.got, needs)


def describe(x: object) -> str:
    """What was found, in the words of an error message."""
    if isinstance(x, Tensor):
        dtype = str(x.dtype).removeprefix("torch.")
        if x.layout != torch.strided or x.is_nested or x.is_quantized:
            kind = "nested" if x.is_nested else "quantized" if x.is_quantized else str(x.layout).removeprefix("torch.")
            return f"a {kind} tensor of {dtype}"
        return f"shape {tuple(x.shape)} of {dtype}"
    shown = repr(x) if x is None or isinstance(x, (str, int, float)) else ""
    return shown if 0 < len(shown) < 60 else f"a {type(x).__name__}"


def check_number(place: str, x: Any, minimum: float = 0.0, below: float = math.inf) -> float:
    """The number x as a float. Raises InputError unless minimum <= x < below (so for NaN and infinity)."""
    try:
        number = math.nan if isinstance(x, bool) or not isinstance(x, Real) else float(x)
    except OverflowError:
        number = math.inf
    if not minimum <= number < below:
        end = "" if below == math.inf else f" and below {below:g}"
        raise InputError(place, describe(x), f"a number of at least {minimum:g}{end}")
    return number


def check_count(place: str, x: Any) -> int:
    """The number x as an int. Raises InputError unless it is a positive integer that torch can count to."""
    if isinstance(x, bool) or not isinstance(x, Integral) or not 0 < int(x) < 2**63:
        raise InputError(place, describe(x), "a positive integer")
    return int(x)


def check_seed(seed: Any) -> int:
    """The seed as an int. Raises InputError unless a torch.Generator takes it for a seed."""
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= int(seed) < 2**63:
        raise InputError("seed", describe(seed), "an integer from 0 to 2^63 - 1")
    return int(seed)


def check_generator(generator: Any) -> None:
    """Raises InputError unless it is a torch.Generator."""
    if not isinstance(generator, torch.Generator):
        raise InputError("generator", describe(generator), "a torch.Generator")


def check_dtype(dtype: Any) -> None:
    """Raises InputError unless it is a floating dtype that torch computes with, or None for torch's default."""
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype in FLOATING):
        raise InputError("dtype", dtype, "a floating dtype such as torch.float64")


def check_autocast() -> None:
    """Raises InputError under torch.autocast, where products have another dtype than their operands."""
    for kind in ("cpu", "cuda", "xpu", "mps"):
        if torch.is_autocast_enabled(kind):
            found = f"{str(torch.get_autocast_dtype(kind)).removeprefix('torch.')} on {kind}"
            needs = (
                f"none, since all is in the dtype of the parameters: cast these, or use autocast('{kind}', enabled=False)"
            )
            raise InputError("torch.autocast", found, needs)


def check_device(device: Any) -> None:
    """Raises InputError unless torch knows it for a device, or it is None."""
    try:
        if device is not None and not isinstance(device, torch.device):
            torch.device(device)
    except (TypeError, RuntimeError, ValueError, OverflowError):
        raise InputError("device", describe(device), 'a torch.device, or the name of one such as "cpu"') from None


def check_flag(place: str, x: Any) -> bool:
    """Raises InputError unless it is True or False."""
    if not isinstance(x, (bool, np.bool_)):
        raise InputError(place, describe(x), "True or False")
    return bool(x)


def check_pair(place: str, result: Any, needs: str) -> None:
    """Raises InputError unless what a function returned is a tuple of two."""
    if not isinstance(result, tuple) or len(result) != 2:
        got = f"a tuple of {len(result)}" if isinstance(result, tuple) else describe(result)
        raise InputError(place, got, needs)


def is_dense(x: Any) -> bool:
    """Whether it is a tensor whose numbers lie in memory one by one: not sparse, nested or quantized."""
    return isinstance(x, Tensor) and x.layout is torch.strided and not x.is_quantized and not x.is_nested


def is_floating(x: Any) -> bool:
    """Whether it is a dense tensor of real numbers that can have a gradient."""
    return is_dense(x) and x.dtype in FLOATING


def check_tensor(place: str, x: Any) -> None:
    """Raises InputError unless x is a dense tensor."""
    if not is_dense(x):
        raise InputError(place, describe(x), "a dense tensor")


def check_same_shape(place: str, x: Tensor, like: Tensor) -> None:
    """Raises InputError unless the shapes are equal: broadcasting would give a wrong number in silence."""
    if not is_dense(x) or x.shape != like.shape:
        raise InputError(place, describe(x), f"shape {tuple(like.shape)}")


def check_value(place: str, value: Any) -> None:
    """Raises InputError unless a loss is a scalar tensor."""
    if not isinstance(value, Tensor) or value.ndim or value.dtype not in FLOATING:
        raise InputError(place, describe(value), "a scalar of shape (), in a floating tensor")


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


def called(place: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of the user's returns. Raises InputError if it does not take so many arguments."""
    try:
        return function(*arguments)
    except (TypeError, ValueError) as error:
        raise of_call(place, error, len(arguments)) from None


def of_call(place: str, error: Exception, count: int) -> Exception:
    """The error as it is, or an InputError where the call itself failed: then its traceback has no frame of the function."""
    if error.__traceback__ is None or error.__traceback__.tb_next is not None:
        return error
    return InputError(place, error, f"a function of {count} argument{'' if count == 1 else 's'}")


def _path(tree: Any, index: int, root: str) -> str:
    return str(flatten(root, tree)[1].accessors()[index].codify(root))
