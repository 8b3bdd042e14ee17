"""Transformations: updates made of gradients, to be added to the parameters."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import tree
from ..errors import InputError, describe
from ..operands import check_like, check_params
from ..types import Params, State, Transformation, loadable
from .descent import Moving
from .hyperparameters import Hyperparameter, least, number, scheduled


@scheduled
def sgd(lr: Hyperparameter) -> Transformation:
    """Gradient descent, w <- w - lr g. No state.

    Raises:
        InputError: lr is below 0 or no finite number.
    """
    lr = number("lr", lr)

    def init(params: Params) -> State:
        return ()

    def update(grads: Params, state: State = (), params: Params | None = None) -> tuple[Params, State]:
        check_params(grads)
        check_like("grads", grads, grads if params is None else params)
        return tree.map(lambda g: -lr * g, grads), ()

    def move(params: Params, grads: Params, state: State) -> tuple[Params, State]:
        return tree.moved(params, -lr, grads), ()

    return Transformation(init, Moving(update, move))


@scheduled
def momentum(lr: Hyperparameter, beta: Hyperparameter = 0.9) -> Transformation:
    """Heavy ball (Polyak 1964): v <- beta v - lr g; w <- w + v. The state is the velocity v, 0 at the start.

    Differs from torch.optim.SGD(momentum=beta), whose buffer carries no lr: v here is -lr times it while lr is constant.

    Raises:
        InputError: lr is below 0, or beta outside [0, 1).
    """
    lr, beta = number("lr", lr), number("beta", beta, below=1)

    def update(grads: Params, state: State, params: Params | None = None) -> tuple[Params, State]:
        check_like("grads", grads, state)
        v = tree.map(lambda v, g: beta * v - lr * g, state, grads)
        return v, v

    return Transformation(tree.zeros_like, update)


@scheduled
def rmsprop(lr: Hyperparameter, alpha: Hyperparameter = 0.99, eps: Hyperparameter = 1e-8) -> Transformation:
    """RMSProp (Hinton 2012): s <- alpha s + (1 - alpha) g^2; w <- w - lr g / (sqrt(s) + eps). The state is s.

    The same as torch.optim.RMSprop without momentum, not centred.

    Raises:
        InputError: lr or eps is below 0, or alpha outside [0, 1).
    """
    lr, alpha, eps = number("lr", lr), number("alpha", alpha, below=1), number("eps", eps)

    def update(grads: Params, state: State, params: Params | None = None) -> tuple[Params, State]:
        check_like("grads", grads, state)
        s = tree.map(lambda s, g: alpha * s + (1 - alpha) * g * g, state, grads)
        return tree.map(lambda s, g: -lr * g / (s.sqrt() + least(eps, s)), s, grads), s

    return Transformation(tree.zeros_like, update)


@loadable
class AdamState(NamedTuple):
    """First and second moments of the gradient, and the number of steps taken."""

    m: Params
    v: Params
    steps: Tensor


@scheduled
def adam(
    lr: Hyperparameter, betas: tuple[Hyperparameter, Hyperparameter] = (0.9, 0.999), eps: Hyperparameter = 1e-8
) -> Transformation:
    """Adam (Kingma & Ba 2015), with bias correction at step t = 1, 2, ...

        m <- b1 m + (1 - b1) g          m_hat = m / (1 - b1^t)
        v <- b2 v + (1 - b2) g^2        v_hat = v / (1 - b2^t)
        w <- w - lr m_hat / (sqrt(v_hat) + eps)

    The same as torch.optim.Adam without weight decay.

    Raises:
        InputError: lr or eps is below 0, or one of the betas outside [0, 1).
    """
    lr, eps = number("lr", lr), number("eps", eps)
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise InputError("betas", describe(betas), "a pair of numbers")
    b1, b2 = (number(f"betas[{index}]", beta, below=1) for index, beta in enumerate(betas))

    def init(params: Params) -> AdamState:
        # A float64 tensor: 1 - b2^t keeps its digits, and a vmapped or compiled step sees no Python number change.
        return AdamState(
            tree.zeros_like(params), tree.zeros_like(params), torch.zeros((), dtype=torch.float64, device="cpu")
        )

    def update(grads: Params, state: AdamState, params: Params | None = None) -> tuple[Params, AdamState]:
        check_like("grads", grads, state.m)
        t = state.steps + 1
        m = tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.m, grads)
        v = tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.v, grads)
        c1, c2 = 1 - b1**t, 1 - b2**t

        def step(m: Tensor, v: Tensor) -> Tensor:
            m_hat, v_hat = m / c1.to(m.dtype), v / c2.to(v.dtype)
            updates: Tensor = -lr * m_hat / (v_hat.sqrt() + least(eps, v))
            return updates

        return tree.map(step, m, v), AdamState(m, v, t)

    return Transformation(init, update)


@scheduled
def adamw(
    lr: Hyperparameter,
    betas: tuple[Hyperparameter, Hyperparameter] = (0.9, 0.999),
    eps: Hyperparameter = 1e-8,
    weight_decay: Any = 1e-2,
) -> Transformation:
    """Adam with decoupled decay d (Loshchilov & Hutter 2019, arXiv:1711.05101).

        w <- (1 - lr d) w - lr m_hat / (sqrt(v_hat) + eps)

    with the moments of `adam`, which are its state. The same as torch.optim.AdamW, where groups of parameters have decays of
    their own: here weight_decay may be a tree of numbers like the parameters, or a prefix of it, such as
    `fn.tree.map(lambda w: 0.1 if w.ndim > 1 else 0.0, params)`.

    Raises:
        InputError: as `adam`; a decay below 0; (in a step) no parameters, or decays that are no tree like theirs.
    """
    moments = adam(lr, betas, eps)
    lr, (rates, unflatten) = number("lr", lr), tree.flatten(weight_decay)
    places = tree.paths(weight_decay, "weight_decay")
    decay = unflatten([number(place, rate) for place, rate in zip(places, rates, strict=True)])

    def update(grads: Params, state: AdamState, params: Params | None = None) -> tuple[Params, AdamState]:
        if params is None:
            raise InputError("params", "None", "the parameters, for it is they that decay")
        check_like("params", params, state.m)
        updates, state = moments.update(grads, state, params=params)
        each = tree.spread("weight_decay", decay, params)
        return tree.map(lambda u, w, d: u - lr * d * w, updates, params, each), state

    def move(params: Params, grads: Params, state: AdamState) -> tuple[Params, AdamState]:
        updates, state = moments.update(grads, state, params=params)
        each = tree.spread("weight_decay", decay, params)
        return tree.map(lambda u, w, d: (1 - lr * d) * w + u, updates, params, each), state

    return Transformation(moments.init, Moving(update, move))
