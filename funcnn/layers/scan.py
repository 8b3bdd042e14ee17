"""The scan of a recurrent layer: a cell, applied to one token after the other, and back-propagation through time.

A cell makes the state s_t after a token of the state before it and of the token x_t (N, D); the first part of the state,
h_t (N, H), is the output. With gates in G blocks of H columns

    a_t = x_t W_x + b                   for all tokens in one product, (N, T, G H)
    s_t = cell(a_t, s_{t-1})            token by token from s_0 = 0; the cell adds m_t = h_{t-1} W_h to a_t

Backwards, h_t reaches the loss on two ways, as an output and through the next token:

    ds_t = (dy_t, 0) + what the next token hands back       from the last token to the first
    da_t, dm_t, and what this one hands back to s_{t-1}     from ds_t, by the cell

    dL/dW_x = sum_t x_t^T da_t    dL/db = sum_t 1^T da_t    dL/dW_h = sum_t h_{t-1}^T dm_t    dL/dx_t = da_t W_x^T

the last line again in one product each. Every token on the way multiplies by W_h^T and by slopes of the cell: the influence
of a token on a later one shrinks or grows geometrically with their distance (Bengio, Simard & Frasconi, "Learning long-term
dependencies with gradient descent is difficult", 1994). The rule is Werbos's: "Backpropagation through time: what it does
and how to do it", 1990.

Inside, the axis of tokens is the first, so that the numbers of a token lie together in memory.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Inexact
from torch import Generator, Tensor

from .. import kernels
from ..errors import InputError, check_count, describe
from ..types import Layer, Params, Residuals
from .columns import Forward
from .dense import uniform_within
from .factors import ByParts, Outer, Rows, totals
from .guarded import guarded

Parts: TypeAlias = tuple[Tensor, ...]


class Cell(NamedTuple):
    """What happens at one token.

    states     how many tensors (N, H) a state has, h the first
    sizes      the axes of the parameters by name, G being all columns of the gates
    forward    (params, a, before) -> (after, what else the way back needs)
    backward   (params, before, after, kept, dafter) -> ((da, dm), dbefore), of da alone (da,) where both are the same
    """

    states: int
    sizes: dict[str, str]
    forward: Callable[[Params, Tensor, Parts], tuple[Parts, Parts]]
    backward: Callable[[Params, Parts, Parts, Parts, Parts], tuple[Parts, Parts]]


def scan(name: str, in_features: int, hidden: int, gates: int, cell: Cell) -> Layer:
    """The layer that applies a cell to one token after the other."""
    in_features, hidden = check_count("in_features", in_features), check_count("hidden", hidden)
    sizes, title = {"D": in_features, "H": hidden, "G": gates * hidden}, f"{name}({in_features}, {hidden})"

    def init(generator: Generator, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Params:
        uniform = uniform_within(1 / math.sqrt(hidden), generator, dtype, device)

        def drawn(axes: str) -> Tensor:  # transposed, as dense: the weights of a unit lie side by side in memory
            leaf = uniform(*(sizes[axis] for axis in reversed(axes.split())))
            return leaf.T if leaf.ndim == 2 else leaf

        return {key: drawn(axes) for key, axes in cell.sizes.items()}

    def forward(params: dict[str, Tensor], x: Tensor) -> tuple[Inexact[Tensor, "N T H"], Residuals]:
        x = x.transpose(0, 1).contiguous()
        a = kernels.affine(x, params["wx"], params["b"])
        states, kept = [(torch.zeros_like(a[0, :, :hidden]),) * cell.states], []
        for a_t in a.unbind():
            after, rest = cell.forward(params, a_t, states[-1])
            states.append(after)
            kept.append(rest)
        h, *others = _stacked(states)
        return h[1:].transpose(0, 1), (x, params, (h, *others), _stacked(kept))

    def through_time(residuals: Residuals, dy: Tensor) -> tuple[Tensor, Tensor]:
        """(da, dm) of all tokens, (T, N, G H)."""
        x, params, states, kept = residuals
        state, rest = _of_token(states), _of_token(kept)
        gates, dstate = [], (torch.zeros_like(dy[:, 0]),) * cell.states
        for t in reversed(range(len(x))):
            dafter = (dy[:, t] + dstate[0], *dstate[1:])
            da_dm, dstate = cell.backward(params, state(t), state(t + 1), rest(t), dafter)
            gates.append(da_dm)
        stacked = _stacked(gates[::-1])
        return stacked[0], stacked[-1]

    def factors(x: Tensor, h: Tensor, da: Tensor, dm: Tensor, tokens: int) -> dict[str, Outer | Rows]:
        """The summands; `tokens` is the axis of tokens."""
        own: dict[str, Outer | Rows] = {"wx": Outer(x, da), "wh": Outer(h, dm), "b": Rows(da.sum(tokens))}
        return own | {"bn": Rows(dm[..., -hidden:].sum(tokens))} if "bn" in cell.sizes else own

    def of_x(residuals: Residuals, da: Tensor) -> Float[Tensor, "N T D"]:
        return kernels.matmul(da, residuals[1]["wx"].T).transpose(0, 1)

    def summands(residuals: Residuals, dy: Tensor) -> dict[str, Outer | Rows]:
        x, _, (h, *_), _ = residuals
        x, h, da, dm = (part.transpose(0, 1) for part in (x, h[:-1], *through_time(residuals, dy)))
        return factors(x, h, da, dm, 1)

    def inputs(residuals: Residuals, dy: Tensor) -> Float[Tensor, "N T D"]:
        return of_x(residuals, through_time(residuals, dy)[0])

    def whole(residuals: Residuals, dy: Tensor, dx: bool) -> tuple[Params, Any]:
        x, _, (h, *_), _ = residuals
        da, dm = through_time(residuals, dy)
        # The sum over samples and tokens in the order in which they lie: nothing has to be copied.
        return totals(factors(x, h[:-1], da, dm, 0)), of_x(residuals, da) if dx else ()

    def fits(x: Tensor) -> None:
        if x.ndim != 3 or not x.shape[1]:
            raise InputError(f"inputs of {title}", describe(x), f"shape (N, T, {in_features}) with at least one token")

    layer = Layer(init, Forward(forward, True), ByParts(summands, inputs, whole))
    return guarded(
        layer,
        title,
        params=cell.sizes,
        x="N T D",
        y="N T H",
        like=lambda residuals: residuals[0].transpose(0, 1),
        fits=fits,
        D=in_features,
        H=hidden,
        G=gates * hidden,
    )


def _stacked(tokens: list[Parts]) -> Parts:
    """One tensor (T, N, ...) for each part that the tokens have."""
    return tuple(torch.stack(parts) for parts in zip(*tokens, strict=True))


def _of_token(stacked: Parts) -> Callable[[int], Parts]:
    """The parts of token t."""
    parts = [part.unbind() for part in stacked]
    return lambda t: tuple(part[t] for part in parts)
