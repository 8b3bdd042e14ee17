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


class Layer(NamedTuple):
    """A pure function of (params, x), and its hand-derived pullback.

    Two more things a layer may offer, for speed and never for meaning:

    - `backward_params` is `backward` without dx, for the first layer of a network: nobody trains the data.
    - `structure` is what an algorithm may know of it: "dense" (y = x w + b with these parameters), "elementwise"
      (y_ij = f(x_ij), no parameters), or the tuple of layers that a `serial` runs one after the other.
    """

    init: Init
    forward: Callable[[Params, Tensor], tuple[Tensor, Residuals]]
    backward: Callable[[Residuals, Tensor], tuple[Params, Tensor]]
    backward_params: Callable[[Residuals, Tensor], Params] | None = None
    structure: "Structure" = None


Structure: TypeAlias = Literal["dense", "elementwise"] | tuple[Layer, ...] | None


class Loss(NamedTuple):
    """The same pair, ending in a scalar: the mean over the batch.

    `per_sample`, where there is one, is both at once for N batches of one, for speed and never for meaning:
    (outputs, targets) -> (values (N,), doutputs), where row n is what sample n alone would give. `terms`, likewise, is
    the values (N,) alone, whose mean is the value: for algorithms that subtract two values and lose least before the mean.
    """

    forward: Callable[[Tensor, Tensor], tuple[Tensor, Residuals]]
    backward: Callable[[Residuals], Tensor]
    per_sample: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    terms: Callable[[Tensor, Tensor], Tensor] | None = None


class Objective(NamedTuple):
    """What is minimised, and its hand-derived gradient where there is one.

    `parts` are the layer and the loss of a `supervised` one, for algorithms that know a shorter way for these.
    """

    value: Callable[[Params, Batch], Tensor]
    value_and_grad: Callable[[Params, Batch], tuple[Tensor, Params]] | None = None
    parts: tuple[Layer, Loss] | None = None


class StepFn(NamedTuple):
    """A gradient provider bound to an objective; calling it is `value_and_grad`.

    `value` stands apart so that a line search never pays for a gradient. An optimizer receives the same pair with the
    batch already bound: functions of the parameters alone. `per_sample`, where there is one, gives what vmapping
    `value_and_grad` over batches of one would, in less time: values (N,) and gradients with a leading N.
    """

    value: Callable[..., Tensor]
    value_and_grad: Callable[..., tuple[Tensor, Params]]
    per_sample: Callable[..., tuple[Tensor, Params]] | None = None

    def __call__(self, *arguments: Tree) -> tuple[Tensor, Params]:
        """(params, batch) -> (value, grads)."""
        return self.value_and_grad(*arguments)


class Step(NamedTuple):
    """What one step leaves behind: `params` and `state` persist, `value` is what is reported."""

    params: Params
    state: State
    value: Tensor


class Transformation(NamedTuple):
    """Gradients to updates: the shape of optax and torchopt.

    `move`, where there is one, is `update` and the addition to the parameters in one pass, for speed and never for
    meaning: (params, grads, state) -> (params, state).
    """

    init: Callable[[Params], State]
    update: Update
    move: Callable[[Params, Params, State], tuple[Params, State]] | None = None


class Optimizer(NamedTuple):
    """Chooses the points at which it evaluates, so it is handed the function itself: step(at, params, state)."""

    init: Callable[[Params], State]
    step: Callable[[StepFn, Params, State], Step]
