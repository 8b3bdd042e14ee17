"""The vocabulary: every abstraction of funcnn is a NamedTuple of pure functions.

One idea runs through all of them: *a gradient is an argument*. An `Objective` says what is minimised; a `StepFn` is an
objective together with one way to differentiate it; the optimizers and the loop see only the `StepFn`, so hand-derived
rules, `torch.func.grad`, classic autograd and finite differences can be swapped for one another anywhere.

The legend of every shape: N samples in a batch, D features in, H features out, C classes.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from torch import Generator, Tensor, device, dtype

Tree: TypeAlias = Any  # nested dict / tuple / NamedTuple; Python cannot yet say this and keep `params["w"]` typed
Params: TypeAlias = Tree  # leaves are floating tensors; () where there are none, never None
Residuals: TypeAlias = Tree  # what forward keeps for backward: leaves are tensors
State: TypeAlias = Tree  # what an optimizer remembers between steps
Batch: TypeAlias = Tree  # every leaf has the same leading axis N; supervised learning: (inputs, targets)


class Init(Protocol):
    """Draws the initial parameters of a layer."""

    def __call__(self, generator: Generator, *, dtype: dtype | None = None, device: device | str | None = None) -> Params:
        """The same generator state gives the same bits."""


class Update(Protocol):
    """Turns gradients into updates, to be added to the parameters."""

    def __call__(self, grads: Params, state: State, *, params: Params) -> tuple[Params, State]:
        """Neither the gradients nor the state are changed."""


class Known(NamedTuple):
    """Facts about certain functions, for algorithms that know a shorter way with them: for speed and never for meaning.

    They are kept with the very functions they are about. Who replaces a function (`layer._replace(backward=mine)`) gets
    no shortcut that belongs to another.
    """

    of: tuple[Callable[..., Any] | None, ...]
    facts: dict[str, Any]

    def get(self, name: str, of: tuple[Callable[..., Any] | None, ...]) -> Any:
        """The fact of that name, or None if there is none about these functions."""
        return self.facts.get(name) if self.of == of else None


NOTHING = Known((), {})


class Layer(NamedTuple):
    """A pure function of (params, x), and its hand-derived pullback."""

    init: Init
    forward: Callable[[Params, Tensor], tuple[Tensor, Residuals]]
    backward: Callable[[Residuals, Tensor], tuple[Params, Tensor]]
    known: Known = NOTHING

    @property
    def backward_params(self) -> Callable[[Residuals, Tensor], Params] | None:
        """`backward` without dx, for the first layer of a network: nobody trains the data."""
        rule: Callable[[Residuals, Tensor], Params] | None = self.known.get("backward_params", (self.forward, self.backward))
        return rule

    @property
    def structure(self) -> "Structure":
        """What is known of the layer.

        "dense" (y = x w + b with these parameters), "elementwise" (y_ij = f(x_ij), no parameters), the tuple of layers
        that a `serial` runs one after the other, or None: nothing.
        """
        structure: Structure = self.known.get("structure", (self.forward, self.backward))
        return structure


Structure: TypeAlias = Literal["dense", "elementwise"] | tuple[Layer, ...] | None


class Loss(NamedTuple):
    """The same pair, ending in a scalar: the mean over the batch."""

    forward: Callable[[Tensor, Tensor], tuple[Tensor, Residuals]]
    backward: Callable[[Residuals], Tensor]
    known: Known = NOTHING

    @property
    def terms(self) -> Callable[[Tensor, Tensor], tuple[Tensor, Residuals]] | None:
        """`forward` before the mean: (outputs, targets) -> (values (N,), residuals)."""
        rule: Callable[[Tensor, Tensor], tuple[Tensor, Residuals]] | None
        rule = self.known.get("terms", (self.forward, self.backward))
        return rule

    @property
    def slopes(self) -> Callable[[Residuals], Tensor] | None:
        """`backward` before the mean: residuals -> doutputs, whose row n is what sample n alone would give."""
        rule: Callable[[Residuals], Tensor] | None = self.known.get("slopes", (self.forward, self.backward))
        return rule


class Objective(NamedTuple):
    """What is minimised, and its hand-derived gradient where there is one."""

    value: Callable[[Params, Batch], Tensor]
    value_and_grad: Callable[[Params, Batch], tuple[Tensor, Params]] | None = None
    known: Known = NOTHING

    @property
    def parts(self) -> tuple[Layer, Loss] | None:
        """The layer and the loss that a `supervised` one was made of."""
        parts: tuple[Layer, Loss] | None = self.known.get("parts", (self.value, self.value_and_grad))
        return parts


class StepFn(NamedTuple):
    """A gradient provider bound to an objective; calling it is `value_and_grad`.

    `value` stands apart so that a line search never pays for a gradient. An optimizer receives the same pair with the
    batch already bound: functions of the parameters alone.
    """

    value: Callable[..., Tensor]
    value_and_grad: Callable[..., tuple[Tensor, Params]]
    known: Known = NOTHING

    def __call__(self, *arguments: Tree) -> tuple[Tensor, Params]:
        """(params, batch) -> (value, grads)."""
        return self.value_and_grad(*arguments)

    @property
    def objective(self) -> Objective | None:
        """What a provider of this library differentiates."""
        objective: Objective | None = self.known.get("objective", (self.value, self.value_and_grad))
        return objective

    @property
    def per_sample(self) -> Callable[..., tuple[Tensor, Params]] | None:
        """What vmapping `value_and_grad` over batches of one would give: values (N,) and gradients with a leading N."""
        rule: Callable[..., tuple[Tensor, Params]] | None = self.known.get("per_sample", (self.value, self.value_and_grad))
        return rule


class Step(NamedTuple):
    """What one step leaves behind: `params` and `state` persist, `value` is what is reported."""

    params: Params
    state: State
    value: Tensor


class Transformation(NamedTuple):
    """Gradients to updates: the shape of optax and torchopt."""

    init: Callable[[Params], State]
    update: Update
    known: Known = NOTHING

    @property
    def move(self) -> Callable[[Params, Params, State], tuple[Params, State]] | None:
        """`update` and the addition to the parameters in one pass: (params, grads, state) -> (params, state)."""
        rule: Callable[[Params, Params, State], tuple[Params, State]] | None = self.known.get(
            "move", (self.init, self.update)
        )
        return rule


class Optimizer(NamedTuple):
    """Chooses the points at which it evaluates, so it is handed the function itself: step(at, params, state)."""

    init: Callable[[Params], State]
    step: Callable[[StepFn, Params, State], Step]
