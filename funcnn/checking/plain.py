"""The operations of a function, one after the other: what autograd makes of these knows nothing of the rule in question.

A kernel that is given to torch with a backward of its own is differentiated by that backward, also where a reference or a
noise floor is wanted. Recorded as the operations that its forward rule consists of, it is differentiated by torch's rules.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from .. import tree
from ..types import Params
from .sparse import dense
from .trials import attempt, copied

LESS = (torch.float32, torch.bfloat16, torch.float16)
OWN = ("aten", "prims", "_operator")


def plain(value: Callable[[Params], Tensor], params: Params, exactly: bool = False) -> Callable[[Params], Tensor] | None:
    """The same function as its record at these parameters, or None where it has operations that are not torch's own.

    With `exactly` it computes in float64 what it casts to less, or is None where it casts nothing.
    """
    leaves, unflatten = tree.flatten(copied(params))
    with warnings.catch_warnings():  # torch's own, of what it uses to get there
        warnings.simplefilter("ignore")
        graph: Any = attempt(make_fx(lambda *leaves: value(unflatten(list(leaves)))), *leaves)
    if graph is None:
        return None
    calls = [node.target for node in graph.graph.nodes if node.op == "call_function"]
    if not all(getattr(call, "namespace", getattr(call, "__module__", "")) in OWN for call in calls):
        return None
    if exactly:
        casts = [node for node in graph.graph.nodes if node.kwargs.get("dtype") in LESS]
        for node in casts:
            node.kwargs = {**node.kwargs, "dtype": torch.float64}
        graph.recompile()
        if not casts:
            return None
    return lambda params: graph(*tree.leaves(params))


def derived(value: Callable[[Params], Tensor] | None, params: Params) -> list[Tensor] | None:
    """The leaves of its gradient, by autograd."""
    if value is None:
        return None
    leaves, unflatten = tree.flatten(params)

    def gradient() -> list[Tensor]:
        with torch.inference_mode(False), torch.enable_grad():
            own = [leaf.detach().clone().requires_grad_() for leaf in leaves]
            y = value(unflatten(own))
            return [dense(grad) for grad in torch.autograd.grad(y, own, materialize_grads=True)]

    found: list[Tensor] | None = attempt(gradient)
    return found
