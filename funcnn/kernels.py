"""The one place where arithmetic is chosen for speed: matrix products, and sums over lists of tensors.

Products: on AMD processors torch's float32 matmul (MKL) reaches about 105 GFLOP/s a core, where oneDNN, inside the same
torch, reaches 210 to 230 with the same accuracy (relative error below 1e-6 at K = 784). Torch offers oneDNN's product
only as `torch.ops.mkldnn._linear_pointwise`, made for inference: it knows neither autograd nor vmap. Explicit gradients
need neither. So oneDNN serves where nobody is watching, a plain float32 product on the CPU outside every transform, large
enough to repay its overhead of about 10 us, on a machine where one measurement finds it faster.

A compiled step (`fused`) calls the same kernel under a name of our own: Inductor knows oneDNN's only for constant weights.

Lists: one call of torch._foreach_add for all leaves of a tree costs about as much as three additions of small tensors, and
one launch on an accelerator. It has no vmap rule, so under torch.func the leaves are added one by one.
"""

from collections.abc import Callable
from functools import cache
from time import perf_counter

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd import forward_ad

LARGE = 2**21  # multiplications: below, the overhead of oneDNN costs more than its speed saves
NARROW = 8  # a side shorter than this makes the product one of vectors, which only memory limits


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """The product A B of matrices (M, K) and (K, H)."""
    if a.numel() * b.shape[1] < LARGE or not _onednn_serves(a, b):
        return a @ b
    return _linear(a, b.T, None)


def affine(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """The product X W + 1 b of X (N, D), W (D, H) and b (H,)."""
    if x.numel() * w.shape[1] < LARGE or not _onednn_serves(x, w) or _needs_tape(b):
        return torch.addmm(b, x, w)
    return _linear(x, w.T, b)


def _onednn_serves(a: Tensor, b: Tensor) -> bool:
    return (
        min(*a.shape, b.shape[1]) >= NARROW
        and a.dtype == b.dtype == torch.float32
        and a.device.type == b.device.type == "cpu"
        and not _needs_tape(a)
        and not _needs_tape(b)
        and not torch._C._are_functorch_transforms_active()
        and forward_ad._current_level < 0
        and onednn_is_faster()
    )


def _needs_tape(x: Tensor) -> bool:
    return x.requires_grad and torch.is_grad_enabled()


@cache
def onednn_is_faster() -> bool:
    """One measurement for this machine: a product of 256 x 256 matrices, best of 5 each. False where torch lacks oneDNN."""
    if not torch.backends.mkldnn.is_available():
        return False
    with torch.no_grad():
        a = torch.ones(256, 256, dtype=torch.float32, device="cpu")
        best = [min(_seconds(product, a) for _ in range(5)) for product in (_onednn, torch.nn.functional.linear)]
    return best[0] < 0.9 * best[1]


def _seconds(product: Callable[[Tensor, Tensor, None], Tensor], a: Tensor) -> float:
    start = perf_counter()
    product(a, a, None)
    return perf_counter() - start


def _onednn(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, w, b, "none", [], "")
    return y


def _linear(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    """The product X W^T + 1 b of X (N, D), W (H, D) and b (H,)."""
    if not isinstance(x, FakeTensor):
        return _onednn(x, w, b)
    # oneDNN copies a transposed x; said in the graph, Inductor writes x in that order to begin with.
    y: Tensor = torch.ops.funcnn.linear(x.contiguous(), w, b)
    return y


def sigmoid_pullback(s: Tensor, dy: Tensor) -> Tensor:
    """The product dy s (1 - s), in one pass and not in three."""
    dx: Tensor = torch.ops.aten.sigmoid_backward(dy, s)
    return dx


def tanh_pullback(t: Tensor, dy: Tensor) -> Tensor:
    """The product dy (1 - t^2), in one pass and not in three."""
    dx: Tensor = torch.ops.aten.tanh_backward(dy, t)
    return dx


def add_scaled(xs: list[Tensor], factor: float, ys: list[Tensor]) -> list[Tensor]:
    """The sums x + a y, pair by pair."""
    if torch._C._are_functorch_transforms_active() or not xs:
        return [torch.add(x, y, alpha=factor) for x, y in zip(xs, ys, strict=True)]
    return list(torch._foreach_add(xs, ys, alpha=factor))


_library = torch.library.Library("funcnn", "DEF")
_library.define("linear(Tensor x, Tensor w, Tensor? b) -> Tensor")
_library.impl("linear", _onednn, "CPU")
_library.impl("linear", lambda x, w, b: x.new_empty(x.shape[0], w.shape[0]), "Meta")
