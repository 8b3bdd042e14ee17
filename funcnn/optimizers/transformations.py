"""Transformations: updates made of gradients, to be added to the parameters; and `descend`, which takes the step."""

from collections.abc import Callable
from typing import Any, NamedTuple

import optree
import torch
from torch import Tensor

from .. import tree
from ..errors import InputError, check_like, check_number, check_pair, check_params, describe, is_dense
from ..types import At, Optimizer, Params, State, Step, Transformation


class Moving(NamedTuple):
    """An update (grads, state, params) -> (updates, state) that knows how to be added to the parameters in the same pass.

    move    (params, grads, state) -> (params, state)
    """

    update: Callable[..., tuple[Params, State]]
    move: Callable[[Params, Params, State], tuple[Params, State]]

    def __call__(self, grads: Params, state: State, params: Params | None = None) -> tuple[Params, State]:
        """The update alone."""
        return self.update(grads, state, params)


def sgd(lr: float) -> Transformation:
    """Gradient descent, w <- w - lr g. No state.

    Raises:
        InputError: lr is below 0 or no finite number.
    """
    lr = check_number("lr", lr)

    def init(params: Params) -> State:
        return ()

    def update(grads: Params, state: State = (), params: Params | None = None) -> tuple[Params, State]:
        check_params(grads)
        check_like("grads", grads, grads if params is None else params)
        return tree.map(lambda g: -lr * g, grads), ()

    def move(params: Params, grads: Params, state: State) -> tuple[Params, State]:
        return tree.moved(params, -lr, grads), ()

    return Transformation(init, Moving(update, move))


def momentum(lr: float, beta: float = 0.9) -> Transformation:
    """Heavy ball (Polyak 1964): v <- beta v - lr g; w <- w + v. The state is the velocity v, 0 at the start.

    Differs from torch.optim.SGD(momentum=beta), whose buffer carries no lr: v here is -lr times it while lr is constant.

    Raises:
        InputError: lr is below 0, or beta outside [0, 1).
    """
    lr, beta = check_number("lr", lr), check_number("beta", beta, below=1)

    def update(grads: Params, state: State, params: Params | None = None) -> tuple[Params, State]:
        check_like("grads", grads, state)
        v = tree.map(lambda v, g: beta * v - lr * g, state, grads)
        return v, v

    return Transformation(tree.zeros_like, update)


def rmsprop(lr: float, alpha: float = 0.99, eps: float = 1e-8) -> Transformation:
    """RMSProp (Hinton 2012): s <- alpha s + (1 - alpha) g^2; w <- w - lr g / (sqrt(s) + eps). The state is s.

    The same as torch.optim.RMSprop without momentum, not centred.

    Raises:
        InputError: lr or eps is below 0, or alpha outside [0, 1).
    """
    lr, alpha, eps = check_number("lr", lr), check_number("alpha", alpha, below=1), check_number("eps", eps)

    def update(grads: Params, state: State, params: Params | None = None) -> tuple[Params, State]:
        check_like("grads", grads, state)
        s = tree.map(lambda s, g: alpha * s + (1 - alpha) * g * g, state, grads)
        return tree.map(lambda s, g: -lr * g / (s.sqrt() + _positive(eps, s)), s, grads), s

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
    lr, eps = check_number("lr", lr), check_number("eps", eps)
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise InputError("betas", describe(betas), "a pair of numbers")
    b1, b2 = (check_number(f"betas[{index}]", beta, below=1) for index, beta in enumerate(betas))

    def init(params: Params) -> AdamState:
        # A float64 tensor: 1 - b2^t keeps its digits, and a vmapped or compiled step sees no Python number change.
        return AdamState(tree.zeros_like(params), tree.zeros_like(params), torch.zeros((), dtype=torch.float64))

    def update(grads: Params, state: AdamState, params: Params | None = None) -> tuple[Params, AdamState]:
        check_like("grads", grads, state.m)
        t = state.steps + 1
        m = tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.m, grads)
        v = tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.v, grads)
        c1, c2 = 1 - b1**t, 1 - b2**t

        def step(m: Tensor, v: Tensor) -> Tensor:
            m_hat, v_hat = m / c1.to(m.dtype), v / c2.to(v.dtype)
            return -lr * m_hat / (v_hat.sqrt() + _positive(eps, v))

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

    move = own.update.move if isinstance(own.update, Moving) else update_and_add

    def step(at: At, params: Params, state: State) -> Step:
        value, grads = at(params)
        params, state = move(params, grads, state)
        return Step(params, state, value)

    return Optimizer(own.init, step)


def _positive(eps: float, like: Tensor) -> float:
    """The eps of a quotient, which must not underflow: 0 / (0 + eps) is 0 in every dtype."""
    return max(eps, torch.finfo(like.dtype).tiny)


def _with_copies(foreign: Any) -> Transformation:
    def init(params: Params) -> State:
        return foreign.init(tree.clone(params))

    def update(grads: Params, state: State, params: Params | None = None) -> tuple[Params, State]:
        result: tuple[Params, State] = foreign.update(tree.clone(grads), tree.clone(state), params=tree.clone(params))
        return result

    return Transformation(init, update)


def lift_optimizer(optimizer_fn: Any) -> Optimizer:
    """An Optimizer as it is; a Transformation, ours or foreign, by `descend`. Raises InputError for anything else."""
    return optimizer_fn if isinstance(optimizer_fn, Optimizer) else descend(optimizer_fn)


def check_state(state: State, start: State) -> None:
    """Raises InputError unless a state to go on from is like the one that the optimizer starts with."""
    if state is None:
        return
    (found, spec), (needed, needed_spec) = (optree.tree_flatten(tree_, none_is_leaf=True) for tree_ in (state, start))
    shapes, needed_shapes = ([leaf.shape if is_dense(leaf) else None for leaf in leaves] for leaves in (found, needed))
    if spec != needed_spec or shapes != needed_shapes:
        raise InputError(
            "state", f"{spec} of {shapes}", f"that of this optimizer for these parameters, {needed_spec} of {needed_shapes}"
        )
