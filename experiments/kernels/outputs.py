"""Outputs: several, of integers, not used, undefined upstream, saved; and what a Function has beside its two rules."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from experiments.kernels.operands import Case, Mistake, made, normal, saving


def sine_and_cosine(mistake: str = "") -> Any:
    """Both of x."""

    def backward(x: Tensor, us: Tensor, uc: Tensor) -> Tensor:
        return us * x.cos() - (0 if mistake == "second" else uc * x.sin())

    return saving(lambda x: (x.sin(), x.cos()), backward)


def largest(mistake: str = "") -> Any:
    """The largest of each row, and where: integers."""

    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        values, index = x.max(1)
        ctx.mark_non_differentiable(index)
        ctx.save_for_backward(x, index)
        return values, index

    def backward(ctx: Any, u: Tensor, _: Any) -> Tensor:
        x, index = ctx.saved_tensors
        if mistake == "rows":
            return u[:, None] * torch.zeros_like(x).index_fill(1, index, 1.0)
        return torch.zeros_like(x).scatter(1, index[:, None], u[:, None])

    return made(forward, backward)


def unused(mistake: str = "") -> Any:
    """The first of two outputs; u of the other is zeros."""
    function = sine_and_cosine(mistake)
    return lambda x: function.apply(x)[0]


def unmaterialized(mistake: str = "", pick: Any = lambda outputs: outputs) -> Any:
    """The mean and the spread; u of what is not used is None."""

    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x)
        return x.mean(0), x.square().mean(0)

    def backward(ctx: Any, um: Tensor | None, us: Tensor | None) -> Tensor:
        (x,) = ctx.saved_tensors
        dx = torch.zeros_like(x)
        if um is not None:
            dx = dx + um / len(x)
        if us is None and mistake == "ones":
            us = torch.ones_like(x[0])
        if us is not None:
            dx = dx + us * 2 * x / len(x)
        return dx

    function = made(forward, backward)
    return lambda x: pick(function.apply(x))


def once(mistake: str = "") -> Any:
    """A backward that cannot be differentiated."""

    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.sinh()

    return made(forward, once_differentiable(lambda ctx, u: u * ctx.saved_tensors[0].cosh()))


def number(mistake: str = "") -> Any:
    """A single number, y = sum x^2 / 2."""
    return saving(lambda x: x.square().sum() / 2, lambda x, u: u * x)


def saved_output(mistake: str = "") -> Any:
    """The output is what is saved: y = e^x, dx = u y."""

    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    return made(forward, lambda ctx, u: u * ctx.saved_tensors[0])


def separate_setup(mistake: str = "") -> Any:
    """A forward without ctx, its setup apart, and a jvp."""

    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    def jvp(ctx: Any, dx: Tensor) -> Tensor:
        return dx * ctx.saved_tensors[0].cos()

    def backward(ctx: Any, u: Tensor) -> Tensor:
        return u * ctx.saved_tensors[0].cos()

    return made(lambda x: x.sin(), backward, setup_context=setup_context, jvp=jvp)


def recomputed(mistake: str = "") -> Any:
    """A backward that runs the forward again on torch's tape."""

    def formula(x: Tensor) -> Tensor:
        return (x.tanh() @ x.mT.softmax(0)).sigmoid()

    def backward(x: Tensor, u: Tensor) -> Tensor:
        with torch.enable_grad():
            again = x.detach().requires_grad_()
            return torch.autograd.grad(formula(again), again, u)[0]

    return saving(formula, backward)


X = normal(4, 3)
CASES = [
    Case(
        "two_outputs",
        sine_and_cosine,
        lambda: (X.clone(),),
        lambda x: (x.sin(), x.cos()),
        (Mistake("u of the second output is ignored", "output term", "second"),),
    ),
    Case(
        "integer_output",
        largest,
        lambda: (X.clone(),),
        lambda x: (x.amax(1), x.argmax(1)),
        (Mistake("u to every row of the largest columns", "mask axis row", "rows"),),
    ),
    Case("unused_output", unused, lambda: (X.clone(),), torch.sin),
    Case(
        "undefined_upstream",
        lambda mistake="": unmaterialized(mistake, lambda outputs: outputs[0]),
        lambda: (X.clone(),),
        lambda x: x.mean(0),
        (Mistake("u of None is taken for ones", "undefined", "ones"),),
    ),
    Case("not_materialized", unmaterialized, lambda: (X.clone(),), lambda x: (x.mean(0), x.square().mean(0))),
    Case("once_differentiable", once, lambda: (X.clone(),), torch.sinh),
    Case("single_number", number, lambda: (X.clone(),), lambda x: x.square().sum() / 2),
    Case("saved_output", saved_output, lambda: (X.clone(),), torch.exp),
    Case("separate_setup", separate_setup, lambda: (X.clone(),), torch.sin),
    Case("recomputed", recomputed, lambda: (X.clone(),), lambda x: (x.tanh() @ x.mT.softmax(0)).sigmoid()),
]
