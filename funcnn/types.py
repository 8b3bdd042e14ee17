"""The vocabulary: every abstraction of funcnn is a NamedTuple of pure functions.

One idea runs through all of them: *a gradient is an argument*. An `Objective` says what is minimised; a `StepFn` is an
objective together with one way to differentiate it; the optimizers and the loop see only the `StepFn`, so hand-derived
rules, `torch.func.grad`, classic autograd and finite differences can be swapped for one another anywhere.

A function may know more of itself than what it computes: how to do without a part of it, or what changes when one number
moves. Such a function is a *callable record*, a NamedTuple with `__call__`, and whoever replaces the function replaces what
was known of it. A plain function says nothing, and everything works with it: slower, never different.

The legend of every shape: N samples in a batch, T tokens, D features in, H features out, C classes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

import torch
from torch import Generator, Tensor, device, dtype

from .errors import check_pair
from .purity import unharmed

Tree: TypeAlias = Any  # nested dict / tuple / NamedTuple; Python cannot yet say this and keep `params["w"]` typed
Params: TypeAlias = Tree  # leaves are floating tensors; () where there are none, never None
Inputs: TypeAlias = Tree  # a tensor whose leading axis is N; a pair of it and seeds where a network drops
Residuals: TypeAlias = Tree  # what forward keeps for backward: leaves are tensors
State: TypeAlias = Tree  # what an optimizer remembers between steps
Batch: TypeAlias = Tree  # tensors of the same leading axis N, and what `batches` lists; supervised: (inputs, targets)

A = TypeVar("A", contravariant=True)
B = TypeVar("B", contravariant=True)
R = TypeVar("R", covariant=True)
Record = TypeVar("Record", bound=type)


def loadable(record: Record) -> Record:
    """The same NamedTuple of results, which torch.load then takes as it takes a tuple.

    By default torch.load builds no class that it was not told of, so that a file runs nothing of its own. Nothing runs where
    a NamedTuple is built. Torch keeps what it was told for the whole process: a price, but a smaller one than that of states
    that are no records, or of a list that everybody must hand over who loads one.
    """
    torch.serialization.add_safe_globals([record])
    return record


def name(function: Callable[..., Any]) -> str:
    """What a function is called: a record prints itself, and a function made in another is called after that one."""
    if isinstance(function, tuple):
        try:
            return repr(function)
        except RecursionError:
            return f"a {type(function).__name__} without end"
    maker, inside, _ = getattr(function, "__qualname__", repr(function)).rpartition(".<locals>.")
    return f"{maker}(...)" if inside else getattr(function, "__qualname__", repr(function))


@runtime_checkable
class Init(Protocol):
    """Draws the initial parameters of a layer."""

    def __call__(self, generator: Generator, *, dtype: dtype | None = None, device: device | str | None = None) -> Params:
        """The same generator state gives the same bits."""


@runtime_checkable
class Rule(Protocol[A, B, R]):
    """A function of two arguments, or a record that can be called as one."""

    def __call__(self, first: A, second: B, /) -> R:
        """The result; nothing that it is given is changed."""


@runtime_checkable
class LossPullback(Protocol):
    """The gradient that a loss sends back, residuals -> doutputs."""

    def __call__(self, residuals: Residuals, /) -> Tensor:
        """The gradient of the mean over the batch."""


@runtime_checkable
class Update(Protocol):
    """Turns gradients into updates, to be added to the parameters."""

    def __call__(self, grads: Params, state: State, /, params: Params) -> tuple[Params, State]:
        """Neither the gradients nor the state are changed."""


ForwardRule: TypeAlias = Rule[Params, Inputs, tuple[Tensor, Residuals]]  # (params, x) -> (y, residuals)
Pullback: TypeAlias = Rule[Residuals, Tensor, tuple[Params, Tensor]]  # (residuals, dy) -> (dparams, dx)
LossRule: TypeAlias = Rule[Tensor, Tensor, tuple[Tensor, Residuals]]  # (outputs, targets) -> (value, residuals)
ValueFn: TypeAlias = Rule[Params, Batch, Tensor]  # (params, batch) -> scalar
GradientFn: TypeAlias = Rule[Params, Batch, tuple[Tensor, Params]]  # (params, batch) -> (scalar, grads)


class Layer(NamedTuple):
    """A pure function of (params, x), and its hand-derived pullback."""

    init: Init
    forward: ForwardRule
    backward: Pullback

    def __call__(self, params: Params, x: Inputs) -> Tensor:
        """The output y alone."""
        result = unharmed("layer.forward(params, x)", self.forward, params, x)
        check_pair("forward(params, x)", result, "(y, residuals)")
        y: Tensor = result[0]
        return y

    def __repr__(self) -> str:
        """What made it, such as dense(64, 32), as long as both of its rules are of that."""
        forward, backward = name(self.forward), name(self.backward)
        return forward if forward == backward else f"Layer(forward={forward}, backward={backward})"


class Loss(NamedTuple):
    """The same pair, ending in a scalar: the mean over the batch."""

    forward: LossRule
    backward: LossPullback

    def __repr__(self) -> str:
        """What made it, as of a Layer."""
        forward, backward = name(self.forward), name(self.backward)
        return forward if forward == backward else f"Loss(forward={forward}, backward={backward})"


class Objective(NamedTuple):
    """What is minimised, and its hand-derived gradient where there is one."""

    value: ValueFn
    value_and_grad: GradientFn | None = None


class StepFn(NamedTuple):
    """A gradient provider bound to an objective; calling it is `value_and_grad`.

    `value` stands apart so that a line search never pays for a gradient.
    """

    value: ValueFn
    value_and_grad: GradientFn

    def __call__(self, params: Params, batch: Batch) -> tuple[Tensor, Params]:
        """(params, batch) -> (value, grads)."""
        result: tuple[Tensor, Params] = unharmed("step_fn.value_and_grad(params, batch)", self.value_and_grad, params, batch)
        return result

    def __repr__(self) -> str:
        """The provider and what it differentiates, where the gradient says so."""
        return name(self.value_and_grad)


class At(NamedTuple):
    """A step function at one batch, a function of the parameters alone: what an optimizer is handed."""

    step_fn: StepFn
    batch: Batch

    def value(self, params: Params) -> Tensor:
        """The value alone."""
        return self.step_fn.value(params, self.batch)

    def value_and_grad(self, params: Params) -> tuple[Tensor, Params]:
        """The value and its gradient."""
        return self.step_fn.value_and_grad(params, self.batch)

    def __call__(self, params: Params) -> tuple[Tensor, Params]:
        """Params -> (value, grads)."""
        return self.step_fn.value_and_grad(params, self.batch)

    def __repr__(self) -> str:
        """The step function, and the shapes of the batch in place of its numbers."""
        shapes = _shapes(self.batch)
        return f"At({self.step_fn!r}, batch={shapes})"


def _shapes(batch: Batch) -> str:
    if isinstance(batch, Tensor):
        return f"{tuple(batch.shape)}"
    if isinstance(batch, dict):
        return f"{{{', '.join(f'{key!r}: {_shapes(part)}' for key, part in batch.items())}}}"
    return f"({', '.join(map(_shapes, batch))})" if isinstance(batch, (tuple, list)) else repr(batch)


@loadable
class Step(NamedTuple):
    """What one step leaves behind: `params` and `state` persist, `value` is what is reported."""

    params: Params
    state: State
    value: Tensor


class Transformation(NamedTuple):
    """Gradients to updates: the shape of optax and torchopt."""

    init: Callable[[Params], State]
    update: Update


class Optimizer(NamedTuple):
    """Chooses the points at which it evaluates, so it is handed the function itself: step(at, params, state)."""

    init: Callable[[Params], State]
    step: Callable[[At, Params, State], Step]
