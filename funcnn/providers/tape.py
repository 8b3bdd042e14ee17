"""Classic autograd that can be vmapped.

PyTorch records no tape under torch.func.vmap. The classic provider is still to give per-sample gradients like every
other, so the recording and its use are wrapped in one `torch.autograd.Function`, which may say itself what vmap means
for it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class _Tape(torch.autograd.Function):
    """(value, *gradients) by a tape that is recorded and used up inside.

    Under vmap the value alone is vmapped, and a tape of that is recorded. The samples are independent, so the gradient
    of the sum of their values with respect to each one's own copy of the parameters is the gradient of each value.
    """

    @staticmethod
    def forward(value: Callable[..., Tensor], count: int, *tensors: Tensor) -> Any:
        # Whatever mode the caller is in, and even if that is inference mode, whose tensors no tape may save.
        with torch.inference_mode(False), torch.enable_grad():
            usable = [tensor.clone() if tensor.is_inference() else tensor for tensor in tensors]
            leaves = [leaf.detach().requires_grad_() for leaf in usable[:count]]
            values = value(*leaves, *usable[count:])
            if not leaves or not values.requires_grad:
                return values.detach(), *(torch.zeros_like(leaf) for leaf in leaves)
            grads = torch.autograd.grad(values.sum(), leaves, allow_unused=True, materialize_grads=True)
        return values.detach(), *grads

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept: there is no second derivative here, and torch says so where one is asked for."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, value: Callable[..., Tensor], count: int, *tensors: Tensor) -> Any:
        own = [
            leaf.expand(info.batch_size, *leaf.shape) if dim is None else leaf.movedim(dim, 0)
            for leaf, dim in zip(tensors[:count], in_dims[2:], strict=False)
        ]
        mapped = torch.func.vmap(value, in_dims=(*[0] * count, *in_dims[2 + count :]))
        outputs = on_tape(mapped, count, *own, *tensors[count:])
        return outputs, (0,) * len(outputs)


# (value, how many of the tensors are parameters, *tensors) -> (value(*tensors), *its gradients)
on_tape: Callable[..., tuple[Tensor, ...]] = _Tape.apply
