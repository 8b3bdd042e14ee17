"""The rule under test, in whatever it is handed to the test in, with a mistake between what it computes and who calls it.

The rule goes on as it is. A wrapper alters the cotangents that go in or the gradients that come out, and stands in a copy of
the Layer or the StepFn, or in a subclass of the Function, that the rule belongs to.
"""

import inspect
import math
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import tree
from ..errors import InputError, describe
from ..report import relative_error
from ..types import Layer, Loss, StepFn, Tree
from .planted import MISTAKES, Call, Mistake, fits

FORMS = "a rule (residuals, dy) -> grads, a torch.autograd.Function itself, a Layer, a Loss or a StepFn"
RECORDED = 32  # calls that are looked at more closely
Function = torch.autograd.Function


class Subject(NamedTuple):
    """The rule under test: its call, the object with another call in it, and where its cotangents and gradients are."""

    call: Callable[..., Any]
    rebuilt: Callable[[Callable[..., Any]], Any]
    pulls: bool = True  # what follows its first argument are cotangents
    valued: bool = False  # it returns (value, grads)
    prefix: bool = True  # a tuple that is too short is for the caller to find, and not for torch


class Plant:
    """The rule with a mistake in it, or without one, and what was seen of its calls in a run of the test."""

    def __init__(self, subject: Subject, mistake: Mistake | None = None) -> None:
        """`rule` is what the test is handed."""
        self.subject, self.mistake = subject, mistake
        self.calls, self.error = 0, 0.0
        self.fitting: set[str] = set()
        self.paths: list[str] = []

        @wraps(subject.call, updated=())
        def rule(*args: Any, **kwargs: Any) -> Any:
            return self.called(*args, **kwargs)

        self.rule = subject.rebuilt(rule)

    def called(self, *args: Any, **kwargs: Any) -> Any:
        """What the rule returns, with the mistake."""
        self.calls += 1
        subject = self.subject
        args, kwargs = _positional(subject.call, args, kwargs)
        first, rest = args[:1], args[1:]
        result = subject.call(*args, **kwargs)
        right = result[1] if subject.valued else result
        given, with_given = _tensors(rest)
        grads, with_grads = _tensors(right)

        pull = partial(self.pulled, first, with_given, kwargs)
        sized = [x for x in (*given, *grads) if x.ndim]
        call = Call(grads, given if subject.pulls else [], pull, self.calls, len(sized[0]) if sized else 1)
        if self.mistake is None:
            if self.calls <= RECORDED:
                left = [mistake for mistake in MISTAKES if mistake.name not in self.fitting]
                self.fitting |= {mistake.name for mistake in left if fits(mistake, call)}
                named = zip(tree.paths(right, "grads"), tree.leaves(right), strict=True)
                self.paths = self.paths or [path for path, leaf in named if _differentiable(leaf)]
            return result
        wrong = self.mistake.plant(call)
        if wrong is None:
            return result
        self.error = max(self.error, _distance(wrong, grads))
        planted = with_grads(wrong)
        if subject.prefix and wrong and wrong[-1] is None:
            planted = _shortened(planted)
        return (result[0], planted) if subject.valued else planted

    def pulled(self, first: Any, with_given: Callable[[list[Any]], Tree], kwargs: Any, others: list[Tensor]) -> list[Tensor]:
        """The gradients of the right rule for other cotangents."""
        return _tensors(self.subject.call(*first, *with_given(others), **kwargs))[0]


def subject_of(backward: Any) -> Subject:
    """The rule and what is around it. Raises InputError for anything else."""
    if isinstance(backward, (Layer, Loss)):
        return Subject(backward.backward, lambda rule: backward._replace(backward=rule), isinstance(backward, Layer))
    if isinstance(backward, StepFn):
        return Subject(backward.value_and_grad, lambda rule: backward._replace(value_and_grad=rule), False, valued=True)
    if isinstance(backward, type) and issubclass(backward, Function):
        named = "vjp" if backward.vjp is not Function.vjp else "backward"
        if getattr(backward, named) is not getattr(Function, named):
            members = {"__doc__": backward.__doc__, "__module__": backward.__module__}
            name, bases = backward.__name__, (backward,)
            call = getattr(backward, named)
            return Subject(call, lambda rule: type(name, bases, {**members, named: staticmethod(rule)}), prefix=False)
    applied = isinstance(getattr(backward, "__self__", None), type(Function))
    if not callable(backward) or isinstance(backward, type) or applied:
        raise InputError("backward", describe(backward), FORMS)
    return Subject(backward, lambda rule: rule)


def _positional(call: Callable[..., Any], args: Any, kwargs: Any) -> tuple[Any, Any]:
    """The arguments by their places, as far as they have one."""
    if not kwargs:
        return args, kwargs
    bound = inspect.signature(call).bind(*args, **kwargs)
    return bound.args, bound.kwargs


def _differentiable(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and (leaf.is_floating_point() or leaf.is_complex())


def _tensors(x: Tree) -> tuple[list[Tensor], Callable[[list[Any]], Tree]]:
    """Those leaves that are tensors of real or complex numbers, and the function that puts others in their place."""
    leaves, unflatten = tree.flatten(x)
    places = [i for i, leaf in enumerate(leaves) if _differentiable(leaf)]
    return [leaves[i] for i in places], lambda others: unflatten(_replaced(leaves, places, others))


def _replaced(leaves: list[Any], places: list[int], others: list[Any]) -> list[Any]:
    new = dict(zip(places, others, strict=True))
    return [new.get(i, leaf) for i, leaf in enumerate(leaves)]


def _distance(wrong: list[Tensor | None], right: list[Tensor]) -> float:
    """The largest relative error of a gradient."""
    try:
        pairs = zip(wrong, right, strict=True)
        return max((math.inf if w is None else relative_error(w.detach(), r.detach()) for w, r in pairs), default=0.0)
    except RuntimeError:
        return math.nan  # under vmap there are no numbers to look at


def _shortened(grads: Tree) -> Tree:
    """Without what is None at the end: a rule that returns too few."""
    while isinstance(grads, (tuple, list)) and len(grads) > 1 and grads[-1] is None:
        grads = grads[:-1]
    return grads
