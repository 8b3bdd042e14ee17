"""What is asked: is this the gradient of that function, here? And the errors of a question that has no answer."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import tree
from ..errors import InputError, called, check_pair, check_value, describe, is_dense
from ..memory import check_memory
from ..operands import check_undivided
from ..providers.doors import lifted
from ..report import at
from ..types import Batch, Params, StepFn, Tree
from .evidence import Hypothesis
from .formula import Formula
from .mistakes import Prediction
from .sparse import dense

DTYPES = (
    *(torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.complex128, torch.complex64),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
)


class Rows(NamedTuple):
    """The summands of a value: `terms(params)` has shape (N,), `gradients()` are their gradients, with a leading N."""

    terms: Callable[[Params], Tensor]
    gradients: Callable[[], Params]


class Subject(NamedTuple):
    """A provider, the reference (None: differences), the point, and what a diagnosis may use.

    paths        how the leaves of the parameters are written
    counts       what N may be in a hypothesis, and
    each         what one of N is called
    rows         the summands of the value, if the samples of the batch are not
    predictions  surface -> the gradients that known mistakes would give
    formula      (surface, position) -> what the rule is of, for a leaf
    witnesses    who say whether a leaf is wrong: functions of a case
    hypotheses   what may be said of a leaf that is wrong
    root         what the parameters are called
    follows      the reference in the precision of the parameters, where there is one
    """

    claimed: StepFn
    reference: StepFn | None
    params: Params
    batch: Batch
    paths: list[str]
    counts: tuple[int, ...]
    rows: Rows | None
    predictions: Callable[[Any], list[Prediction]]
    formula: Callable[[Any, int], Formula]
    witnesses: Sequence[Callable[[Any], Any]]
    hypotheses: Sequence[Hypothesis]
    root: str = "params"
    follows: StepFn | None = None
    each: str = "sample"

    @property
    def arguments(self) -> str:
        """What the function is called with, as it is written."""
        return "*inputs" if self.root == "inputs" else "params, batch"


def check_tables(witnesses: Any, hypotheses: Any) -> tuple[Any, Any]:
    """Both as they are. Raises InputError unless they are sequences of functions."""
    for place, table, needs in (("witnesses", witnesses, "a case"), ("hypotheses", hypotheses, "the evidence")):
        if not isinstance(table, (tuple, list)) or not all(map(callable, table)):
            raise InputError(place, describe(table), f"a tuple of functions of {needs}")
    return witnesses, hypotheses


def provider(place: str, step_fn: Any) -> StepFn:
    """A StepFn as it is, and one of a plain callable, whose gradients are not looked at: that is what the check does.

    Raises InputError for anything else.
    """
    if isinstance(step_fn, StepFn):
        return lifted(step_fn, place)
    if not callable(step_fn):
        raise InputError(place, describe(step_fn), "a StepFn or a callable (params, batch) -> (value, grads)")

    def value_and_grad(params: Params, batch: Batch) -> Any:
        return called(f"{place}(params, batch)", step_fn, params, batch)

    def value(params: Params, batch: Batch) -> Tensor:
        result = value_and_grad(params, batch)
        check_pair(f"{place}(params, batch)", result, "(value, grads)")
        value_: Tensor = result[0]
        return value_

    return StepFn(value, value_and_grad)


def check_finite(place: str, operands: Tree) -> None:
    """Raises InputError, naming the first entry that is NaN or infinite, and for tensors whose entries cannot be seen."""
    for path, leaf in zip(tree.paths(operands, place), tree.leaves(operands), strict=True):
        check_visible(path, leaf)
        if isinstance(leaf, Tensor):
            check_memory(path, "a mark for each of its entries", leaf.numel(), leaf.device)
        if isinstance(leaf, Tensor) and not leaf.isfinite().all():
            first = tuple((~leaf.isfinite()).nonzero()[0].tolist())
            raise InputError(path, f"{leaf[first]:g} at {at(first)}", "finite numbers")


def check_visible(path: str, leaf: Any) -> None:
    """Raises InputError for a tensor whose entries cannot be seen, or not by one rank."""
    check_undivided(path, leaf)
    if isinstance(leaf, Tensor) and (not is_dense(leaf) or leaf.is_meta or leaf.dtype not in DTYPES):
        found = f"{describe(leaf)}, {leaf.layout} on {leaf.device}"
        raise InputError(path, found, "a dense tensor of float64, float32, bfloat16, float16, integers or booleans")


def gradient_leaves(place: str, result: Any, params: Params) -> tuple[Tensor, list[Tensor]]:
    """The value and the leaves of the gradient. Raises InputError unless these are those of the parameters, path by path."""
    check_pair(f"{place}(params, batch)", result, "(value, grads)")
    value, grads = result
    check_value(f"{place}(params, batch)[0]", value)
    if not tree.same_structure(grads, params):
        found, needed = tree.paths(grads, "grads"), tree.paths(params, "grads")
        missing, more = ([path for path in a if path not in b] for a, b in ((needed, found), (found, needed)))
        path = (*missing, *more, "grads")[0]
        got = "no such leaf" if missing else "a leaf that params has not" if more else "another kind of tree"
        raise InputError(f"{place}: {path}", got, "the tree of the parameters")
    leaves = tree.leaves(grads)
    for index, leaf in enumerate(leaves):
        if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
            raise InputError(f"{place}: {tree.paths(grads, 'grads')[index]}", describe(leaf), "a floating tensor")
    return value, [dense(leaf).detach() for leaf in leaves]
