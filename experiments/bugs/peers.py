"""The other gradient checkers, as functions of a subject that raise where they find an error.

Each gets its defaults, and the adapter that serves it best. gradcheck, which takes no dict, is given the leaves, or a
Function as it is; JAX gets a custom_vjp around a callback, with float64 enabled, and HIPS autograd a primitive with its
vjp. These two would differentiate twice and forwards by default, which a backward rule alone does not offer, so they are
asked for reverse mode of the first order. A gradient of the wrong shape counts as found by all of them.
"""

import importlib.util
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.bugs.subject import Subject, opened

OPTIONAL = ("jax", "autograd")


def missing() -> list[str]:
    """The packages of the peers that are not installed."""
    return [name for name in OPTIONAL if importlib.util.find_spec(name) is None]


def gradcheck(subject: Subject, *, fast_mode: bool) -> None:
    """torch.autograd.gradcheck."""
    leaves, function = taped(subject)
    with torch.random.fork_rng(devices=[]):
        torch.autograd.gradcheck(function, [leaf.clone().requires_grad_() for leaf in leaves], fast_mode=fast_mode)


def jax_check_grads(subject: Subject) -> None:
    """jax.test_util.check_grads."""
    import jax
    from jax.test_util import check_grads

    leaves, forward, backward = in_numpy(subject)
    backward(np.ones_like(forward(*leaves)), *leaves)  # what it raises would be hidden by the callback
    y = jax.ShapeDtypeStruct(np.shape(forward(*leaves)), np.float64)
    shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]

    @jax.custom_vjp
    def function(*xs: Any) -> Any:
        return jax.pure_callback(forward, y, *xs)

    def pull(xs: Any, dy: Any) -> Any:
        return tuple(jax.pure_callback(backward, shapes, dy, *xs))

    function.defvjp(lambda *xs: (function(*xs), xs), pull)
    with jax.enable_x64(True), np.errstate(invalid="ignore"):
        check_grads(function, leaves, order=1, modes=["rev"])


def hips_check_grads(subject: Subject) -> None:
    """autograd.test_util.check_grads."""
    from autograd.extend import defvjp, primitive
    from autograd.test_util import check_grads

    leaves, forward, backward = in_numpy(subject)
    function = primitive(forward)
    defvjp(function, *(lambda y, *xs, i=i: lambda dy: backward(dy, *xs)[i] for i in range(len(leaves))))
    state = np.random.get_state()
    np.random.seed(0)
    try:
        with np.errstate(invalid="ignore"):
            check_grads(function, argnum=tuple(range(len(leaves))), modes=["rev"], order=1)(*leaves)
    finally:
        np.random.set_state(state)


def taped(subject: Subject) -> tuple[list[Tensor], Callable[..., Tensor]]:
    """The leaves, and the function that torch differentiates by the subject's own rule."""
    leaves, function = opened(subject)
    if isinstance(subject.what, type):
        return leaves, subject.what.apply
    return leaves, partial(Pulled.apply, function)


class Pulled(torch.autograd.Function):
    """An opened subject on torch's tape."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., Any], *leaves: Tensor) -> Tensor:
        """Keeps what pulls back."""
        y, ctx.pull = function(*leaves)
        ctx.shapes = [leaf.shape for leaf in leaves]
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        """The gradients; torch would broadcast those of another shape in silence."""
        grads = ctx.pull(dy)
        assert [g.shape for g in grads] == ctx.shapes, "gradients of the wrong shape"
        return None, *grads


def in_numpy(subject: Subject) -> tuple[list[Any], Callable[..., Any], Callable[..., Any]]:
    """The leaves, forward(*leaves) and backward(dy, *leaves) on NumPy arrays."""
    leaves, function = opened(subject)

    def tensors(arrays: Any) -> list[Tensor]:
        return [torch.tensor(np.asarray(array)) for array in arrays]

    def forward(*arrays: Any) -> Any:
        return function(*tensors(arrays))[0].numpy()

    def backward(dy: Any, *arrays: Any) -> Any:
        grads = function(*tensors(arrays))[1](*tensors([dy]))
        assert [g.shape for g in grads] == [array.shape for array in arrays], "gradients of the wrong shape"
        return [g.numpy() for g in grads]

    return [leaf.numpy().copy() for leaf in leaves], forward, backward
