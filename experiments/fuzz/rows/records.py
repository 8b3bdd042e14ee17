"""Arithmetic on trees, and the records that calls are made of, each beside what it stands for."""

from collections import OrderedDict
from typing import Any

import torch
from torch import Generator, Tensor

import funcnn as fn
from experiments.fuzz.agreement import Untold
from experiments.fuzz.case import Call
from experiments.fuzz.formulas import leaves, of_leaves, plain
from experiments.fuzz.rows.networks import normal


def tree(g: Generator) -> Any:
    """A tree with every kind of container."""
    return {"b": normal(g, 3), "a": (normal(g, 2, 2), ()), "c": {"w": normal(g, 1)}}


UNCHECKED = ("moved", "spread", "parted", "joined", "check_tensors")  # of trees that were looked at; and what looks at them


def two(g: Generator) -> Any:
    """Two of a kind."""
    return tree(g), tree(g)


def larger(x: Tensor, y: Tensor) -> Tensor:
    """A function of the user's."""
    return torch.maximum(x, y)


def _product(x: Tensor, y: Tensor) -> Tensor:
    x, y = (one if one.dtype in (torch.float32, torch.float16, torch.bfloat16) else one.double() for one in (x, y))
    return (x * y).sum()


def _distance(x: Tensor, y: Tensor) -> Tensor:
    x, y = (one if one.dtype in (torch.float32, torch.float16, torch.bfloat16) else one.double() for one in (x, y))
    return (x - y).abs().max()


def together(function: Any, alike: bool = True) -> Any:
    """What a function of the leaves makes of trees that are alike, or of one structure."""

    def truth(*trees: Any) -> Any:
        if not alike and any(
            isinstance(leaf, Tensor) and leaf.layout is not torch.strided for one in trees for leaf in everything(one)
        ):
            raise Untold
        flat = [leaves(plain(one)) for one in trees]
        for other in flat[1:]:
            if alike and [x.shape for x in other] != [x.shape for x in flat[0]]:
                raise TypeError("trees that differ")
        if any(
            of_leaves(plain(one), list(flat[0])).__repr__() != of_leaves(plain(trees[0]), list(flat[0])).__repr__()
            for one in trees
        ):
            raise TypeError("containers that differ")
        return of_leaves(plain(trees[0]), [function(*parts) for parts in zip(*flat, strict=True)])

    return truth


def entries(x: Any) -> Tensor:
    """All numbers in one vector."""
    return torch.cat([torch.zeros(0), *(plain(leaf).flatten() for leaf in everything(x))])


def _summed(summands: Any, weights: Tensor) -> Any:
    with torch.no_grad():
        return summands.total(), summands.each(), summands.norms(torch.float64), summands.weighted(weights)


def _summed_truth(each: Tensor, weights: Tensor) -> Any:
    if weights.shape != each.shape[:1]:
        raise TypeError("other weights")
    spread = weights.to(each.dtype).reshape(-1, *[1] * (each.ndim - 1)) * each
    return each.sum(0), each, each.double().flatten(1).norm(dim=1), spread.sum(0)


FEATURES = 0, 2


def _copies(change: Tensor, scale: Tensor, y: Tensor) -> Tensor:
    return fn.Column(torch.tensor(FEATURES), change, scale).copies(y)


def _copies_truth(change: Tensor, scale: Tensor, y: Tensor) -> Tensor:
    change, scale, base = plain(change), plain(scale), plain(y)
    found = (scale[:, :, None] * base).clone()
    for version, where in enumerate(FEATURES):
        found[version, :, where] += change[version]
    return found


def _by_parts_truth(summands: Any, inputs: Any, x: Tensor, dy: Tensor) -> Any:
    return {"w": plain(x).T @ plain(dy)}, 2 * plain(dy)


def _by_parts(summands: Any, inputs: Any, x: Tensor, dy: Tensor) -> Any:
    return fn.ByParts(summands, inputs)(x, dy)


def _report(error: float, verdict: str) -> Any:
    report = fn.Report({"params": fn.Finding(verdict, error)})
    return report.ok, bool(report), isinstance(str(report), str)


def _error(place: Any, got: Any, needs: Any) -> Any:
    return str(fn.InputError(place, got, needs))


def everything(x: Any) -> list[Any]:
    """The leaves of any tree, whatever they are."""
    if isinstance(x, dict):
        keys = list(x) if isinstance(x, OrderedDict) else sorted(x, key=lambda key: (type(key).__name__, key))
        return [leaf for key in keys for leaf in everything(x[key])]
    return [leaf for part in x for leaf in everything(part)] if isinstance(x, (tuple, list)) else [x]


def shape(x: Any) -> Any:
    """The containers of a tree."""
    if isinstance(x, dict):
        return type(x), [(key, shape(x[key])) for key in sorted(x, key=str)]
    return (type(x), [shape(part) for part in x]) if isinstance(x, (tuple, list)) else "leaf"


def _history(losses: Tensor, ends: Any) -> Any:
    history = fn.History(losses, ends, {})
    return history.losses, history.epoch_ends


def _arranged(x: Any, like: Any) -> Any:
    if isinstance(like, dict):
        if set(x) != set(like):
            raise TypeError("other keys")
        keys = list(like) if isinstance(like, OrderedDict) else sorted(like)
        return [leaf for key in keys for leaf in _arranged(x[key], like[key])]
    if isinstance(like, (tuple, list)):
        return [leaf for a, b in zip(x, like, strict=True) for leaf in _arranged(a, b)]
    return everything(x)


def _shapes(axes: int) -> Any:
    return lambda g: (normal(g, 5, *[3] * axes, 4), normal(g, 5, *[3] * axes, 2), normal(g, 5))


def _products(x: Tensor, dy: Tensor, c: Tensor) -> Any:
    x, dy = plain(x), plain(dy)
    if x.shape[:-1] != dy.shape[:-1] or x.ndim < 2 or x.dtype != dy.dtype:
        raise TypeError("other shapes")
    return _summed_truth(
        (x[..., None] * dy[..., None, :]).flatten(1, -3).sum(1) if x.ndim > 2 else x[..., None] * dy[:, None], plain(c)
    )


ROWS = {
    "tree.map": Call(two, lambda x, y: fn.tree.map(larger, x, y), together(larger, False)),
    "tree.add": Call(two, fn.tree.add, together(torch.add)),
    "tree.add_scaled": Call(
        lambda g: (*two(g), 0.5),
        lambda x, y, scale: fn.tree.add_scaled(x, scale, y),
        lambda x, y, scale: together(lambda a, b: a + scale * b)(x, y),
    ),
    "tree.zeros_like": Call(
        lambda g: (tree(g),), fn.tree.zeros_like, together(lambda a: torch.zeros(a.shape, dtype=a.dtype))
    ),
    "tree.clone": Call(lambda g: (tree(g),), lambda x: fn.tree.leaves(fn.tree.clone(x)), everything),
    "tree.dot": Call(two, fn.tree.dot, lambda x, y: sum(leaves(together(_product)(x, y)))),
    "tree.max_difference": Call(
        two, fn.tree.max_difference, lambda x, y: torch.stack(leaves(together(_distance)(x, y))).max()
    ),
    "tree.leaves": Call(lambda g: (tree(g),), fn.tree.leaves, everything),
    "tree.flatten": Call(lambda g: (tree(g),), lambda x: fn.tree.flatten(x)[0], everything),
    "tree.paths": Call(lambda g: (tree(g),), lambda x: len(fn.tree.paths(x)), lambda x: len(everything(x))),
    "tree.ravel": Call(lambda g: (tree(g),), lambda x: fn.tree.ravel(x)[0], entries),
    "tree.same_structure": Call(two, fn.tree.same_structure, lambda x, y: shape(x) == shape(y)),
    "tree.arranged": Call(two, lambda x, y: fn.tree.leaves(fn.tree.arranged(x, y)), _arranged, own=(ValueError,)),
    "Outer": Call(_shapes(0), lambda x, dy, c: _summed(fn.Outer(x, dy), c), _products, spreads=True, bare=True),
    "Outer, of tokens": Call(_shapes(1), lambda x, dy, c: _summed(fn.Outer(x, dy), c), _products, spreads=True, bare=True),
    "Rows": Call(
        lambda g: (normal(g, 5, 4), normal(g, 5)),
        lambda rows, c: _summed(fn.Rows(rows), c),
        lambda rows, c: _summed_truth(plain(rows), plain(c)),
        spreads=True,
        bare=True,
    ),
    "Column": Call(
        lambda g: (normal(g, 2, 5), normal(g, 2, 5), normal(g, 5, 3)),
        _copies,
        _copies_truth,
        bare=True,
    ),
    "Forward": Call(
        lambda g: (lambda params, x: (x * params["w"], x), {"w": normal(g, 3)}, normal(g, 5, 3)),
        lambda f, params, x: fn.Layer(lambda generator: {}, fn.Forward(f, True), lambda r, dy: (r, dy))(params, x),
        lambda f, params, x: plain(x) * plain(params)["w"],
        bare=True,
    ),
    "ByParts": Call(
        lambda g: (lambda x, dy: {"w": fn.Outer(x, dy)}, lambda x, dy: 2 * dy, normal(g, 5, 3), normal(g, 5, 2)),
        _by_parts,
        _by_parts_truth,
        bare=True,
    ),
    "Cause": Call(
        lambda g: ("sign",), lambda name: str(fn.Cause(name)), lambda name: {"sign": "sign", "": ""}[name], own=(ValueError,)
    ),
    "Finding": Call(lambda g: (0.1, "wrong"), _report, lambda error, verdict: (verdict in ("ok", "kink"),) * 2 + (True,)),
    "Report": Call(lambda g: (0.1, "ok"), _report, lambda error, verdict: (verdict in ("ok", "kink"),) * 2 + (True,)),
    "InputError": Call(lambda g: ("x", "y", "z"), _error, lambda place, got, needs: f"{place}: got {got}, needs {needs}"),
    "Divergence": Call(lambda g: (3, "value", 2.0), lambda *parts: tuple(fn.Divergence(*parts)), lambda *parts: parts),
    "History": Call(lambda g: (normal(g, 4), [2, 4]), _history, lambda losses, ends: (losses, ends)),
    "progress": Call(
        lambda g: ([3, 1, 2], 3), lambda items, total: list(fn.progress(items, total)), lambda items, total: list(items)
    ),
}
