"""Arguments that are no plain float64 tensors: trees, lists, None, numbers, flags, empty tensors."""

from typing import Any

import torch
from torch import Tensor

from experiments.kernels.operands import Case, Mistake, made, normal, saving


@torch.library.custom_op("funcnn_kernels::scale", mutates_args=())
def scale(x: Tensor, s: float) -> Tensor:
    """Returns s x^2 / 2."""
    return s * x * x / 2


@torch.library.custom_op("funcnn_kernels::scale_by_last", mutates_args=())
def scale_by_last(x: Tensor, s: float) -> Tensor:
    """The same; its backward takes x from the last call."""
    return s * x * x / 2


def _keep(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0])
    ctx.s = inputs[1]


HELD: dict[str, Tensor] = {}


def _keep_apart(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
    HELD["x"], ctx.s = inputs[0].detach(), inputs[1]


scale.register_autograd(lambda ctx, u: (ctx.s * ctx.saved_tensors[0] * u, None), setup_context=_keep)


scale_by_last.register_autograd(lambda ctx, u: (ctx.s * HELD["x"] * u, None), setup_context=_keep_apart)


def affine(mistake: str = "") -> type[torch.autograd.Function]:
    """The product x w + b, b a tensor or None."""

    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.biased = b is not None
        return x @ w if b is None else x @ w + b

    def backward(ctx: Any, u: Tensor) -> Any:
        x, w = ctx.saved_tensors
        needs = ctx.needs_input_grad
        if mistake == "shared":  # one product for both, whichever is asked for first
            return (u @ w.T, x.T @ u if needs[0] else torch.zeros_like(w), u.sum(0) if ctx.biased else None)
        if mistake == "none":
            return u @ w.T, None, u.sum(0) if ctx.biased else None
        dx, dw = u @ w.T if needs[0] else None, x.T @ u if needs[1] else None
        return dx, dw, u.sum(0) if ctx.biased and needs[2] else None

    return made(forward, backward)


def in_a_dict(mistake: str = "") -> Any:
    """The parameters are a dict."""
    function = affine()
    return lambda params, x: function.apply(x, params["w"], params["b"])


def in_a_tuple(mistake: str = "") -> Any:
    """The state (h, c): y = tanh(h) c x."""

    def backward(h: Tensor, c: Tensor, x: Tensor, u: Tensor) -> Any:
        t = h.tanh()
        dh, dc = u * (1 - t * t) * c * x, u * t * x
        return *((dc, dh) if mistake == "exchanged" else (dh, dc)), u * t * c

    function = saving(lambda h, c, x: h.tanh() * c * x, backward)
    return lambda state, x: function.apply(*state, x)


def in_a_list(mistake: str = "") -> Any:
    """A list of tensors, joined along the last axis and squared."""

    def forward(ctx: Any, *parts: Tensor) -> Tensor:
        ctx.save_for_backward(*parts)
        return torch.cat(parts, -1) ** 2

    def backward(ctx: Any, u: Tensor) -> Any:
        sizes = [part.shape[-1] for part in ctx.saved_tensors]
        return tuple(2 * x * g for x, g in zip(ctx.saved_tensors, u.split(sizes, -1), strict=True))

    function = made(forward, backward)
    return lambda parts: function.apply(*parts)


def power(mistake: str = "") -> Any:
    """Returns x^p for a number p."""

    def forward(ctx: Any, x: Tensor, p: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.p = p
        return x**p

    def backward(ctx: Any, u: Tensor) -> Any:
        return ctx.p * ctx.saved_tensors[0] ** (ctx.p - 1) * u, None

    return made(forward, backward)


def summed(mistake: str = "") -> Any:
    """The cumulative sum, from the start or, by a flag, from the end."""

    def forward(ctx: Any, x: Tensor, reverse: bool) -> Tensor:
        ctx.reverse = reverse
        return x.flip(0).cumsum(0).flip(0) if reverse else x.cumsum(0)

    def backward(ctx: Any, u: Tensor) -> Any:
        if ctx.reverse and mistake != "flag":
            return u.cumsum(0), None
        return u.flip(0).cumsum(0).flip(0), None

    return made(forward, backward)


def temperature(mistake: str = "") -> Any:
    """A learned number t: the tensor t has no axes. y = x e^t."""

    def backward(x: Tensor, t: Tensor, u: Tensor) -> Any:
        return u * t.exp(), (u * x).sum() * t.exp()

    return saving(lambda x, t: x * t.exp(), backward)


def cached(mistake: str = "") -> Any:
    """New keys after a cache of none: y = [cache, x] w."""

    def backward(cache: Tensor, x: Tensor, w: Tensor, u: Tensor) -> Any:
        before, after = u.split([len(cache), len(x)])
        return before @ w.T, after @ w.T, torch.cat([cache, x]).T @ u

    return saving(lambda cache, x, w: torch.cat([cache, x]) @ w, backward)


def squared(mistake: str = "") -> Any:
    """The same tensor twice: x x by a product of two."""
    product = saving(torch.mul, lambda a, b, u: (u * b, u * a))
    return lambda x: product.apply(x, x)


CASES = [
    Case(
        "library_operator",
        lambda mistake="": lambda x: (scale_by_last if mistake else scale)(x, 3.0),
        lambda: (normal(3, 4),),
        lambda x: 1.5 * x * x,
        (Mistake("x is that of the last call", "stale", "last"),),
    ),
    Case("operator_of_a_number", lambda mistake="": scale, lambda: (normal(3, 4), 2.5), lambda x, s: s * x * x / 2),
    Case(
        "no_bias",
        affine,
        lambda: (normal(5, 3), normal(3, 4), None),
        lambda x, w, b: x @ w,
        (Mistake("None for w, which moves y", "none", "none"),),
    ),
    Case(
        "needs_input_grad",
        affine,
        lambda: (normal(5, 3), normal(3, 4), normal(4)),
        lambda x, w, b: x @ w + b,
        (Mistake("dw is 0 where dx is not asked for", "needs none", "shared"),),
    ),
    Case(
        "dict",
        in_a_dict,
        lambda: ({"w": normal(3, 4), "b": normal(4)}, normal(5, 3)),
        lambda params, x: x @ params["w"] + params["b"],
    ),
    Case(
        "tuple",
        in_a_tuple,
        lambda: ((normal(5, 3), normal(5, 3, seed=1)), normal(5, 3, seed=2)),
        lambda state, x: state[0].tanh() * state[1] * x,
        (Mistake("the gradients of h and c exchanged", "exchanged", "exchanged"),),
    ),
    Case("list", in_a_list, lambda: ([normal(3, 2), normal(3, 4)],), lambda parts: torch.cat(parts, -1) ** 2),
    Case("number", power, lambda: (normal(3, 4), 3), lambda x, p: x**p),
    Case(
        "flag",
        summed,
        lambda: (normal(5, 3), True),
        lambda x, reverse: x.flip(0).cumsum(0).flip(0),
        (Mistake("the flag is ignored in backward", "direction", "flag"),),
    ),
    Case("number_as_tensor", temperature, lambda: (normal(5, 3), normal()), lambda x, t: x * t.exp()),
    Case(
        "empty",
        cached,
        lambda: (normal(0, 3), normal(5, 3), normal(3, 4)),
        lambda cache, x, w: torch.cat([cache, x]) @ w,
    ),
    Case("same_tensor_twice", squared, lambda: (normal(3, 4),), torch.square),
]
