"""The right pullback u -> J^T u of a function as it was written, whatever backward rules are attached to it.

A torch.autograd.Function computes its value without a tape, and hangs its own rule on the result. Here every operation of
torch within it is recorded: each tensor that it makes has a *shadow*, the same numbers with the history of the operation
that made them, and whoever reads the tensor reads the shadow. The shadow of y knows the derivative of what was computed.
"""

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ... import tree

MANY, SMALL = 512, 2_000_000  # rows, and numbers in all of them, of a Jacobian that is computed whole


def _of_tensors(function: Callable[[Tensor], Tensor], x: Any) -> Any:
    return tree.map(lambda leaf: function(leaf) if isinstance(leaf, Tensor) else leaf, x)


class _Shadows(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.shadows: dict[int, tuple[Tensor, Tensor]] = {}  # by id, the tensor itself kept alive beside its shadow

    def of(self, tensor: Tensor) -> Tensor:
        return self.shadows.get(id(tensor), (tensor, tensor))[1]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = _of_tensors(self.of, (args, kwargs or {}))
        with torch.enable_grad():
            return _of_tensors(self._keep, func(*args, **kwargs))

    def _keep(self, tensor: Tensor) -> Tensor:
        if tensor.requires_grad and tensor.grad_fn is not None:
            self.shadows[id(tensor)] = tensor, tensor.view_as(tensor)
        return tensor


class Recorded:
    """y = f(x) with its right pullback; y is None where an operation cannot be followed."""

    def __init__(self, f: Callable[..., tuple[Tensor, ...]], leaves: Sequence[Tensor]) -> None:
        """Calls f once."""
        self.leaves: list[Tensor] = []
        self.y: Tensor | None = None
        mode = _Shadows()
        with suppress(Exception), torch.inference_mode(False):  # it is somebody's function, at a point that is not theirs
            with torch.enable_grad():
                self.leaves = [leaf.detach().clone().requires_grad_() for leaf in leaves]
                inputs = [leaf.view_as(leaf) for leaf in self.leaves]
            with torch.no_grad(), mode:
                outputs = f(*inputs)
            if len(outputs) == 1 and not outputs[0].is_complex() and mode.of(outputs[0]).grad_fn is not None:
                self.y = mode.of(outputs[0])

    def pull(self, u: Tensor) -> list[Tensor]:
        """J^T u, one for each leaf."""
        assert self.y is not None
        with torch.inference_mode(False):
            grads = torch.autograd.grad(self.y, self.leaves, u.clone(), retain_graph=True, allow_unused=True)
        return [torch.zeros_like(x) if g is None else g for x, g in zip(self.leaves, grads, strict=True)]

    def jacobian(self, position: int) -> Tensor | None:
        """dy/dx of a leaf, (y.numel(), *x.shape), where it is small and all rows can be had at once."""
        assert self.y is not None
        leaf, m = self.leaves[position], self.y.numel()
        if m * sum(x.numel() for x in self.leaves) > SMALL or m > MANY:
            return None
        one = torch.eye(m, dtype=self.y.dtype, device=self.y.device).reshape(m, *self.y.shape)
        with suppress(RuntimeError), warnings.catch_warnings(), torch.inference_mode(False):
            warnings.simplefilter("ignore")  # torch's own, of operations that it batches by a loop
            (rows,) = torch.autograd.grad(self.y, [leaf], one, retain_graph=True, allow_unused=True, is_grads_batched=True)
            return torch.zeros(m, *leaf.shape, dtype=one.dtype, device=one.device) if rows is None else rows
        return None
