"""Transformations made of others, and those that are made to stand before others."""

from functools import reduce

import torch
from torch import Tensor

from .. import tree
from ..errors import InputError, called, describe
from ..operands import check_like, check_params
from ..types import Optimizer, Params, State, Transformation
from .descent import Moving, as_transformation, moving, updated
from .hyperparameters import Hyperparameter, number, scheduled


def chain(*transformations: object) -> Transformation:
    """Transformations one after the other: u_0 = g, u_i = update_i(u_{i-1}), and w <- w + u_k.

        chain(clip_by_norm(1.0), adamw(1e-3))

    The last one is the optimizer proper, which turns gradients into steps downhill; any may be a foreign pair. The state is
    the tuple of theirs.

    Raises:
        InputError: there are none, or one is no Transformation and no foreign `.init` / `.update` pair.
    """
    if not transformations:
        raise InputError("chain(*transformations)", "none", "at least one transformation")
    each = []
    for index, one in enumerate(transformations):
        place, needs = f"chain(*transformations)[{index}]", "a Transformation, or another object"
        if isinstance(one, Optimizer):
            raise InputError(place, "an Optimizer, which chooses where it evaluates", "a Transformation")
        each.append(as_transformation(one, place, needs))
    *before, last = each

    def init(params: Params) -> State:
        places = (f"chain(*transformations)[{index}].init(params)" for index in range(len(each)))
        return tuple(called(place, one.init, params) for place, one in zip(places, each, strict=True))

    def through(grads: Params, state: State, params: Params | None) -> tuple[Params, list[State]]:
        if not isinstance(state, tuple) or len(state) != len(each):
            raise InputError("state", describe(state), f"a tuple of {len(each)}, one entry per transformation")
        after = []
        for one, own in zip(before, state, strict=False):
            grads, own = updated(one, grads, own, params)
            after.append(own)
        return grads, after

    def update(grads: Params, state: State, params: Params | None = None) -> tuple[Params, State]:
        grads, after = through(grads, state, params)
        updates, own = updated(last, grads, state[-1], params)
        return updates, (*after, own)

    def move(params: Params, grads: Params, state: State) -> tuple[Params, State]:
        grads, after = through(grads, state, params)
        params, own = moving(last)(params, grads, state[-1])
        return params, (*after, own)

    return Transformation(init, Moving(update, move))


@scheduled
def clip_by_norm(max_norm: Hyperparameter) -> Transformation:
    """The gradient with a bounded length, u = g min(1, c / (|g| + 1e-6)), |g| over all parameters together. No state.

    It stands first in a `chain`, and is no optimizer by itself. The same as torch.nn.utils.clip_grad_norm_, but that |g| is
    in float32 at least, and that a gradient whose length is not finite becomes NaN, where torch has some zeros.

    Pascanu, Mikolov & Bengio, "On the difficulty of training recurrent neural networks" (2013), arXiv:1211.5063.

    Raises:
        InputError: max_norm is no positive number.
    """
    max_norm = number("max_norm", max_norm, minimum=torch.finfo(torch.float64).tiny)

    def update(grads: Params, state: State = (), params: Params | None = None) -> tuple[Params, State]:
        check_params(grads)
        check_like("grads", grads, grads if params is None else params)
        if not tree.leaves(grads):
            return grads, ()
        length = _length(grads)
        factor = torch.where(length.isfinite(), (max_norm / (length + 1e-6)).clamp(max=1), torch.nan)
        return tree.map(lambda g: (factor * g).to(g.dtype), grads), ()

    return Transformation(lambda params: (), update)


def _length(grads: Params) -> Tensor:
    """The Euclidean length of all leaves together, shape (), in float32 at least."""
    leaves = tree.leaves(grads)
    dtype = reduce(torch.promote_types, (g.dtype for g in leaves), torch.float32)
    length: Tensor = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g, dtype=dtype) for g in leaves]))
    return length
