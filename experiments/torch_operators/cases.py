"""Torch's own operator database as functions of their differentiable inputs.

A sample of an operator is an input, arguments and keywords. What in it requires a gradient becomes an input of ours, and all
else is bound. What comes out becomes one real tensor: the parts of it that have gradients, complex ones as pairs of real
numbers, one after the other where there are several.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

ENOUGH = 200  # samples that are looked at for one with numbers in it


class Unfit(Exception):
    """A sample that is no function of dense real tensors with numbers in them. The message says why, in a few words."""


class Case(NamedTuple):
    """A sample: f(*inputs) is a real tensor, and `bound` are the tensors of integers that f has in it."""

    operator: str
    sample: int
    f: Callable[..., Tensor]
    inputs: tuple[Tensor, ...]
    bound: tuple[Tensor, ...]
    rebound: Callable[[tuple[Tensor, ...]], Callable[..., Tensor]]  # f with other integers in their places


def name(operator: Any) -> str:
    """The name of an operator, with that of its variant."""
    variant = operator.variant_test_name
    return f"{operator.name}.{variant}" if variant else str(operator.name)


def differentiable(operator: Any) -> bool:
    """Whether torch says that the operator has a derivative in float64 on the CPU."""
    return operator.supports_autograd and torch.float64 in operator.supported_backward_dtypes("cpu")


def samples(operator: Any, seed: int) -> Iterator[Any]:
    """The samples, from the same seed for every operator, so that leaving one out changes no other."""
    torch.manual_seed(seed)
    return islice(operator.sample_inputs("cpu", torch.float64, requires_grad=True), ENOUGH)


def case(operator: Any, number: int, sample: Any) -> Case:
    """The sample as a function. Raises Unfit where it is none."""
    flat, spec = pytree.tree_flatten((sample.input, sample.args, sample.kwargs))
    tensors = [i for i, x in enumerate(flat) if isinstance(x, Tensor)]
    own = [i for i in tensors if flat[i].requires_grad]
    integers = [i for i in tensors if flat[i].dtype in (torch.int32, torch.int64)]
    if not own:
        raise Unfit("no differentiable input")
    if any(flat[i].layout != torch.strided for i in tensors):
        raise Unfit("a sparse tensor")
    if any(flat[i].is_complex() for i in own):
        raise Unfit("a complex input")
    inputs = tuple(flat[i].detach().clone() for i in own)
    if not any(x.numel() for x in inputs):
        raise Unfit("no numbers")
    if not all(x.isfinite().all() for x in inputs):
        raise Unfit("an infinite input")
    parts: list[int] = []

    def bind(bound: tuple[Tensor, ...]) -> Callable[..., Tensor]:
        def f(*xs: Tensor) -> Tensor:
            given = [x.detach().clone() if isinstance(x, Tensor) else x for x in flat]
            for i, x in [*zip(integers, bound, strict=True), *zip(own, xs, strict=True)]:
                given[i] = x
            first, args, kwargs = pytree.tree_unflatten(given, spec)
            outputs = sample.output_process_fn_grad(operator.op(first, *args, **kwargs))
            ys = [y for y in pytree.tree_leaves(outputs) if isinstance(y, Tensor)]
            if not parts:
                parts.extend(i for i, y in enumerate(ys) if y.requires_grad)
            return joined([ys[i] for i in parts])

        return f

    f = bind(tuple(flat[i] for i in integers))
    try:
        y = f(*(x.clone().requires_grad_() for x in inputs))
    except RuntimeError as error:
        raise Unfit("it fails on a copy of its input") from error
    if not y.numel():
        raise Unfit("no numbers")
    return Case(name(operator), number, f, inputs, tuple(flat[i] for i in integers), bind)


def joined(ys: list[Tensor]) -> Tensor:
    """One real tensor of all that an operator returns."""
    if not ys:
        raise Unfit("no differentiable output")
    real = [torch.view_as_real(y.resolve_conj()) if y.is_complex() else y for y in ys]
    return real[0] if len(real) == 1 else torch.cat([y.reshape(-1) for y in real])
