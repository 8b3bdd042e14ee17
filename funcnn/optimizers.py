"""Optimizers: from gradients to the next parameters.

Two shapes. A `Transformation` turns gradients into updates, which are added to the parameters (the shape of optax and
torchopt). An `Optimizer` chooses the points at which it evaluates, so it is handed the function itself: Nesterov's
method wants the gradient at a point ahead, a line search wants more values. `descend` lifts the first into the second.

The equations use w for the parameters, g for the gradient of the loss at w, and update every leaf alike.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import tree
from .errors import InputError, check_number, check_pair, describe
from .types import Known, Optimizer, Params, State, Step, StepFn, Transformation


def sgd(lr: float) -> Transformation:
    """Gradient descent, w <- w - lr g. No state.

    Raises:
        InputError: lr is below 0 or no finite number.
    """
    check_number("lr", lr)

    def init(params: Params) -> State:
        return ()

    def update(grads: Params, state: State, *, params: Params) -> tuple[Params, State]:
        return tree.map(lambda g: -lr * g, grads), ()

    def move(params: Params, grads: Params, state: State) -> tuple[Params, State]:
        return tree.add_scaled(params, -lr, grads, "grads"), ()

    return Transformation(init, update, Known((init, update), {"move": move}))


def momentum(lr: float, beta: float = 0.9) -> Transformation:
    """Heavy ball (Polyak 1964): v <- beta v - lr g; w <- w + v. The state is the velocity v, 0 at the start.

    Differs from torch.optim.SGD(momentum=beta), whose buffer carries no lr: v here is -lr times it while lr is constant.

    Raises:
        InputError: lr is below 0, or beta outside [0, 1).
    """
    check_number("lr", lr)
    check_number("beta", beta, below=1)

    def update(grads: Params, state: State, *, params: Params) -> tuple[Params, State]:
        v = tree.map(lambda v, g: beta * v - lr * g, state, grads)
        return v, v

    return Transformation(tree.zeros_like, update)


def nesterov(lr: float, beta: float = 0.9) -> Optimizer:
    """Nesterov's accelerated gradient (1983): v <- beta v - lr g(w + beta v); w <- w + v. The state is v.

    The gradient is that at the look-ahead point w + beta v, and so is the reported value. Differs from
    torch.optim.SGD(nesterov=True), whose iterates are these look-ahead points while lr is constant.

    Raises:
        InputError: lr is below 0, or beta outside [0, 1).
    """
    check_number("lr", lr)
    check_number("beta", beta, below=1)

    def step(at: StepFn, params: Params, state: State) -> Step:
        value, grads = at(tree.add_scaled(params, beta, state))
        v = tree.map(lambda v, g: beta * v - lr * g, state, grads)
        return Step(tree.add(params, v), v, value)

    return Optimizer(tree.zeros_like, step)


def rmsprop(lr: float, alpha: float = 0.99, eps: float = 1e-8) -> Transformation:
    """RMSProp (Hinton 2012): s <- alpha s + (1 - alpha) g^2; w <- w - lr g / (sqrt(s) + eps). The state is s.

    The same as torch.optim.RMSprop without momentum, not centred.

    Raises:
        InputError: lr or eps is below 0, or alpha outside [0, 1).
    """
    check_number("lr", lr)
    check_number("alpha", alpha, below=1)
    check_number("eps", eps)

    def update(grads: Params, state: State, *, params: Params) -> tuple[Params, State]:
        s = tree.map(lambda s, g: alpha * s + (1 - alpha) * g * g, state, grads)
        return tree.map(lambda s, g: -lr * g / (s.sqrt() + eps), s, grads), s

    return Transformation(tree.zeros_like, update)


class AdamState(NamedTuple):
    """First and second moments of the gradient, and the number of steps taken."""

    m: Params
    v: Params
    steps: Tensor


def adam(lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> Transformation:
    """Adam (Kingma & Ba 2015), with bias correction at step t = 1, 2, ...

        m <- b1 m + (1 - b1) g          m_hat = m / (1 - b1^t)
        v <- b2 v + (1 - b2) g^2        v_hat = v / (1 - b2^t)
        w <- w - lr m_hat / (sqrt(v_hat) + eps)

    The same as torch.optim.Adam without weight decay.

    Raises:
        InputError: lr or eps is below 0, or one of the betas outside [0, 1).
    """
    check_number("lr", lr)
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise InputError("betas", describe(betas), "a pair of numbers")
    b1, b2 = betas
    check_number("betas[0]", b1, below=1)
    check_number("betas[1]", b2, below=1)
    check_number("eps", eps)

    def init(params: Params) -> AdamState:
        # A float64 tensor: 1 - b2^t keeps its digits, and a vmapped or compiled step sees no Python number change.
        return AdamState(tree.zeros_like(params), tree.zeros_like(params), torch.zeros((), dtype=torch.float64))

    def update(grads: Params, state: AdamState, *, params: Params) -> tuple[Params, AdamState]:
        t = state.steps + 1
        m = tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.m, grads)
        v = tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.v, grads)
        c1, c2 = 1 - b1**t, 1 - b2**t

        def step(m: Tensor, v: Tensor) -> Tensor:
            m_hat, v_hat = m / c1.to(m.dtype), v / c2.to(v.dtype)
            return -lr * m_hat / (v_hat.sqrt() + eps)

        return tree.map(step, m, v), AdamState(m, v, t)

    return Transformation(init, update)


def descend(transformation: Any) -> Optimizer:
    """Lifts a Transformation, ours or any foreign `.init` / `.update` pair such as torchopt's, into an Optimizer.

    The gradient is taken at w, and w <- w + update. Foreign transformations may overwrite what they are given
    (torchopt's do by default), so they are given copies.

    Raises:
        InputError: no `.init` and `.update`; (in a step) updates that do not fit the parameters.
    """
    for name in ("init", "update"):
        if not callable(getattr(transformation, name, None)):
            raise InputError("optimizer_fn", describe(transformation), "an Optimizer, or an object with .init and .update")
    own = transformation if isinstance(transformation, Transformation) else _with_copies(transformation)

    def update_and_add(params: Params, grads: Params, state: State) -> tuple[Params, State]:
        result = own.update(grads, state, params=params)
        check_pair("optimizer_fn.update(grads, state, params=...)", result, "(updates, state)")
        updates, state = result
        return tree.add(params, updates, "updates"), state

    move = own.move or update_and_add

    def step(at: StepFn, params: Params, state: State) -> Step:
        value, grads = at(params)
        params, state = move(params, grads, state)
        return Step(params, state, value)

    return Optimizer(own.init, step)


def _with_copies(foreign: Any) -> Transformation:
    def init(params: Params) -> State:
        return foreign.init(tree.clone(params))

    def update(grads: Params, state: State, *, params: Params) -> tuple[Params, State]:
        result: tuple[Params, State] = foreign.update(tree.clone(grads), tree.clone(state), params=tree.clone(params))
        return result

    return Transformation(init, update)
