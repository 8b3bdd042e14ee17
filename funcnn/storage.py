"""`save` and `load`: any tree in one file, with all its bits.

The numbers of the tensors lie in the file by name; what the tree is made of is JSON:

    None, True, "text", 12        themselves
    0.1                           ["float", "0x1.999999999999ap-4"], every bit of it; inf and nan too
    2^100                         ["int", "0x10000000000000000000000000"]
    (a, b) and [a, b]             ["tuple", a, b] and ["list", a, b]
    {1: a, "1": b}                ["dict", [1, a], ["1", b]], in its order; ["OrderedDict", ...] likewise
    AdamState(m=a, ...)           ["record", "AdamState", {"m": a, ...}]
    a tensor                      ["tensor", "tree['w']", {}], the name of its numbers
    a torch.Generator             ["generator", "cpu", "tree['generator']"], the name of its state

Where a tensor is not as usual, the last part says so. {"axes": [1, 0]} are its axes as they lie in memory and in the file,
where it is called `tree['w'].permute(1, 0)`: so a product with it is computed as before and gives the same bits, and nothing
is moved on the way. (In files of format 1 it was {"order": [1, 0]}, and in the file were the numbers of tree['w'].)
{"dtype": "complex128", "shape": [3]} is a dtype for which safetensors has no name, whose numbers are stored as bytes.
"""

import json
import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from . import tree as trees
from .data import Dataset
from .errors import InputError, describe, is_dense
from .history import Divergence, Fit, History
from .memory import check_memory
from .optimizers.averaging import Averaged
from .optimizers.compiling import Scan
from .optimizers.hyperparameters import Scheduled
from .optimizers.quasi_newton import BFGSState
from .optimizers.searches import LineSearchState
from .optimizers.transformations import AdamState
from .safetensors import DTYPES, NAMES, Refused, as_bytes, read, settle, write
from .types import Step, Tree

# The NamedTuples that a file may have in it: those that hold results. Nothing else is made by name.
RECORDS: tuple[type, ...] = (
    Step,
    Scan,
    Fit,
    History,
    Divergence,
    Dataset,
    AdamState,
    Averaged,
    Scheduled,
    BFGSState,
    LineSearchState,
)
DICTS: dict[str, type[dict[Any, Any]]] = {"dict": dict, "OrderedDict": OrderedDict}
NAMELESS = ("complex128", "complex32", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu")
AS_BYTES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in NAMELESS if hasattr(torch, name)}


def save(path: str | os.PathLike[str], tree: Tree) -> None:
    """Keeps a tree in a file, whole or not at all.

    A tree is made of tensors of any dtype, Python's numbers, strings and None, torch.Generators, and tuples, lists, dicts
    and NamedTuples of them: parameters, the state of an optimizer, a History, or a dict of all of these. The file is a
    safetensors file, in which other programs find the tensors under names such as `tree[0]['w']`. A tensor that is there
    twice is written twice.

    Raises:
        InputError: there is anything else in the tree; its place is named.
        OSError: the folder cannot be written, or the disk is full; an earlier file is still as it was.
    """
    where = as_path(path)
    write(where, *contents(tree))
    settle(where)


def load(path: str | os.PathLike[str], *, kinds: Iterable[type] = (), device: torch.device | str = "cpu") -> Tree:
    """The tree in a file that `save` wrote, of the same types and with the same bits.

    Nothing in a file is executed or imported: NamedTuples are those of funcnn, and `kinds`, by name. Tensors are new, and
    belong to the caller.

    Args:
        path: The file.
        kinds: NamedTuples of your own that may be in it, such as the state of an optimizer.
        device: Where the tensors shall be.

    Raises:
        InputError: the file is truncated, altered, foreign or newer, and which of it; or `kinds` lacks one of its types.
        OSError: there is no such file, or it cannot be read.
    """
    where, known = as_path(path), _named(kinds)
    try:
        structure, tensors = read(where)
        tree = _built(json.loads(structure), tensors, known)
    except InputError as error:
        raise error.renamed("kinds", f"load({str(where)!r}, kinds=...)") from None
    except Refused as refused:
        raise InputError(str(where), refused, "a whole file that fn.save wrote") from None
    except (ValueError, KeyError, TypeError, RuntimeError, RecursionError) as error:
        raise InputError(str(where), f"a tree that cannot be built ({error})", "one that fn.save wrote") from None
    if torch.device(device).type == "cpu":
        return tree
    return trees.map(lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, tree)


def contents(tree: Tree) -> tuple[str, dict[str, Tensor]]:
    """What a file of the tree holds: its structure as JSON, and its tensors by name. Raises InputError as `save`."""
    tensors: dict[str, Tensor] = {}
    try:
        return json.dumps(_described(tree, "tree", tensors), separators=(",", ":")), tensors
    except RecursionError:
        needs = "a tree less deep than Python's stack, which does not contain itself"
        raise InputError("tree", "a tree that never ends", needs) from None


def records(tree: Tree) -> set[type]:
    """The NamedTuples that a tree is made of."""
    children = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, (tuple, list)) else ()
    own = {type(tree)} if _is_record(type(tree)) else set()
    return own.union(*map(records, children))


def as_path(path: Any) -> Path:
    """The path of a file. Raises InputError for anything else."""
    if not isinstance(path, (str, os.PathLike)) or isinstance(os.fspath(path), bytes):
        raise InputError("path", describe(path), "a str or a pathlib.Path")
    return Path(path)


def _named(kinds: Any) -> dict[str, Any]:
    """NamedTuples by name, ours among them."""
    named: dict[str, Any] = {kind.__name__: kind for kind in RECORDS}
    for kind in kinds if isinstance(kinds, Iterable) else [kinds]:
        if not _is_record(kind):
            raise InputError("kinds", describe(kind), "NamedTuples, the classes themselves")
        if named.setdefault(kind.__name__, kind) is not kind:
            raise InputError("kinds", f"two of the name {kind.__name__}", "one of each name")
    return named


def _is_record(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields")


def _described(node: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """A tree as JSON, whose tensors are gathered by name. Raises InputError where there is anything else in it."""

    def part(child: Any, name: str) -> Any:
        return _described(child, path + name, tensors)

    kind = type(node)
    if node is None or kind is bool or kind is str or (kind is int and abs(node) < 2**63):
        return node
    if kind is int:
        return ["int", hex(node)]
    if kind is float:
        return ["float", node.hex()]
    if isinstance(node, Tensor):
        plain, unusual = _plain(node, path)
        name = f"{path}.permute({', '.join(map(str, unusual['axes']))})" if "axes" in unusual else path
        tensors[name] = plain
        return ["tensor", name, unusual]
    if kind is Generator:
        tensors[path] = node.get_state()
        return ["generator", str(node.device), path]
    if kind is tuple or kind is list:
        return [kind.__name__, *(part(child, f"[{index}]") for index, child in enumerate(node))]
    if kind is dict or kind is OrderedDict:
        for key in node:
            if type(key) not in (str, int, bool):
                raise InputError(path, f"the key {key!r:.60}", "keys that are strings or integers")
        return [kind.__name__, *([part(key, ".keys()"), part(child, f"[{key!r}]")] for key, child in node.items())]
    if _is_record(kind):
        if any(kind.__name__ == ours.__name__ and kind is not ours for ours in RECORDS):
            raise InputError(path, f"a {kind.__name__} other than funcnn's", "a NamedTuple with a name of its own")
        return ["record", kind.__name__, {field: part(getattr(node, field), f".{field}") for field in kind._fields}]
    needs = "tensors, numbers, strings, None, generators, and tuples, lists, dicts and NamedTuples of them"
    raise InputError(path, describe(node), needs)


def _plain(x: Tensor, path: str) -> tuple[Tensor, dict[str, Any]]:
    """The numbers of a tensor in a row and in a dtype that safetensors has, and what is unusual about it."""
    if not is_dense(x) or x.is_meta or type(x) not in (Tensor, torch.nn.Parameter):
        raise InputError(path, describe(x) if type(x) is Tensor else f"a {type(x).__name__}", "a plain, dense tensor")
    x = x.detach()
    unusual: dict[str, Any] = {}
    if not x.is_contiguous():
        axes = sorted(range(x.ndim), key=x.stride, reverse=True)
        if x.permute(axes).is_contiguous():
            x, unusual["axes"] = x.permute(axes), axes
        else:
            check_memory(path, "its numbers, one by one,", x.numel() * x.itemsize)
    plain = x.cpu().resolve_conj().resolve_neg().contiguous()
    if x.dtype not in DTYPES:
        unusual |= {"dtype": str(x.dtype).removeprefix("torch."), "shape": list(x.shape)}
        if unusual["dtype"] not in AS_BYTES:
            raise InputError(path, describe(x), f"a dtype among {', '.join([*NAMES, *AS_BYTES])}")
        plain = as_bytes(plain)
    return plain, unusual


def _built(node: Any, tensors: dict[str, Tensor], kinds: Mapping[str, Any]) -> Tree:
    """The tree that JSON describes, each of the tensors taken out of the dict.

    Raises:
        InputError: a NamedTuple that is none of `kinds`, or has other fields.
        ValueError, KeyError, TypeError, RuntimeError: it describes none.
    """

    def build(part: Any) -> Any:
        return _built(part, tensors, kinds)

    match node:
        case None | bool() | int() | str():
            return node
        case ["int", str(digits)]:
            return int(digits, 16)
        case ["float", str(digits)]:
            return float.fromhex(digits)
        case ["tuple", *parts]:
            return tuple(map(build, parts))
        case ["list", *parts]:
            return list(map(build, parts))
        case ["dict" | "OrderedDict" as kind, *items]:
            return DICTS[kind]((build(key), build(part)) for key, part in items)
        case ["record", str(name), dict(fields)]:
            return _record(name, {field: build(part) for field, part in fields.items()}, kinds)
        case ["tensor", str(name), dict(unusual)]:
            return _tensor(tensors.pop(name), **unusual)
        case ["generator", str(device), str(name)]:
            return torch.Generator(device).set_state(tensors.pop(name))
    raise ValueError(f"{node!r:.60}")


def _record(name: str, fields: dict[str, Any], kinds: Mapping[str, Any]) -> Any:
    if name not in kinds:
        raise InputError("kinds", f"no {name}", f"the NamedTuple of that name, with the fields {', '.join(fields)}")
    kind = kinds[name]
    if not set(kind._fields) - set(kind._field_defaults) <= set(fields) <= set(kind._fields):
        raise InputError("kinds", f"a {name} of {', '.join(kind._fields)}", f"one with the fields {', '.join(fields)}")
    return kind(**fields)


def _tensor(
    x: Tensor,
    dtype: str | None = None,
    shape: list[int] | None = None,
    axes: list[int] | None = None,
    order: list[int] | None = None,
) -> Tensor:
    if dtype is not None and shape is not None:
        x = x.view(AS_BYTES[dtype]).reshape(shape)
    if order is not None:
        axes, x = order, x.permute(order).contiguous()
    return x if axes is None else x.permute([axes.index(axis) for axis in range(len(axes))])
