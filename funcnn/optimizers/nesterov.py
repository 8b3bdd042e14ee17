"""Nesterov's method: momentum that looks where it is going."""

from .. import tree
from ..types import At, Optimizer, Params, State, Step
from .hyperparameters import Hyperparameter, number, scheduled


@scheduled
def nesterov(lr: Hyperparameter, beta: Hyperparameter = 0.9) -> Optimizer:
    """Nesterov's accelerated gradient (1983): v <- beta v - lr g(w + beta v); w <- w + v. The state is v.

    The gradient is that at the look-ahead point w + beta v, and so is the reported value. Differs from
    torch.optim.SGD(nesterov=True), whose iterates are these look-ahead points while lr is constant.

    Raises:
        InputError: lr is below 0, or beta outside [0, 1).
    """
    lr, beta = number("lr", lr), number("beta", beta, below=1)

    def step(at: At, params: Params, state: State) -> Step:
        value, grads = at(tree.add_scaled(params, beta, state))
        v = tree.map(lambda v, g: (beta * v - lr * g).to(v.dtype), state, grads)
        return Step(tree.add(params, v), v, value)

    return Optimizer(tree.zeros_like, step)
