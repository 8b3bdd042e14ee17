"""The right pullback u -> J^T u of a function as it was written, whatever backward rules are attached to it.

A torch.autograd.Function computes its value without a tape, and hangs its own rule on the result. So its operations are
recorded, see `tape`, and run again with torch's history of them: that y knows the derivative of what was computed.
"""

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress

import torch
from torch import Tensor

from .sparse import dense
from .tape import record, replay

MANY, SMALL = 512, 2_000_000  # rows, and numbers in all of them, of a Jacobian that is computed whole


class Recorded:
    """y = f(x) with its right pullback; y is None where an operation cannot be followed."""

    def __init__(self, f: Callable[..., tuple[Tensor, ...]], leaves: Sequence[Tensor]) -> None:
        """Calls f once."""
        self.leaves: list[Tensor] = []
        self.y: Tensor | None = None
        with suppress(Exception), torch.inference_mode(False):  # it is somebody's function, at a point that is not theirs
            tape = record(f, leaves)
            with torch.enable_grad():
                self.leaves = [leaf.detach().clone().requires_grad_() for leaf in leaves]
                outputs = replay(tape, self.leaves)
            if len(outputs) == 1 and not outputs[0].is_complex() and outputs[0].requires_grad:
                self.y = outputs[0]

    def pull(self, u: Tensor) -> list[Tensor]:
        """J^T u, one for each leaf."""
        assert self.y is not None
        with torch.inference_mode(False):
            grads = torch.autograd.grad(self.y, self.leaves, u.clone(), retain_graph=True, allow_unused=True)
        return [torch.zeros_like(x) if g is None else dense(g) for x, g in zip(self.leaves, grads, strict=True)]

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
