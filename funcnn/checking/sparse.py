"""Sparse gradients, as of an embedding of which few rows are used: compared as what they stand for, in their dense form."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from torch import Tensor

from .. import tree
from ..errors import is_dense
from ..objectives import Backpropagated
from ..providers.doors import behind_door
from ..report import Finding
from ..types import Batch, Params, StepFn

SHOWN = 8  # rows that are listed by number


def dense(x: Any) -> Any:
    """A sparse tensor with its zeros, and with the sum where it has several entries in a place; all else as it is."""
    return x if not isinstance(x, Tensor) or is_dense(x) or x.is_nested else x.to_dense()


def densely(step_fn: StepFn) -> StepFn:
    """The same, with dense gradients, as those that are backpropagated by rules are."""
    if isinstance(behind_door(step_fn.value_and_grad), Backpropagated):
        return step_fn

    def value_and_grad(params: Params, batch: Batch) -> tuple[Tensor, Params]:
        value, grads = step_fn(params, batch)
        return value, tree.map(dense, grads)

    return StepFn(step_fn.value, value_and_grad)


def stored(paths: Iterable[str], grads: Iterable[Any]) -> dict[str, str]:
    """Which rows each gradient that is sparse has entries in, by the path of its leaf."""
    pairs = zip(paths, grads, strict=True)
    return {path: _rows(grad) for path, grad in pairs if isinstance(grad, Tensor) and dense(grad) is not grad}


def with_places(leaves: dict[str, Finding], places: dict[str, str]) -> dict[str, Finding]:
    """The findings; those of wrong leaves with the places in which the gradient has entries."""
    told = {path: leaf for path, leaf in leaves.items() if path in places and leaf.verdict == "wrong"}
    return leaves | {path: replace(leaf, diagnosis=f"{leaf.diagnosis}; {places[path]}") for path, leaf in told.items()}


def _rows(grad: Tensor) -> str:
    rows = grad.to_sparse_coo().coalesce().indices()[0].unique().tolist()
    listed = ", ".join(map(str, rows[:SHOWN])) + (", ..." if len(rows) > SHOWN else "")
    return f"it is sparse, with entries in {len(rows)} of {len(grad)} rows" + (f": {listed}" if rows else "")
